"""A user's own torch module through the grid: trained here or from its own weights, and known by its code."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressors.planning.names import METHODS
from detection import evaluation
from detection.adapted.network import NETWORK
from detection.boxes import select
from detection.checkpoint import WEIGHTS_FILE
from detection.data.dataset import load_prepared
from detection.frozen import InputError
from flows.grid.forecast import forecast
from flows.grid.nodes import NODES, Done, read_done
from flows.predict.model import open_model
from flows.records.store import Store
from flows.sweep.context import lay_foundation
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_factory import Sweep, expect_effects, menu_of, run_grid, tiny_tree, write_params
from tests.places import ROOT

CODE = ROOT / "tests/module_detector/own_points.py"
DETECTOR = {"family": "own_points:family", "spec": {"width": 8}}
TRAINING = tiny_tree()["teacher"]["training"]
MENU = menu_of(*METHODS) | {
    "nas": [
        {
            "weights": "inherited",
            "width_shares": [0.5, 0.75, 1.0],
            "round_to": 2,
            "supernet_epochs": 1,
            "evaluations": 4,
            "population": 4,
            "recalibration_pictures": 8,
            "val_pictures": 4,
            "gradient_pictures": 8,
            "budget_share": 0.6,
        }
    ],
    "lightweight": [{"weights": "inherited"}],
    "low_rank": [{"energy": 0.4, "only_if_faster": False}],
    "quantization": [{"pictures": 8, "calibrator": "minmax"}],
}


LOAD = """
import sys, torch
from pathlib import Path
from detection.checkpoint import load
detector = load(Path(sys.argv[1]))
network = detector.network()
print(detector.family.decode(network, network(torch.zeros(1, 3, 64, 96)))[0].shape)
"""


def write(folder: Path, detector: dict[str, Any], training: dict[str, Any] = TRAINING, **changes: Any) -> Path:
    """A params file with the user's code next to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CODE.name).write_text(CODE.read_text())
    return write_params(folder, detector=detector, teacher={"training": training}, **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path) -> Sweep:
    """The whole grid, trained here."""
    folder = tmp_path_factory.mktemp("module-sweep")
    plan = load_plan(write(folder, DETECTOR, grid__methods=MENU))
    store = Store(folder / "store")
    before = Sweep(folder, plan, sweep_prepared, store, forecast(plan, sweep_prepared, store, None), -1, ())
    code, said = run_grid(before)
    return replace(before, code=code, said=tuple(said))


def read_weights_of(made: Sweep) -> dict[str, Tensor]:
    """The trained teacher's, by the names that the user's own network has."""
    (teacher,) = nodes_of(made.store, "teacher")
    weights = load_file(made.store.folder(NODES, teacher.node.key) / WEIGHTS_FILE)
    return {name.removeprefix(f"{NETWORK}."): own for name, own in weights.items()}


def nodes_of(store: Store, kind: str) -> list[Done]:
    """What is known of the store's nodes of this kind."""
    done = [read_done(store, folder.name) for folder in store.root.joinpath(NODES).glob("*/*")]
    return [own for own in done if own.node.kind == kind]


def test_every_cell_is_made_and_every_method_changes_something(made: Sweep) -> None:
    """All 64 cells."""
    expect_effects(made, 64, ("lightweight", "nas", "pruning", "low_rank"))
    assert not made.cells.not_applicable


def test_its_cells_are_trained_with_rounding(made: Sweep, tmp_path: Path) -> None:
    """Where `qat_epochs` asks for it: a node more, an epoch of three updates by the cell's own objective, maps of the teacher's
    included, whose ranges the file has."""
    packing = {"pictures": 8, "calibrator": "minmax", "qat_epochs": 1}
    menu = menu_of("pruning", "distillation") | {"quantization": [packing]}
    plan = load_plan(write(tmp_path, DETECTOR, grid__methods=menu))
    code, said = run_grid(replace(made, folder=tmp_path, plan=plan, forecast=forecast(plan, made.prepared, made.store, None)))
    sweep = replace(made, folder=tmp_path, plan=plan)
    assert code == 0, said
    assert "qat" not in plan.not_applicable
    packed = [cell for cell in sweep.cells.cells if "quantization" in cell.methods]
    assert [(cell.status, cell.budget and cell.budget.qat_updates) for cell in packed] == [("ok", 3)] * 4
    aware = nodes_of(made.store, "quantization_aware")
    assert sorted(bool(own.teacher_forwards) for own in aware) == [False, False, True, True]
    quantized = [own for own in nodes_of(made.store, "quantized") if own.node.parent in {own.node.key for own in aware}]
    assert [own.quantization and own.quantization.ranges for own in quantized] == ["learned"] * 4


def test_a_module_that_cannot_be_traced_is_told_so(tmp_path: Path) -> None:
    """The plan is refused with the place in their code; without `qat_epochs` it is taken."""
    (tmp_path / "odd_layers.py").write_text((CODE.parent / "odd_layers.py").read_text())
    detector = {"family": "odd_layers:family", "spec": {"branches": True}}
    load_plan(write(tmp_path, detector, grid__methods=menu_of("quantization")))
    path = write(tmp_path, detector, grid__methods=menu_of("quantization") | {"quantization": [{"qat_epochs": 1}]})
    with pytest.raises(InputError, match=r"quantization\.0\.qat_epochs: not applicable .* tensor values in turned\.forward \("):
        load_plan(path)


