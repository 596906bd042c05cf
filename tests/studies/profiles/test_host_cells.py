"""A finished run read as test cases for the estimator."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.records.schema import LatencyFile, LatencyRow, Source, write_records
from flows.sweep.workspace import CELLS, LATENCY
from studies.profiles.host_cells import read_host_runs
from tests.flows.latency_factory import record, sweep
from tests.flows.sweep_factory import write_params
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
        p50_s=0.002,
    )


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Two cells with the same file and one of its own, all measured on one profile and estimated on another."""
    write_params(tmp_path)
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
    ((run, cells),) = read_host_runs(finished)
    assert (run.profile, run.runtime, run.machine, run.rounds) == (PROFILE, "onnxruntime 1.31.1", "a CPU", 3)
    assert [cell.name for cell in cells] == ["none", "nas+pruning"]
    assert [cell.family for cell in cells] == ["plain", "nas"]
    assert cells[0].interval_s == (0.001, 0.003)
    assert cells[0].operators[0].macs > 0


@pytest.mark.parametrize(("precision", "dtype"), [("int8", "int8"), ("float16", "fp32")])
def test_a_float16_file_is_not_fitted_as_int8(precision: str, dtype: str, tmp_path: Path) -> None:
    """Its weights are widened when it is loaded: the runtime computes in float."""
    write_params(tmp_path)
    path = write_model(tmp_path / "model.onnx")
    cell = record("quantization", {"onnxruntime": path})
    cell = cell.model_copy(update={"variant": {"quantization": {"method": "quantization", "precision": precision}}})
    write_records(tmp_path / CELLS, sweep(cell))
    rows = (row("quantization", cell.artifacts["onnxruntime"].digest),)
    write_records(tmp_path / LATENCY, LatencyFile(environment={}, rows=rows))
    ((_, cells),) = read_host_runs(tmp_path)
    assert [own.dtype for own in cells] == [dtype]


def test_a_run_without_measurements_is_refused(finished: Path) -> None:
    """Nothing measured here: the message names the file and the command that measures."""
    write_records(finished / LATENCY, LatencyFile(environment={}, rows=(row("none", "0" * 64, "estimated"),)))
    with pytest.raises(InputError, match="sixfold measure"):
        read_host_runs(finished)
