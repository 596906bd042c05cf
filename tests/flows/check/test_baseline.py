"""Baselines are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.check.baseline import accept, read_baseline
from flows.check.stage import check
from flows.records.store import StoreError
from flows.sweep.settings import Check
from tests.flows.gate_factory import ALL, TRUTH, Store, cells_of, failed, latency_of, row_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


def test_a_baseline_reads_back_whole(store: Store, tmp_path: Path) -> None:
    """Records are as accepted, and detections survive the store."""
    cells, latency = cells_of(store.cell("none"), failed("nas")), latency_of(row_of("none"))
    folder = accept("main", cells, latency, store, tmp_path / "baselines")
    url = cells.cells[0].artifacts["onnxruntime"].test.detections
    text = store.file(url).read_bytes()
    for path in store.root.iterdir():
        path.unlink()
    baseline = read_baseline(folder)
    assert (baseline.cells, baseline.latency, baseline.detections(url)) == (cells, latency, text)


def test_accepting_again_replaces(store: Store, tmp_path: Path) -> None:
    """The new results stand under the name, and nothing else is left in the folder."""
    for size_bytes in (1000, 900):
        folder = accept("main", cells_of(store.cell("none", size_bytes=size_bytes)), latency_of(), store, tmp_path / "baselines")
    assert read_baseline(folder).cells.cells[0].artifacts["onnxruntime"].size_bytes == 900
    assert [path.name for path in (tmp_path / "baselines").iterdir()] == ["main"]


def test_a_baseline_appears_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    """Detections missing in the store: an error that names the command, the accepted baseline untouched, nothing half-made."""
    accept("main", cells_of(store.cell("none")), latency_of(), store, tmp_path / "baselines")
    cells = cells_of(store.cell("none", ALL, size_bytes=1))
    store.file(cells.cells[0].artifacts["onnxruntime"].test.detections).unlink()
    with pytest.raises(StoreError, match="sixfold grid"):
        accept("main", cells, latency_of(), store, tmp_path / "baselines")
    assert read_baseline(tmp_path / "baselines" / "main").cells.cells[0].artifacts["onnxruntime"].size_bytes == 1000
    assert [path.name for path in (tmp_path / "baselines").iterdir()] == ["main"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", ".hidden"])
def test_a_baseline_name_stays_in_its_folder(store: Store, tmp_path: Path, name: str) -> None:
    """Names that are paths, options or hidden are refused before anything is made."""
    with pytest.raises(InputError, match="letters, digits"):
        accept(name, cells_of(store.cell("none")), latency_of(), store, tmp_path / "baselines")
    assert not (tmp_path / "baselines").exists()


def test_a_sweep_without_a_finished_cell_is_not_accepted(store: Store, tmp_path: Path) -> None:
    """A baseline of failures would call everything ok."""
    with pytest.raises(InputError, match="no finished cell"):
        accept("main", cells_of(failed("none")), latency_of(), store, tmp_path / "baselines")


@pytest.mark.parametrize("damage", ["detections", "cells.json", "baseline.json"])
def test_a_damaged_baseline_makes_an_incomplete_check(store: Store, tmp_path: Path, damage: str) -> None:
    """A truncated file of the baseline: exit 3, and the answer says to accept again."""
    cells = cells_of(store.cell("none"), store.cell("pruning"))
    main = accept("main", cells, latency_of(), store, tmp_path / "baselines")
    paths = list((main / "detections").iterdir()) if damage == "detections" else [main / damage]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-20])
    verdict = check(main, cells, latency_of(), TRUTH, store, Check())
    assert (verdict.overall, verdict.exit_code) == ("incomplete", 3)
    assert "sixfold check --accept main" in verdict.answer
