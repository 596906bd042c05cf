"""One small sweep, whole: its records keep the contract, and its work is shared and counted."""

from __future__ import annotations

import json
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

import flows.grid.stage as stage_module
import flows.grid.tasks as tasks_module
from compressors.target import Target
from detection.data.dataset import load_prepared
from flows.grid.nodes import NODES, Done, read_done
from flows.grid.scoring import SCORES, artifact_digest, score_key
from flows.grid.stage import grid
from flows.records.store import Store
from flows.tracking.mlflow_client import Tracker
from tests.flows.sweep_entries import CELLS, forget, graph_in, named
from tests.flows.sweep_factory import Listener, Sweep, run_grid

TRAIN, VAL = 24, 8
"""Pictures of the tiny data."""
TEACHER_EPOCHS, RECOVERY_EPOCHS = 2, 1


def test_all_cells_are_made(swept: Sweep) -> None:
    """Three methods make eight cells, all ok, told at the end with where they lie."""
    assert swept.code == 0
    assert [(cell.cell, cell.status, cell.error) for cell in swept.cells.cells] == [(name, "ok", None) for name in CELLS]
    assert swept.said[0] == "8 cells, 9 nodes: 0 stored, 9 to make, 8 to score"
    assert swept.said[-2] == f"8 of 8 cells ok: {swept.cells_path}"


def test_the_file_has_the_agreed_keys(swept: Sweep) -> None:
    """Others read cells.json by these names, at each level; written out here from the contract, not from the classes."""
    tree = json.loads(swept.cells_path.read_text())
    assert set(tree) == {"schema", "sweep", "dataset", "runtimes", "cells", "references", "not_applicable"}
    assert (tree["schema"], tree["sweep"], tree["runtimes"]) == (2, "tiny", ["onnxruntime"])
    assert (tree["references"], tree["not_applicable"]) == ([], {})
    for cell in tree["cells"]:
        assert set(cell) == {"cell", "methods", "variant", "labels", "seed", "status", "error", "node", "params", "macs",
                             "input_size", "from_scratch", "no_effect", "missed", "ranking", "artifacts", "budget"}  # fmt: skip
        assert set(cell["budget"]) == {
            "train_epochs",
            "train_images",
            "search_images",
            "inherited_images",
            "teacher_forwards",
            "teacher_images",
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


def test_what_a_method_did_not_reach_is_in_its_cells(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pruning that left more than it was asked to leave, by its node's record: all cells with it say so, no others."""
    assert all(cell.missed == () for cell in swept_copy.cells.cells), "half of the multiply-adds is within reach"
    short = Target(method="pruning", setting="keep_macs", asked=0.5, reached=0.75)

    def fallen_short(store: Store, key: str) -> Done:
        done = read_done(store, key)
        assert all(change.target is not None for change in done.changes)
        return done.model_copy(update={"changes": tuple(own.model_copy(update={"target": short}) for own in done.changes)})

    monkeypatch.setattr("flows.grid.stage.read_done", fallen_short)
    assert run_grid(swept_copy)[0] == 0
    pruned = {name for name in CELLS if "pruning" in name}
    assert {cell.cell: cell.missed for cell in swept_copy.cells.cells} == {
        name: (short,) if name in pruned else () for name in CELLS
    }


def test_cells_share_their_work(swept: Sweep) -> None:
    """Quantized and float cells of the same methods name one float node; without quantization the file is that node's."""
    nodes = {cell.cell: cell.node for cell in swept.cells.cells}
    assert len(set(nodes.values())) == 4
    assert nodes["pruning+quantization"] == nodes["pruning"]
    assert swept.cells.cells[0].artifacts["onnxruntime"].url == f"{NODES}/{nodes['none'][:2]}/{nodes['none']}/model.onnx"


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


def test_cells_are_tracked_once_each_as_they_become_whole(swept_copy: Sweep) -> None:
    """Stored cells are shown before the work starts, the late one when its score is there."""
    node = named(graph_in(swept_copy), "recovered none")
    forget(swept_copy, SCORES, score_key(node.key, "onnxruntime", swept_copy.data))
    listener = Listener()
    assert run_grid(swept_copy, tracking=listener)[0] == 0
    assert listener.cells == [(name, "ok") for name in (*CELLS[1:], "none")]


def test_work_is_done_once(swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """One foundation and one graph a command; prepared.json and score keys are not read again for every cell and outcome."""
    counted: Counter[str] = Counter()

    def count(module: ModuleType, name: str) -> None:
        whole = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return whole(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    for name in ("lay_foundation", "make_graph", "load_prepared", "score_key"):
        count(stage_module, name)
    count(tasks_module, "score_key")
    for key, node in graph_in(swept_copy).nodes.items():
        if node.kind == "quantized":
            forget(swept_copy, SCORES, score_key(key, "onnxruntime", swept_copy.data))
    assert run_grid(swept_copy)[0] == 0
    assert counted == {"lay_foundation": 1, "make_graph": 1, "load_prepared": 1, "score_key": 8 + 8}


def test_the_first_line_is_told_before_work_and_tracking(swept_copy: Sweep) -> None:
    """Counts of what is there and what is to do come first, since opening MLflow takes seconds."""
    said: list[str] = []

    def opened() -> Tracker:
        said.append("tracking opened")
        return Tracker()

    grid(
        swept_copy.plan, swept_copy.prepared, swept_copy.store, swept_copy.cells_path, pattern=None, executor="inline",
        open_tracking=opened, say=said.append,
    )  # fmt: skip
    assert said[:2] == ["8 cells, 9 nodes: 9 stored, 0 to make, 0 to score", "tracking opened"]


def test_records_have_the_label_of_each_variant(swept: Sweep) -> None:
    """As the methods call themselves, so that nobody has to understand a stored setting to name it."""
    by_name = {cell.cell: cell for cell in swept.cells.cells}
    assert by_name["none"].labels == {}
    assert set(by_name["pruning+quantization"].labels) == {"pruning", "quantization"}
    assert by_name["pruning"].labels["pruning"] == swept.plan.params.grid.methods.pruning[0].label()
