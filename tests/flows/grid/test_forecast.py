"""`sixfold plan` counts without running: cells, nodes, what is stored, and every picture."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.grid.forecast import TimeLeft, forecast, table_rows
from flows.grid.nodes import NODES, read_done
from flows.grid.scoring import SCORES
from flows.grid.tasks import Task, tasks_of
from flows.records.store import MANIFEST, Store
from flows.sweep.context import lay_foundation
from flows.sweep.plan_checks import load_plan
from hardware_profiles.timing.environment import cores_here
from tests.flows.sweep_entries import graph_in, lend
from tests.flows.sweep_factory import Sweep, listing
from tests.places import ROOT


def test_the_default_plan_is_64_cells_2_references_and_107_nodes(sweep_prepared: Path, tmp_path: Path) -> None:
    """1 teacher, 2 searches, 5 architectures, 32 recovered and 32 quantized on each of two runtimes: 104 of cells. References:
    random pruning, recovered; a narrow network like the search's, an architecture and recovered."""
    plan = load_plan(ROOT / "params.yaml")
    found = forecast(plan, lend(sweep_prepared, plan, tmp_path / "data"), Store(tmp_path / "store"), None)
    assert (found.cells, found.references) == (64, 2)
    assert found.nodes == {"teacher": 1, "search": 2, "architecture": 5 + 1, "recovered": 32 + 2, "quantized": 64}
    assert sum(found.nodes.values()) == 104 + 3
    assert found.to_score == (32 + 2) * 2 + 64, "each float file in two runtimes, each int8 file in its own"
    assert found.stored == {}


def test_the_default_plan_s_pictures_by_hand(sweep_prepared: Path, tmp_path: Path) -> None:
    """On 24 training pictures: 5 trainings of E epochs (the teacher, and what two searches chose, taught and not), 32 of R, and one
    and two of references. Light blocks that inherit are fitted to pictures, for themselves and before their search."""
    plan = load_plan(ROOT / "params.yaml")
    epochs, recovery = plan.params.teacher.training.epochs, plan.params.grid.recovery.epochs
    found = forecast(plan, lend(sweep_prepared, plan, tmp_path / "data"), Store(tmp_path / "store"), None)
    assert found.train_images == found.train_images_whole == 24 * ((5 + 1) * epochs + (32 + 2) * recovery)
    assert found.teacher_forwards == 24 * (2 * epochs + 16 * recovery)
    (nas,), (pruning,) = plan.params.grid.methods.nas, plan.params.grid.methods.pruning
    judged = min(nas.recalibration_pictures, 24) + min(nas.val_pictures, 8)
    # The search's own, as many at random, and the largest.
    searches = 2 * (24 * nas.supernet_epochs + (2 * nas.evaluations + 1) * judged)
    (lightweight,) = plan.params.grid.methods.lightweight
    fitted = 2 * min(lightweight.inheritance_pictures, 24)
    assert found.search_images == searches + fitted + 16 * min(pruning.gradient_pictures, 24)


@pytest.mark.parametrize(("pattern", "cells", "nodes"), [("none", 1, 2), ("quantization", 2, 4), ("nas", 2, 5), ("*", 64, 107)])
def test_a_pattern_asks_for_less(pattern: str, cells: int, nodes: int, sweep_prepared: Path, tmp_path: Path) -> None:
    """Teacher and control alone; with int8 of two runtimes; with a search, its architecture and its recovery."""
    plan = load_plan(ROOT / "params.yaml")
    found = forecast(plan, lend(sweep_prepared, plan, tmp_path / "data"), Store(tmp_path / "store"), pattern)
    assert (found.cells, sum(found.nodes.values())) == (cells, nodes)


def test_an_empty_store_needs_everything_and_guesses(swept: Sweep) -> None:
    """Before the tiny sweep: 9 nodes, 8 scores, times from constants, above zero and finite."""
    before = swept.forecast
    assert (before.nodes, before.stored) == ({"teacher": 1, "recovered": 4, "quantized": 4}, {})
    assert (before.to_score, before.measured_on) == (8, 0)
    assert 0 < before.wall_s <= before.cpu_s < math.inf


def test_a_full_store_needs_nothing(swept: Sweep) -> None:
    """After the tiny sweep: all stored, nothing to train, no time; the whole graph is told all the same."""
    after = forecast(swept.plan, swept.prepared, swept.store, None)
    assert after.stored == after.nodes == swept.forecast.nodes
    assert (after.train_images, after.search_images, after.teacher_forwards, after.to_score) == (0, 0, 0, 0)
    assert (after.cpu_s, after.wall_s, after.measured_on) == (0.0, 0.0, 9)
    assert after.train_images_whole == swept.forecast.train_images


