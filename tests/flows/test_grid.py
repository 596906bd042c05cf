"""One small sweep, whole: its records keep the contract, its work is done once, and what breaks is told and made again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import flows.nodes
from compressors.cells import Graph, Node
from detection.dataset import load_prepared
from flows.foundation import chosen_cells, lay_foundation, make_graph
from flows.grid import INCOMPLETE, tasks_of
from flows.nodes import SECTION as NODES
from flows.nodes import read_done
from flows.params import load_plan
from flows.scoring import SECTION as SCORES
from flows.scoring import artifact_digest, score_key
from flows.store import JOURNAL, MANIFEST, StoreError
from tests.flows.sweep_factory import Listener, Sweep, run_grid, write_params

CELLS = (
    "none",
    "pruning",
    "distillation",
    "quantization",
    "pruning+distillation",
    "pruning+quantization",
    "distillation+quantization",
    "pruning+distillation+quantization",
)
"""Fewest methods first, then in the order in which methods are named."""
TRAIN, VAL = 24, 8
"""Pictures of the tiny data."""
TEACHER_EPOCHS, RECOVERY_EPOCHS = 2, 1


def graph_in(sweep: Sweep) -> Graph:
    """The whole graph of a sweep."""
    base = lay_foundation(sweep.plan, sweep.prepared)
    return make_graph(sweep.plan, base, chosen_cells(sweep.plan, None))


def times_in(sweep: Sweep) -> dict[str, int]:
    """Entry -> when its manifest was written."""
    return {str(path.parent.relative_to(sweep.store.root)): path.stat().st_mtime_ns for path in sweep.store.root.rglob(MANIFEST)}


def forget(sweep: Sweep, section: str, key: str) -> None:
    """Take an entry out of the store and its journal, as if it had never been made."""
    shutil.rmtree(sweep.store.folder(section, key))
    journal = sweep.store.root / JOURNAL
    journal.write_text("".join(line for line in journal.read_text().splitlines(keepends=True) if key not in line))


def spoil(path: Path) -> None:
    """Cut a stored file in half, in this copy of the store only."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def named(graph: Graph, name: str) -> Node:
    """The one node of a name."""
    (node,) = [node for node in graph.nodes.values() if node.name == name]
    return node


def test_all_cells_are_made(swept: Sweep) -> None:
    """Three methods make eight cells, all ok, told at the end with where they lie."""
    assert swept.code == 0
    assert [(cell.cell, cell.status, cell.error) for cell in swept.cells.cells] == [(name, "ok", None) for name in CELLS]
    assert swept.said[0] == "8 cells, 9 nodes: 0 stored, 9 to make, 8 to score"
    assert swept.said[-2] == f"8 of 8 cells ok: {swept.cells_path}"


def test_the_file_has_the_agreed_keys(swept: Sweep) -> None:
    """Others read cells.json by these names, at each level; written out here from the contract, not from the classes."""
    tree = json.loads(swept.cells_path.read_text())
    assert set(tree) == {"schema", "sweep", "dataset", "runtimes", "cells", "references"}
    assert (tree["schema"], tree["sweep"], tree["runtimes"], tree["references"]) == (1, "tiny", ["onnxruntime"], [])
    for cell in tree["cells"]:
        assert set(cell) == {"cell", "methods", "variant", "seed", "status", "error", "node", "params", "macs", "no_effect",
                             "artifacts", "budget"}  # fmt: skip
        assert set(cell["budget"]) == {
            "train_epochs",
            "train_images",
            "search_images",
            "teacher_forwards",
            "qat_updates",
            "train_s",
        }
        artifact = cell["artifacts"]["onnxruntime"]
        assert set(artifact) == {"url", "digest", "size_bytes", "val", "test"}
        for split in ("val", "test"):
            assert set(artifact[split]) == {"map_50_95", "map_50", "map_75", "per_class", "detections"}
            assert 0.0 <= artifact[split]["map_50_95"] <= artifact[split]["map_50"] <= 1.0
        assert cell["cell"] == ("+".join(cell["methods"]) or "none")
        assert list(cell["variant"]) == cell["methods"]


def test_the_data_is_the_prepared_one(swept: Sweep) -> None:
    """Name, digest, classes, (height, width) and counts of the prepared folder."""
    prepared, dataset = load_prepared(swept.prepared), swept.cells.dataset
    assert (dataset.name, dataset.digest, dataset.classes) == ("tiny", prepared.digest, prepared.classes)
    assert (dataset.input_size, dataset.pictures) == ((64, 96), {"train": TRAIN, "val": VAL, "test": 8})


