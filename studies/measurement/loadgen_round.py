"""One file under MLPerf LoadGen, in a fresh process: `python -m studies.measurement.loadgen_round JOB.json`."""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flows.measure.worker import detection_hooks
from hardware_profiles.runtimes.table import Pixels, Session, open_session
from hardware_profiles.timing.calls import calls_one_by_one_ns, difference, times_of, warm_up
from hardware_profiles.timing.environment import steal_s
from hardware_profiles.timing.round import Block, Job, RoundResult, pin

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
    everywhere = os.sched_getaffinity(0)
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
    repeats = 0
    found, disturbed = _single_stream(session, inputs, job, everywhere)
    while disturbed and repeats < job.protocol.most_repeats:  # as our own blocks are
        found, disturbed = _single_stream(session, inputs, job, everywhere)
        repeats += 1
    block = Block(digest=file.digest, position=0, p50_s=found.p50_s, p90_s=found.p90_s, repeats=repeats, disturbed=disturbed)
    Path(job.result).write_text(RoundResult(blocks=(block,), runtime_rss_bytes=None).model_dump_json())


def _single_stream(session: Session, inputs: list[Pixels], job: Job, everywhere: set[int]) -> tuple[Summary, bool]:
    """The job's queries, each issued when the one before is complete, and whether our rule calls the run contended.

    The rule looks at the calls as the system under test sees them, as it does in our own blocks. LoadGen starts a thread that
    writes its log; it may run on every core, for on the pinned one it would be timed along (1 to 2 % of these networks' calls).
    """
    import mlperf_loadgen as loadgen

    queries = job.protocol.timed_calls
    calls_ns: list[int] = []

    def issue(samples: Any) -> None:
        if not calls_ns and job.cores is not None:
            os.sched_setaffinity(0, job.cores)  # of this thread, which the network runs in
        for sample in samples:
            calls_ns.extend(calls_one_by_one_ns(session, [inputs[sample.index]], 1))
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
        stolen_before_s, used_before_ns, started_ns = steal_s(job.cores), time.process_time_ns(), time.perf_counter_ns()
        os.sched_setaffinity(0, everywhere)
        loadgen.StartTestWithLogSettings(system, library, settings, log)
        used_ns, timed_s = time.process_time_ns() - used_before_ns, (time.perf_counter_ns() - started_ns) * 1e-9
        stolen_s = difference(steal_s(job.cores), stolen_before_s)
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        return read_summary((Path(folder) / SUMMARY).read_text()), times_of(calls_ns, used_ns, stolen_s, timed_s).disturbed


if __name__ == "__main__":
    main(Path(sys.argv[1]))
