"""Whether a profile's estimates are those of the machine that was measured, and what is said and written where they are not."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from compressors.latency import operators
from compressors.planning.references import narrowed
from detection.checkpoint import fresh
from detection.compact.architecture import Architecture
from detection.export import export_onnx
from detection.spec import Spec
from flows.grid.nodes import NODES
from flows.measure.estimate_accuracy import (
    Predictions,
    _measures,
    advice,
    design_advice,
    prediction_error,
    predictions,
    rank_correlation,
)
from flows.measure.session import MeasureSession
from flows.records.schema import CellRecord, CellsFile, LatencyFile, LatencyRow
from flows.records.store import Store
from flows.sweep.settings import Measure
from hardware_profiles.estimate.fit.measurements import read_measurements
from hardware_profiles.estimate.model import Operator, estimate
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from tests.conftest import TINY
from tests.flows.latency_factory import three_pictures
from tests.flows.records_factory import MEASURED, cells_file, estimated_row, measured_row, ok_cell

PROFILE = load_profile(MEASURED)
WIDEST = Spec(classes=("disc", "square"), input_size=(64, 96), settings=Architecture())
SHARES = {"none": 1.0, "lightweight": 0.2, "nas": 0.35, "pruning": 0.5, "low_rank": 0.65, "distillation": 0.8}
"""Name of a cell -> how wide its network is, a share of Architecture()'s widths."""


def operators_of(record: CellRecord, profile: HardwareProfile) -> Sequence[Operator]:
    assert profile.id == MEASURED
    return operators(narrowed(WIDEST, SHARES[record.cell]))


def estimate_s(cell: str) -> float:
    return estimate(operators(narrowed(WIDEST, SHARES[cell])), PROFILE).point_s


def sweep(names: Sequence[str] = tuple(SHARES)) -> CellsFile:
    """Cells of different shapes."""
    return cells_file([ok_cell(() if name == "none" else (name,), 0.5, macs=400 * (1 + place)) for place, name in enumerate(names)])


def rows(factor: float, names: Sequence[str] = tuple(SHARES)) -> list[LatencyRow]:
    """Every file takes so many times what is estimated for it."""
    return [measured_row(name, MEASURED, factor * estimate_s(name), factor * estimate_s("none")) for name in names]


def found_in(measured: Sequence[LatencyRow], cells: CellsFile | None = None) -> Predictions:
    here = [row for row in measured if row.profile == MEASURED]
    return predictions(cells or sweep(), here, PROFILE, operators_of)


def store_of(root: Path) -> Store:
    """With an empty file for every cell."""
    for cell in sweep().cells:
        path = root / cell.artifacts["onnxruntime"].url
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Store(root)


@pytest.mark.parametrize(("factor", "share"), [(1.0, 0.0), (2.0, 0.5), (0.8, 0.25)])
def test_the_error_is_a_share_of_the_measured_time(factor: float, share: float) -> None:
    """Twice as slow as estimated is 50 % off, a fifth faster 25 %; the order is kept by any factor."""
    own = found_in(rows(factor))
    assert prediction_error(own.files) == pytest.approx(share)
    assert rank_correlation(own.files) == pytest.approx(1.0)
    assert f"estimate is {share:.0%} off for 6 files in fp32 (their order by Kendall's tau: 1.00)" in own.sentence()


def test_float_and_int8_have_errors_of_their_own(tmp_path: Path) -> None:
    """Float files that are predicted and int8 ones that take twice as long: the error of one is not thinned by the other."""
    floats = sweep().cells
    ints = tuple(
        own.model_copy(update={"cell": f"{own.cell}+", "variant": {"quantization": {"precision": "int8"}}}) for own in floats
    )
    both = sweep().model_copy(update={"cells": (*floats, *ints)})
    slow = [row.model_copy(update={"cell": f"{row.cell}+", "artifact_digest": row.artifact_digest[::-1]}) for row in rows(2.0)]  # type: ignore[index]
    own = predictions(
        both,
        [*rows(1.0), *slow],
        PROFILE,
        lambda record, profile: operators(narrowed(WIDEST, SHARES[record.cell.rstrip("+")])),
    )
    assert "is 0% off for 6 files in fp32" in own.sentence()
    assert "and 50% off for 6 files in int8" in own.sentence()
    assert len(advice(own, store_of(tmp_path), tmp_path)) == 2


def test_an_order_turned_round_is_minus_one() -> None:
    """What is estimated fastest takes longest."""
    turned = [measured_row(name, MEASURED, 1e-6 / estimate_s(name), 1e-6 / estimate_s("none")) for name in SHARES]
    own = found_in(turned)
    assert rank_correlation(own.files) == pytest.approx(-1.0)


def test_only_files_that_were_measured_count_and_each_once() -> None:
    """Estimates of the profile's rows, rows of other profiles, and a cell with the file of another change nothing."""
    twin = sweep().cells[1].model_copy(update={"cell": "low_rank"})
    more = [
        measured_row("none", "x86-openvino-1t", 1.0, 1.0, runtime="openvino 2026"),
        estimated_row("none", MEASURED, 1.0, 1.0),
        rows(2.0)[1].model_copy(update={"cell": "low_rank"}),
    ]
    plain = sweep()
    twinned = plain.model_copy(update={"cells": (*plain.cells[:4], twin, plain.cells[5])})
    five = [row for row in rows(2.0) if row.cell != "low_rank"]
    own = found_in([*five, *more], twinned)
    assert [timed.record.cell for timed in own.files] == ["none", "lightweight", "nas", "pruning", "distillation"]
    assert prediction_error(own.files) == pytest.approx(0.5)