def test_urls_lead_to_files_of_the_named_size_and_digest(swept: Sweep) -> None:
    """Each artifact and each list of detections lies in the store under its URL."""
    for cell in swept.cells.cells:
        for artifact in cell.artifacts.values():
            path = swept.store.root / artifact.url
            assert artifact_digest(path.parent) == (artifact.digest, artifact.size_bytes)
            assert path.stat().st_size == artifact.size_bytes
            for metrics in (artifact.val, artifact.test):
                found = json.loads((swept.store.root / metrics.detections).read_text())
                assert all({"image_id", "category_id", "bbox", "score"} == set(one) for one in found)


def test_every_cell_has_had_the_same_updates(swept: Sweep) -> None:
    """2 epochs of the teacher's schedule and 1 of recovery over 24 pictures: 3 epochs, 72 pictures, the control too."""
    epochs = TEACHER_EPOCHS + RECOVERY_EPOCHS
    budgets = [cell.budget for cell in swept.cells.cells]
    assert {(own.train_epochs, own.train_images) for own in budgets if own} == {(epochs, epochs * TRAIN)}
    assert len([own for own in budgets if own]) == len(CELLS)


def test_what_methods_spend_besides_has_its_own_columns(swept: Sweep) -> None:
    """Pruning looks at 8 pictures (its setting), distillation asks the teacher once per picture of the recovery."""
    for cell in swept.cells.cells:
        assert cell.budget is not None
        assert cell.budget.search_images == (8 if "pruning" in cell.methods else 0)
        assert cell.budget.teacher_forwards == (RECOVERY_EPOCHS * TRAIN if "distillation" in cell.methods else 0)
        assert cell.budget.qat_updates == 0


def test_the_forecast_was_kept_to_the_picture(swept: Sweep) -> None:
    """What was counted before the run is what went through networks in it, over all nodes."""
    done = [read_done(swept.store, key) for key in graph_in(swept).nodes]
    spent = [
        sum(own.training.images for own in done if own.training),
        sum(own.search_images for own in done),
        sum(own.teacher_forwards for own in done),
    ]
    before = swept.forecast
    assert spent == [before.train_images, before.search_images, before.teacher_forwards]
    # By hand: the teacher's 2 epochs and four recoveries of 1; two prunings of 8 pictures; two taught recoveries.
    assert spent == [(2 + 4) * TRAIN, 2 * 8, 2 * TRAIN]


def test_methods_did_what_they_are_for(swept: Sweep) -> None:
    """Pruned cells have fewer multiply-adds than the control, quantized files fewer bytes, distilled ones the same network."""
    cells = {cell.cell: cell for cell in swept.cells.cells}
    control = cells["none"]
    assert control.macs is not None
    assert all(cell.macs is not None and cell.macs < control.macs for name, cell in cells.items() if "pruning" in name)
    assert (cells["distillation"].macs, cells["distillation"].params) == (control.macs, control.params)
    assert cells["quantization"].artifacts["onnxruntime"].size_bytes < control.artifacts["onnxruntime"].size_bytes
    assert all(cell.no_effect == () for cell in cells.values())


def test_cells_share_their_work(swept: Sweep) -> None:
    """Quantized and float cells of the same methods name one float node; without quantization the file is that node's."""
    nodes = {cell.cell: cell.node for cell in swept.cells.cells}
    assert len(set(nodes.values())) == 4
    assert nodes["pruning+quantization"] == nodes["pruning"]
    assert swept.cells.cells[0].artifacts["onnxruntime"].url == f"{NODES}/{nodes['none'][:2]}/{nodes['none']}/model.onnx"


def test_a_second_run_makes_nothing(swept_copy: Sweep) -> None:
    """Every entry keeps its time, and the records come out the same."""
    before, records = times_in(swept_copy), swept_copy.cells_path.read_text()
    code, said = run_grid(swept_copy)
    assert (code, said[0]) == (0, "8 cells, 9 nodes: 9 stored, 0 to make, 0 to score")
    assert times_in(swept_copy) == before
    assert swept_copy.cells_path.read_text() == records


