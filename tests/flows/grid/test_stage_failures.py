"""A grid in which something breaks: which cells are marked, what is tried again, and when the run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import flows.grid.nodes
from flows.grid.nodes import NODES
from flows.grid.scoring import SCORES, score_key
from flows.grid.stage import INCOMPLETE
from flows.records.store import StoreError
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_entries import CELLS, forget, graph_in, named, times_in
from tests.flows.sweep_factory import Listener, Sweep, run_grid, write_params


def broken(*_args: Any, **_settings: Any) -> None:
    """A method that raises."""
    raise RuntimeError("a rank of 0")


@pytest.mark.parametrize(("on_failure", "code"), [("stop", INCOMPLETE), ("continue", 0)])
def test_a_method_that_raises_marks_exactly_its_cells(
    on_failure: str, code: int, swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the four cells with pruning, those that need no other for it failed, with its error and log; their quantized siblings
    were not tried. The four others are ok. Exit 3, or 0 with `continue`."""
    for node in graph_in(swept_copy).nodes.values():
        if "pruning" in node.name:
            forget(swept_copy, NODES, node.key)
    monkeypatch.setitem(flows.grid.nodes.TRANSFORMS, "pruning", broken)
    plan = load_plan(write_params(swept_copy.folder / "other", grid__on_failure=on_failure))
    listener = Listener()
    ended, said = run_grid(swept_copy, plan, tracking=listener)
    assert ended == code
    assert any(line.startswith("4 of 8 cells ok (2 failed, 2 skipped: they share work with a failed one): ") for line in said)
    assert [line.split(":")[0].strip() for line in said if "a rank of 0" in line] == ["pruning", "pruning+distillation"]
    for cell in swept_copy.cells.cells:
        if "pruning" not in cell.methods:
            assert (cell.status, cell.error) == ("ok", None)
            continue
        status = "skipped" if "quantization" in cell.methods else "failed"
        assert (cell.status, cell.params, cell.macs, cell.artifacts, cell.budget) == (status, None, None, {}, None)
        error, _, log = str(cell.error).partition(" (log: ")
        work = f"recovered {cell.cell.removesuffix('+quantization')} {cell.node[:8]}"
        needs = f"needs {work}, which failed: " if status == "skipped" else ""
        assert error == f"{needs}RuntimeError: a rank of 0"
        assert "a rank of 0" in Path(log.removesuffix(")")).read_text()
    marks = {name: ("skipped" if "quantization" in name else "failed") if "pruning" in name else "ok" for name in CELLS}
    assert sorted(listener.cells) == sorted(marks.items())


def test_of_the_cells_that_share_a_failure_the_simplest_failed(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """All need the teacher: the control, which needs nothing else, failed with its error, and the seven others are skipped."""
    monkeypatch.setattr(flows.grid.nodes, "fit", broken)
    plan = load_plan(write_params(swept_copy.folder / "other", teacher__training__epochs=3))
    assert run_grid(swept_copy, plan)[0] == INCOMPLETE
    cells = swept_copy.cells.cells
    assert [cell.status for cell in cells] == ["failed"] + ["skipped"] * 7
    assert str(cells[0].error).startswith("RuntimeError: a rank of 0 (log: ")
    assert all(str(cell.error).startswith("needs teacher ") for cell in cells[1:])


def test_without_the_simplest_cell_the_next_one_failed(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--cells pruning+quantization` nobody else needs the pruned detector, so that cell failed and none is skipped."""
    forget(swept_copy, NODES, named(graph_in(swept_copy), "recovered pruning").key)
    forget(swept_copy, NODES, named(graph_in(swept_copy), "quantized onnxruntime pruning+quantization").key)
    monkeypatch.setitem(flows.grid.nodes.TRANSFORMS, "pruning", broken)
    assert run_grid(swept_copy, pattern="pruning+quantization")[0] == INCOMPLETE
    assert [(cell.cell, cell.status) for cell in swept_copy.cells.cells] == [("none", "ok"), ("pruning+quantization", "failed")]


def test_a_failure_is_tried_again_and_only_it(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the cause is gone the same command makes the failed cells; what was ok is not made again."""
    graph = graph_in(swept_copy)
    for name in ("recovered pruning", "quantized onnxruntime pruning+quantization"):
        key = named(graph, name).key
        forget(swept_copy, NODES, key)
        forget(swept_copy, SCORES, score_key(key, "onnxruntime", swept_copy.data))
    with monkeypatch.context() as patch:
        patch.setitem(flows.grid.nodes.TRANSFORMS, "pruning", broken)
        assert run_grid(swept_copy)[0] == INCOMPLETE
    statuses = {cell.cell: cell.status for cell in swept_copy.cells.cells}
    assert {name for name, status in statuses.items() if status != "ok"} == {"pruning", "pruning+quantization"}
    before = times_in(swept_copy)
    assert run_grid(swept_copy)[0] == 0
    assert {cell.status for cell in swept_copy.cells.cells} == {"ok"}
    after = times_in(swept_copy)
    assert len(after) == len(before) + 4, "two nodes and their scores"
    assert {entry: after[entry] for entry in before} == before


def test_another_grid_of_the_same_sweep_is_refused(swept_copy: Sweep) -> None:
    """The lock is per store and sweep: the message names both and what to do; the records stay as they were."""
    records = swept_copy.cells_path.read_text()
    with FileLock(swept_copy.store.root / "locks" / "tiny.lock"), pytest.raises(StoreError) as caught:
        run_grid(swept_copy)
    assert "another grid of sweep 'tiny' is running on this store" in str(caught.value)
    assert "Wait for it or end it." in str(caught.value)
    assert swept_copy.cells_path.read_text() == records
    with FileLock(swept_copy.store.root / "locks" / "another.lock"):
        assert run_grid(swept_copy)[0] == 0


def test_a_store_that_breaks_ends_the_run_with_its_own_message(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are still recorded, but the exit is the store's: whatever on_failure says, trying the next cell will not help."""
    node = named(graph_in(swept_copy), "quantized onnxruntime quantization")
    forget(swept_copy, NODES, node.key)

    def full(*_args: Any) -> None:
        raise StoreError("the store is full")

    monkeypatch.setattr("flows.grid.ray_executor.make_node", full)
    plan = load_plan(write_params(swept_copy.folder / "other", grid__on_failure="continue"))
    with pytest.raises(StoreError, match="the store is full"):
        run_grid(swept_copy, plan)
    assert [cell.status for cell in swept_copy.cells.cells if cell.cell == "quantization"] == ["failed"]