def test_four_files_say_nothing() -> None:
    """As few are no calibration either."""
    assert advice(found_in(rows(2.0, list(SHARES)[:4])), Store(Path()), Path()) == ()


def test_a_profile_that_holds_is_only_told(tmp_path: Path) -> None:
    """Within the error that a calibrated profile may have there is nothing to do, and nothing is written."""
    found = found_in(rows(1.2))
    assert advice(found, Store(tmp_path), tmp_path / "calibration") == (found.sentence(),)
    assert not (tmp_path / "calibration").exists()


def test_a_profile_of_another_machine_comes_with_what_to_fit_it_to(tmp_path: Path) -> None:
    """The command names the table, and the table is one that `calibrate` reads: files, times of six digits, shapes as families."""
    store = store_of(tmp_path / "store")
    for cell in sweep().cells:
        export_onnx(fresh(WIDEST, 0), store.file(cell.artifacts["onnxruntime"].url))
    told, todo = advice(found_in(rows(2.0)), store, tmp_path / "calibration")
    table = tmp_path / "calibration" / f"{MEASURED}.csv"
    assert "50% off" in told
    assert f"`sixfold profiles calibrate {MEASURED} {table}`" in todo
    measured = read_measurements(table, "onnxruntime")
    assert [own.latency_s for own in measured] == pytest.approx([2 * estimate_s(name) for name in SHARES], rel=1e-5)
    assert len({own.family for own in measured}) == len(SHARES)
    with table.open() as stream:
        assert [line["dtype"] for line in csv.DictReader(stream)] == ["fp32"] * len(SHARES)


@pytest.mark.parametrize(("precision", "dtype"), [("int8", "int8"), ("float16", "fp32")])
def test_a_quantized_file_is_listed_by_what_it_computes_in(precision: str, dtype: str, tmp_path: Path) -> None:
    """float16 weights are widened when they are loaded."""
    cells = tuple(own.model_copy(update={"variant": {"quantization": {"precision": precision}}}) for own in sweep().cells)
    found = found_in(rows(2.0), sweep().model_copy(update={"cells": cells}))
    advice(found, store_of(tmp_path), tmp_path)
    with (tmp_path / f"{MEASURED}.csv").open() as stream:
        assert {line["dtype"] for line in csv.DictReader(stream)} == {dtype}


FIVE = tuple(SHARES)[:5]


def measured_session(tmp_path: Path, measured: str) -> tuple[MeasureSession, LatencyFile]:
    """Five cells of one network that took a second each on the measured profile."""
    store, cells = Store(tmp_path / "store"), sweep(FIVE)
    spec = Spec(classes=("a", "b"), input_size=(64, 96), settings=TINY)
    for cell in cells.cells:
        with store.writing(NODES, cell.node) as folder:
            (folder / "spec.json").write_text(spec.model_dump_json(by_alias=True))
    latency = LatencyFile(environment={}, rows=tuple(measured_row(name, measured, 1.0, 1.0) for name in FIVE))
    return MeasureSession(store, cells, three_pictures(), Measure(profiles=(measured,))), latency


@pytest.mark.parametrize("design", ["zen4-onnxruntime-1t", "x86-onnxruntime-1t"])
def test_the_design_profile_is_judged_by_what_its_device_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, design: str
) -> None:
    """Whichever host profile of that runtime and those threads was measured: it is the same machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.measure.estimate_accuracy.advice", lambda found, store, folder: (found,))
    (found,) = design_advice(*measured_session(tmp_path, "x86-onnxruntime-1t"), design)
    assert found.profile.id == design
    assert [own.record.cell for own in found.files] == list(FIVE)


@pytest.mark.parametrize("design", ["zen4-openvino-1t", "x86-onnxruntime-2t", "raspberry-pi-5"])
def test_nothing_is_said_of_a_device_that_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, design: str) -> None:
    """Another runtime, other threads and another machine have times of their own."""
    monkeypatch.chdir(tmp_path)
    assert design_advice(*measured_session(tmp_path, "x86-onnxruntime-1t"), design) == ()


def test_nothing_is_said_where_nothing_is_designed_by_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's file is neither searched nor pruned, so an estimate that is off has chosen nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.measure.estimate_accuracy.advice", lambda found, store, folder: (found,))
    session, latency = measured_session(tmp_path, "x86-onnxruntime-1t")
    assert design_advice(session, latency, MEASURED)
    fixed = session.cells.model_copy(update={"not_applicable": {"nas": "it is a file.", "pruning": "it is a file."}})
    assert design_advice(dataclasses.replace(session, cells=fixed), latency, MEASURED) == ()


def test_another_instruction_set_is_another_machine() -> None:
    """An Arm host's runtime and threads say nothing about an x86 profile."""
    here = load_profile("x86-onnxruntime-1t")
    assert _measures(here, load_profile("zen4-onnxruntime-1t"))
    assert not _measures(here.model_copy(update={"machine": "aarch64"}), load_profile("zen4-onnxruntime-1t"))