def test_a_second_run_does_not_import_ray(swept_copy: Sweep) -> None:
    """The command line's default executor is Ray, but where all is stored there is nothing to start it for."""
    code = (
        "import sys\nfrom flows.cli import main\nsys.argv = ['sixfold', 'grid', '--no-tracking']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "sys.exit(10 * ('ray' in sys.modules) + 20 * ('mlflow' in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], cwd=swept_copy.folder, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"0 to make, 0 to score" in ended.stdout


def test_a_lost_score_is_made_without_training(swept_copy: Sweep) -> None:
    """Only the score is new; no node is touched."""
    node = named(graph_in(swept_copy), "recovered pruning")
    key = score_key(node.key, "onnxruntime", swept_copy.prepared)
    before = times_in(swept_copy)
    forget(swept_copy, SCORES, key)
    code, said = run_grid(swept_copy)
    assert (code, said[0]) == (0, "8 cells, 9 nodes: 9 stored, 0 to make, 1 to score")
    after = times_in(swept_copy)
    assert {entry for entry in after if after[entry] != before[entry]} == {f"{SCORES}/{key[:2]}/{key}"}


@pytest.mark.parametrize("name", ["quantized onnxruntime quantization", "recovered distillation"])
def test_a_damaged_node_is_moved_aside_and_made_again(name: str, swept_copy: Sweep) -> None:
    """The damage is noticed before anything builds on it; what stands on the node keeps its name and its work."""
    graph = graph_in(swept_copy)
    node = named(graph, name)
    spoil(swept_copy.store.folder(NODES, node.key) / "model.onnx")
    tasks = tasks_of(graph, swept_copy.prepared, swept_copy.store)
    assert [(task.node.name, task.runtime, task.after) for task in tasks] == [
        (name, None, ()),
        (name, "onnxruntime", (tasks[0].name,)),
    ]
    assert [path.name.startswith(f"nodes-{node.key}-") for path in (swept_copy.store.root / "broken").iterdir()] == [True]
    before = times_in(swept_copy)
    assert run_grid(swept_copy)[0] == 0
    swept_copy.store.open(NODES, node.key)
    after = times_in(swept_copy)
    assert f"nodes/{node.key[:2]}/{node.key}" in set(after) - set(before)
    assert {entry: after[entry] for entry in before if entry.startswith("nodes/")} == {
        entry: time for entry, time in before.items() if entry.startswith("nodes/")
    }
    assert {cell.status for cell in swept_copy.cells.cells} == {"ok"}


def test_the_score_of_a_node_made_again_is_of_its_new_file(swept_copy: Sweep) -> None:
    """A file that comes out with other bytes (OpenVINO's does) is not described by the old one's digest and mAP."""
    node = named(graph_in(swept_copy), "quantized onnxruntime quantization")
    key = score_key(node.key, "onnxruntime", swept_copy.prepared)
    forget(swept_copy, NODES, node.key)
    score = swept_copy.store.folder(SCORES, key)
    content = (score / "score.json").read_text()
    with_other_bytes = json.loads(content) | {"artifact": "0" * 64}
    (score / "score.json").unlink()
    (score / "score.json").write_text(json.dumps(with_other_bytes))
    assert run_grid(swept_copy)[0] == 0
    (artifact,) = [cell.artifacts["onnxruntime"] for cell in swept_copy.cells.cells if cell.cell == "quantization"]
    assert artifact.digest == artifact_digest((swept_copy.store.root / artifact.url).parent)[0]


def test_a_damaged_score_is_made_again(swept_copy: Sweep) -> None:
    """As a damaged node is."""
    node = named(graph_in(swept_copy), "recovered distillation")
    spoil(swept_copy.store.folder(SCORES, score_key(node.key, "onnxruntime", swept_copy.prepared)) / "score.json")
    assert run_grid(swept_copy)[0] == 0


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("pruning", ["none", "pruning"]),
        ("*distillation*", ["none", *[name for name in CELLS if "distillation" in name]]),
        ("none", ["none"]),
        ("*", list(CELLS)),
    ],
)
def test_a_pattern_chooses_cells_and_the_control_with_them(pattern: str, chosen: list[str], swept_copy: Sweep) -> None:
    """All else is compared with the control, so it is always among the cells."""
    assert run_grid(swept_copy, pattern=pattern)[0] == 0
    assert [cell.cell for cell in swept_copy.cells.cells] == chosen


def broken(*_args: Any) -> None:
    """A method that raises."""
    raise RuntimeError("a rank of 0")