def test_trained_weights_are_compressed_as_they_are(made: Sweep, sweep_prepared: Path, tmp_path: Path) -> None:
    """Weights as the user's own script saves them: the reference `given` detects what they did, and needs no epoch."""
    named = read_weights_of(made)
    classes = load_prepared(sweep_prepared).classes
    detector = DETECTOR | {"weights": "best.safetensors", "classes": list(classes)}
    path = write(tmp_path, detector, TRAINING | {"epochs": 0}, grid__methods=menu_of("pruning"))
    save_file(named, tmp_path / "best.safetensors")
    sweep = replace(made, folder=tmp_path, plan=load_plan(path), store=Store(tmp_path / "store"))
    code, said = run_grid(sweep)
    assert code == 0, said
    (given,) = [own for own in sweep.cells.references if own.cell == "reference:given"]
    assert given.budget is not None
    assert given.budget.train_epochs == 0
    assert not any(cell.from_scratch for cell in sweep.cells.cells)
    assert [cell.budget.train_epochs for cell in sweep.cells.cells if cell.budget] == [1, 1]


def test_classes_in_another_order_are_refused(made: Sweep, sweep_prepared: Path, tmp_path: Path) -> None:
    """Weights predict classes by place; a plan that names none is refused when it is read."""
    classes = load_prepared(sweep_prepared).classes
    detector = DETECTOR | {"weights": "best.safetensors", "classes": [*classes[1:], classes[0]]}
    with pytest.raises(InputError, match="detector: weights and classes go together"):
        load_plan(write(tmp_path / "a", DETECTOR | {"weights": "best.safetensors"}))
    path = write(tmp_path / "b", detector, grid__methods=menu_of("pruning"))
    with pytest.raises(InputError, match=r"detector\.weights: .*best\.safetensors: no such file"):
        load_plan(path)
    weights = read_weights_of(made)
    save_file(weights, path.parent / "best.safetensors")
    with pytest.raises(InputError, match=r"detector\.classes: .*their order counts"):
        lay_foundation(load_plan(path), sweep_prepared)
    save_file({"one": load_file(next(made.store.root.rglob(WEIGHTS_FILE)))["network.score.bias"]}, path.parent / "best.safetensors")
    with pytest.raises(InputError, match=r"missing stem\.0\.weight, .*; unknown one"):
        load_plan(path)


def test_keys_follow_the_code_and_not_its_comments(made: Sweep, tmp_path: Path) -> None:
    """Another comment makes nothing again; another constant everything."""
    same = load_plan(write(tmp_path / "a", DETECTOR, grid__methods=MENU))
    source = CODE.read_text()
    for text, equal in (("# a remark\n" + source, True), (source.replace("0.5) * STRIDE", "0.4) * STRIDE"), False)):
        (same.path.parent / CODE.name).write_text(text)
        again = load_plan(same.path)
        assert (lay_foundation(again, made.prepared).teacher == lay_foundation(made.plan, made.prepared).teacher) == equal


def test_a_saved_detector_needs_no_folder_of_the_users(made: Sweep) -> None:
    """In another process, from a folder of the store alone: the code has travelled with the weights."""
    folder = made.store.folder(NODES, made.cells.cells[0].node)
    ended = subprocess.run([sys.executable, "-c", LOAD, folder], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "torch.Size([1, 96, 4])", ended.stderr


def test_boxes_that_need_no_suppression_are_scored_and_shown_as_they_are(
    made: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`suppress = "none"`: nothing is suppressed for scores, for the choice of int8's ranges, or by `predict`."""
    suppressed_above = list[float | None]()
    monkeypatch.setattr(evaluation, "select", lambda *given: suppressed_above.append(given[3]) or select(*given))
    detector = DETECTOR | {"family": "own_points:set_family"}
    menu = menu_of("quantization") | {"quantization": [{"pictures": 8, "calibrator": "val"}]}
    plan = load_plan(write(tmp_path, detector, grid__methods=menu))
    sweep = replace(made, folder=tmp_path, plan=plan, store=Store(tmp_path / "store"))
    code, said = run_grid(sweep)
    assert code == 0, said
    files = [sweep.store.file(own.artifacts["onnxruntime"].url) for own in sweep.cells.cells]
    assert [open_model(str(file), None, None, 1).suppressed_above for file in files] == [None, None]
    assert len(suppressed_above) > 2 * 2 * 8, "beside two files on two splits, int8's calibrators are scored on val"
    assert set(suppressed_above) == {None}


def test_outputs_are_not_remembered_for_pictures_that_never_return(tmp_path: Path) -> None:
    """A teacher's cache goes with flips alone, and the module varies pictures by itself."""
    flips = TRAINING | {"augmentation": dict.fromkeys(("scale", "brightness", "contrast", "colour"), 0.0)}
    menu = menu_of("distillation") | {"distillation": [{"cache": True}]}
    path = write(tmp_path, DETECTOR | {"family": "own_points:set_family"}, flips, grid__methods=menu, grid__recovery=flips)
    load_plan(path)
    varied = "def augment(self, batch, rng):\n        return batch"
    (tmp_path / CODE.name).write_text(CODE.read_text().replace('suppress = "none"', varied))
    with pytest.raises(InputError, match=r"distillation\.0\.cache: pictures are new each time, as the detector has an `augment`"):
        load_plan(path)
