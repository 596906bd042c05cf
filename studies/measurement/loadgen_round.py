"""One file under MLPerf LoadGen, in a fresh process: `python -m studies.measurement.loadgen_round JOB.json`."""

from __future__ import annotations

import gc
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flows.measure_round import detection_hooks
from hardware_profiles.measure import Block, Job, RoundResult, pin
from hardware_profiles.runtimes import Array, Session, open_session
from hardware_profiles.timing import warm_up

SUMMARY = "mlperf_log_summary.txt"
EXPECTED_LATENCY_NS = 1_000_000
"""Only a first guess of LoadGen's for how many queries to prepare; the counts below decide."""


class Summary(NamedTuple):
    """What LoadGen reports of a single-stream run."""

    p50_s: float
    p90_s: float | None
    """Its early-stopping estimate, which is what MLPerf publishes; None below 64 queries."""


def read_summary(text: str) -> Summary:
    """Median and early-stopping 90th percentile of LoadGen's summary file; ValueError where it says the run failed."""
    median = re.search(r"^50\.00 percentile latency \(ns\)\s*: (\d+)", text, re.MULTILINE)
    if median is None or "No errors encountered" not in text:
        raise ValueError(f"LoadGen reports no median, or errors: {' '.join(text.split())[:300]}")
    tail = re.search(r"Early stopping 90\.0th percentile estimate: (\d+)", text)
    return Summary(int(median.group(1)) * 1e-9, int(tail.group(1)) * 1e-9 if tail else None)


def main(job_file: Path) -> None:
    """Run the job's only file under LoadGen and write a round's result where the job says."""
    job = Job.model_validate_json(job_file.read_text())
    pin(job.cores, job.threads)
    (file,) = job.files
    hooks = detection_hooks(job)
    session = open_session(job.runtime, Path(file.path), job.threads)
    with np.load(job.pictures, allow_pickle=False) as packed:
        inputs = [hooks.before(packed[name], session.input_size) for name in packed.files]
    warm_up(session, inputs, job.protocol.warmup_calls, job.protocol.warmup_s)  # as in our own rounds
    gc.collect()
    gc.freeze()
    gc.disable()  # the same
    found = _single_stream(session, inputs, job.protocol.timed_calls)
    block = Block(digest=file.digest, position=0, p50_s=found.p50_s, p90_s=found.p90_s)
    Path(job.result).write_text(RoundResult(blocks=(block,), runtime_rss_bytes=None).model_dump_json())


def _single_stream(session: Session, inputs: list[Array], queries: int) -> Summary:
    """So many queries, each issued when the one before is complete."""
    import mlperf_loadgen as loadgen

    def issue(samples: Any) -> None:
        for sample in samples:
            session(inputs[sample.index])
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

    def ignore(*_: Any) -> None:
        """Nothing to flush, load or unload."""

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.single_stream_expected_latency_ns = EXPECTED_LATENCY_NS
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = queries
    with tempfile.TemporaryDirectory() as folder:
        output = loadgen.LogOutputSettings()
        output.outdir = folder
        output.copy_summary_to_stdout = False
        log = loadgen.LogSettings()
        log.log_output = output
        log.enable_trace = False
        system = loadgen.ConstructSUT(issue, ignore)
        library = loadgen.ConstructQSL(len(inputs), len(inputs), ignore, ignore)
        loadgen.StartTestWithLogSettings(system, library, settings, log)
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        return read_summary((Path(folder) / SUMMARY).read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