@pytest.mark.parametrize(("on_failure", "code"), [("stop", INCOMPLETE), ("continue", 0)])
def test_a_method_that_raises_marks_exactly_its_cells(
    on_failure: str, code: int, swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The four cells with pruning fail with its error and log; the four others are ok. Exit 3, or 0 with `continue`."""
    for node in graph_in(swept_copy).nodes.values():
        if "pruning" in node.name:
            forget(swept_copy, NODES, node.key)
    monkeypatch.setitem(flows.nodes.TRANSFORMS, "pruning", broken)
    plan = load_plan(write_params(swept_copy.folder / "other", grid__on_failure=on_failure))
    listener = Listener()
    ended, said = run_grid(swept_copy, plan, tracking=listener)
    assert ended == code
    assert any(line.startswith("4 of 8 cells ok") for line in said)
    for cell in swept_copy.cells.cells:
        if "pruning" not in cell.methods:
            assert (cell.status, cell.error) == ("ok", None)
            continue
        assert (cell.status, cell.params, cell.macs, cell.artifacts, cell.budget) == ("failed", None, None, {}, None)
        error, _, log = str(cell.error).partition(" (log: ")
        assert error == "RuntimeError: a rank of 0"
        assert "a rank of 0" in Path(log.removesuffix(")")).read_text()
    assert sorted(listener.cells) == sorted((name, "failed" if "pruning" in name else "ok") for name in CELLS)


def test_a_failure_is_tried_again_and_only_it(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the cause is gone the same command makes the failed cells; what was ok is not made again."""
    graph = graph_in(swept_copy)
    for name in ("recovered pruning", "quantized onnxruntime pruning+quantization"):
        key = named(graph, name).key
        forget(swept_copy, NODES, key)
        forget(swept_copy, SCORES, score_key(key, "onnxruntime", swept_copy.prepared))
    with monkeypatch.context() as patch:
        patch.setitem(flows.nodes.TRANSFORMS, "pruning", broken)
        assert run_grid(swept_copy)[0] == INCOMPLETE
    statuses = {cell.cell: cell.status for cell in swept_copy.cells.cells}
    assert {name for name, status in statuses.items() if status != "ok"} == {"pruning", "pruning+quantization"}
    before = times_in(swept_copy)
    assert run_grid(swept_copy)[0] == 0
    assert {cell.status for cell in swept_copy.cells.cells} == {"ok"}
    after = times_in(swept_copy)
    assert len(after) == len(before) + 4, "two nodes and their scores"
    assert {entry: after[entry] for entry in before} == before


def test_cells_are_tracked_once_each_as_they_become_whole(swept_copy: Sweep) -> None:
    """Stored cells are shown before the work starts, the late one when its score is there."""
    node = named(graph_in(swept_copy), "recovered none")
    forget(swept_copy, SCORES, score_key(node.key, "onnxruntime", swept_copy.prepared))
    listener = Listener()
    assert run_grid(swept_copy, tracking=listener)[0] == 0
    assert listener.cells == [(name, "ok") for name in (*CELLS[1:], "none")]


def test_another_grid_of_the_same_sweep_is_refused(swept_copy: Sweep) -> None:
    """The lock is per store and sweep: the message names both and what to do; the records stay as they were."""
    records = swept_copy.cells_path.read_text()
    with FileLock(swept_copy.store.lock_path("tiny")), pytest.raises(StoreError) as caught:
        run_grid(swept_copy)
    assert "another grid of sweep 'tiny' is running on this store" in str(caught.value)
    assert "Wait for it or end it." in str(caught.value)
    assert swept_copy.cells_path.read_text() == records
    with FileLock(swept_copy.store.lock_path("another")):
        assert run_grid(swept_copy)[0] == 0


def test_a_store_that_breaks_ends_the_run_with_its_own_message(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are still recorded, but the exit is the store's: whatever on_failure says, trying the next cell will not help."""
    node = named(graph_in(swept_copy), "quantized onnxruntime quantization")
    forget(swept_copy, NODES, node.key)

    def full(*_args: Any) -> None:
        raise StoreError("the store is full")

    monkeypatch.setattr("flows.cluster.make_node", full)
    plan = load_plan(write_params(swept_copy.folder / "other", grid__on_failure="continue"))
    with pytest.raises(StoreError, match="the store is full"):
        run_grid(swept_copy, plan)
    assert [cell.status for cell in swept_copy.cells.cells if cell.cell == "quantization"] == ["failed"]
