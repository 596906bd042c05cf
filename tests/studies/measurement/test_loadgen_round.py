"""LoadGen's report is read right, and LoadGen runs a file of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.sweep.settings import Measure
from hardware_profiles.timing.round import File, Job, Protocol, choose_cores, in_fresh_process
from studies.measurement.loadgen_round import read_summary
from tests.hardware_profiles.tiny_model import write_model

SUMMARY = """
90.0th percentile latency (ns) : 1008398
Result is : VALID
Early Stopping Result:
 * Processed at least 64 queries (256).
 * Would discard 13 highest latency queries.
 * Early stopping 90.0th percentile estimate: 1011145
Additional Stats
50.00 percentile latency (ns)   : 1006492
90.00 percentile latency (ns)   : 1008398

No errors encountered during test.
"""


def test_median_and_early_stopping_percentile_are_read() -> None:
    """The 90th percentile is the estimate that MLPerf publishes, not that of the sample."""
    found = read_summary(SUMMARY)
    assert found.p50_s == pytest.approx(1006492e-9)
    assert found.p90_s == pytest.approx(1011145e-9)


def test_too_few_queries_have_no_percentile() -> None:
    """Below 64 queries LoadGen gives no estimate, and neither do we."""
    assert read_summary(SUMMARY.replace("Early stopping 90.0th", "Not enough for a 90.0th")).p90_s is None


@pytest.mark.parametrize("text", ["", SUMMARY.replace("No errors", "2 errors")])
def test_a_failed_run_is_no_number(text: str) -> None:
    """A report without a median, or with errors, is refused."""
    with pytest.raises(ValueError, match="LoadGen reports no median, or errors"):
        read_summary(text)


def test_loadgen_runs_a_file(tmp_path: Path) -> None:
    """A fresh process under LoadGen hands back one block with both percentiles."""
    pytest.importorskip("mlperf_loadgen", reason="LoadGen has no wheel for this machine")
    model = write_model(tmp_path / "tiny.onnx")
    np.savez(tmp_path / "pictures.npz", np.zeros((24, 20, 3), np.uint8), np.full((24, 20, 3), 200, np.uint8))
    job = Job(
        runtime="onnxruntime", threads=1, cores=choose_cores(1), files=(File(digest="tiny", path=str(model)),), order_seed=0,
        protocol=Protocol(timed_calls=64), pictures=str(tmp_path / "pictures.npz"), settings=Measure().settings(),
        result=str(tmp_path / "result.json"),
    )  # fmt: skip
    (block,) = in_fresh_process(job, "studies.measurement.loadgen_round", tmp_path, 120.0).blocks
    assert block.digest == "tiny"
    assert block.p50_s is not None
    assert block.p90_s is not None
    assert 0 < block.p50_s <= block.p90_s < 1