def test_what_is_missing_is_forecast_from_what_was_measured(swept_copy: Sweep) -> None:
    """Three of four recoveries are stored: the fourth takes their time per picture, and its int8 file goes on standing."""
    store = swept_copy.store
    (control,) = [cell for cell in swept_copy.cells.cells if cell.cell == "none"]
    shutil.rmtree(store.folder(NODES, control.node))
    found = forecast(swept_copy.plan, swept_copy.prepared, store, None)
    assert (found.stored["recovered"], found.to_score, found.train_images) == (3, 1, 24)
    others = [read_done(store, key) for key in {cell.node for cell in swept_copy.cells.cells} - {control.node}]
    seconds = sum(done.made_s for done in others)
    # A picture that trains, or is searched with, counts 1, a teacher's forward pass a third: 24 each; 8 of pruning twice; 24 twice.
    pictures = 3 * 24 + 2 * 8 + 2 * 24 / 3
    assert found.cpu_s == pytest.approx(24 * seconds / pictures + 3.0), "one picture's time, 24 times, and a score of 3 s"


def test_the_table_is_in_the_order_of_making(swept: Sweep) -> None:
    """Only kinds that the graph has, each with how many are stored."""
    assert table_rows(swept.forecast) == [("teacher", 1, 0), ("recovered", 4, 0), ("quantized", 4, 0)]


def test_planning_writes_nothing(swept_copy: Sweep) -> None:
    """Neither into the workspace nor into the store."""
    before = listing(swept_copy.folder)
    forecast(swept_copy.plan, swept_copy.prepared, swept_copy.store, None)
    assert listing(swept_copy.folder) == before


def test_planning_leaves_a_damaged_entry_where_it_is(swept_copy: Sweep) -> None:
    """To count it as missing is enough; to move it aside is for the grid, which holds the lock."""
    for path in swept_copy.store.root.glob(f"{NODES}/*/*/model.onnx"):
        path.write_bytes(b"")
    before = listing(swept_copy.folder)
    forecast(swept_copy.plan, swept_copy.prepared, swept_copy.store, None)
    assert listing(swept_copy.folder) == before


def test_a_pattern_without_a_cell_is_refused(swept: Sweep) -> None:
    """The message counts the cells and shows one."""
    with pytest.raises(InputError, match="--cells 'zzz': matches none of the 8 cells"):
        forecast(swept.plan, swept.prepared, swept.store, "zzz")


def test_a_lost_score_is_counted(swept_copy: Sweep) -> None:
    """One score less in the store is one to make, and no training."""
    manifest = next(iter((swept_copy.store.root / SCORES).rglob(MANIFEST)))
    shutil.rmtree(manifest.parent)
    found = forecast(swept_copy.plan, swept_copy.prepared, swept_copy.store, None)
    assert (found.to_score, found.train_images, found.cpu_s) == (1, 0, 3.0)


def test_the_teacher_s_threads_do_not_shorten_the_grid(swept: Sweep) -> None:
    """The forecast divides the machine by the threads of a grid's task."""
    assert lay_foundation(swept.plan, swept.prepared).threads == 1
    assert swept.forecast.wall_s == pytest.approx(swept.forecast.cpu_s / cores_here())


def left_of(swept: Sweep) -> tuple[TimeLeft, list[Task], float]:
    """The time left of the tiny sweep from an empty store, its tasks, and their forecast."""
    base, graph = lay_foundation(swept.plan, swept.prepared), graph_in(swept)
    empty = Store(swept.folder / "empty")
    tasks = tasks_of(graph, swept.data, empty)
    return TimeLeft(tasks, graph, empty, base), list(tasks), swept.forecast.cpu_s


def test_the_time_left_starts_as_the_forecast(swept: Sweep) -> None:
    """Nothing done and nothing running: what `sixfold plan` says."""
    left, _, cpu_s = left_of(swept)
    assert left({}) == pytest.approx(cpu_s / cores_here())


def test_the_time_left_follows_what_tasks_took(swept: Sweep) -> None:
    """A task that took twice its forecast makes the others twice as long; one that runs counts by what is left of it."""
    left, tasks, cpu_s = left_of(swept)
    first, second = tasks[:2]
    before = left({}) * cores_here()
    left.finished(first.name, 0.0)  # skipped: tells nothing of how fast the others are
    own_s = before - left({}) * cores_here()
    left, _, _ = left_of(swept)
    left.finished(first.name, 2 * own_s)
    rest = left({}) * cores_here()
    assert rest == pytest.approx(2 * (cpu_s - own_s))
    assert left({second.name: 0.25}) * cores_here() == pytest.approx(rest - 0.25)
    running = {task.name: 1e6 for task in tasks[1:]}
    assert left(running) == 0.0


def test_a_damaged_node_is_forecast_as_one_to_make(swept_copy: Sweep) -> None:
    """Its record, which cannot be read, is not asked how long it took."""
    node = next(iter(graph_in(swept_copy).nodes.values()))
    (swept_copy.store.folder(NODES, node.key) / "done.json").write_bytes(b"\xff")
    found = forecast(swept_copy.plan, swept_copy.prepared, swept_copy.store, None)
    assert found.stored == {"recovered": 4, "quantized": 4}
    assert found.measured_on == 8
