"""A finished run read as test cases for the estimator."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.records.schema import LatencyFile, LatencyRow, Source, write_records
from flows.sweep.workspace import CELLS, LATENCY
from hardware_profiles.estimate.fit.measurements import read_anchors, write_measurements
from studies.profiles.host_cells import measurements_of, read_host_runs
from tests.flows.latency_factory import record, sweep
from tests.hardware_profiles.tiny_model import write_model

PROFILE = "x86-onnxruntime-1t"


def row(cell: str, digest: str, source: Source = "measured", profile: str = PROFILE) -> LatencyRow:
    return LatencyRow(
        cell=cell,
        profile=profile,
        source=source,
        runtime="onnxruntime 1.31.1",
        artifact_digest=digest,
        rounds_s=(0.002, 0.001, 0.003) if source == "measured" else (),
        control_rounds_s=(),
        p50_s=0.002,
        p90_s=None,
        speedup=None,
        speedup_ci95=None,
        interval_s=None,
        end_to_end_p50_s=None,
        peak_rss_bytes=None,
        fits=None,
        why=None,
        environment=None,
    )


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Two cells with the same file and one of its own, all measured on one profile and estimated on another."""
    same, other = write_model(tmp_path / "same.onnx"), write_model(tmp_path / "other.onnx", seed=1)
    records = [
        record(name, {"onnxruntime": path}) for name, path in (("none", same), ("distillation", same), ("nas+pruning", other))
    ]
    write_records(tmp_path / CELLS, sweep(*records))
    digests = [own.artifacts["onnxruntime"].digest for own in records]
    rows = [row(own.cell, digest) for own, digest in zip(records, digests, strict=True)]
    rows += [row("none", digests[0], "estimated", "raspberry-pi-5")]
    write_records(tmp_path / LATENCY, LatencyFile(environment={"cpu": "a CPU"}, rows=tuple(rows)))
    return tmp_path


def test_measured_files_are_read_once(finished: Path) -> None:
    """Estimated rows are no measurement, and a file that two cells share counts once."""
    (run,) = read_host_runs(finished, finished)
    assert (run.profile, run.runtime, run.machine, run.rounds) == (PROFILE, "onnxruntime 1.31.1", "a CPU", 3)
    assert [cell.cell for cell in run.cells] == ["none", "nas+pruning"]
    assert [cell.family for cell in run.cells] == ["plain", "nas"]
    assert run.cells[0].interval_s == (0.001, 0.003)
    assert run.cells[0].operators[0].macs > 0


def test_the_written_table_calibrates(finished: Path, tmp_path: Path) -> None:
    """What is written is what `sixfold profiles calibrate` reads back, families and milliseconds included."""
    (run,) = read_host_runs(finished, finished)
    write_measurements(measurements_of(run), tmp_path / "table.csv")
    anchors = read_anchors(tmp_path / "table.csv", "onnxruntime")
    assert [(anchor.dtype, anchor.latency_s, anchor.family) for anchor in anchors] == [
        ("fp32", 0.002, "plain"),
        ("fp32", 0.002, "nas"),
    ]
    assert anchors[0].operators == run.cells[0].operators


def test_a_run_without_measurements_is_refused(finished: Path) -> None:
    """Nothing measured here: the message names the file and the command that measures."""
    write_records(finished / LATENCY, LatencyFile(environment={}, rows=(row("none", "0" * 64, "estimated"),)))
    with pytest.raises(InputError, match="sixfold measure"):
        read_host_runs(finished, finished)
