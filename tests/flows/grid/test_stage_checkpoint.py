"""A trained detector of ours through the grid: compressed as it is, or trained further for other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detection import checkpoint
from detection.checkpoint import Detector, fresh
from detection.data.dataset import load_split
from detection.frozen import InputError
from detection.spec import Spec
from flows.grid.nodes import NODES, read_done
from flows.records.schema import CellRecord, CellsFile, read_records
from flows.records.store import Store
from flows.sweep.context import lay_foundation
from flows.sweep.plan_checks import load_plan
from flows.teacher.stage import teacher
from tests.compressors.quantization.test_fake_quantize import lively
from tests.flows.sweep_factory import TINY_TREE, menu_of, run_grid, write_params

SCHEDULE = TINY_TREE["teacher"]["training"]
LIGHT = [{"weights": "fresh"}, {"weights": "inherited", "inheritance_pictures": 8}]


@pytest.fixture(scope="module")
def brought(sweep_prepared: Path, tiny_detector: Detector) -> Detector:
    """A detector that finds something, of the classes of the data."""
    classes = load_split(sweep_prepared, "val").classes
    return lively(fresh(Spec(classes=classes, input_size=(64, 96), settings=tiny_detector.spec.settings), seed=5))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, brought: Detector) -> Path:
    """Its folder."""
    folder = tmp_path_factory.mktemp("brought") / "teacher"
    checkpoint.save(brought, folder)
    return folder


class Swept:
    """A finished grid."""

    def __init__(self, folder: Path, prepared: Path, **changes: Any) -> None:
        from tests.flows.sweep_factory import Sweep

        self.plan, self.store = load_plan(write_params(folder, **changes)), Store(folder / ".sixfold/store")
        sweep = Sweep(folder, self.plan, prepared, self.store, None, -1, ())  # type: ignore[arg-type]
        self.code, self.said = run_grid(sweep)
        self.cells = read_records(sweep.cells_path, CellsFile)
        self.records: dict[str, CellRecord] = {own.cell: own for own in (*self.cells.cells, *self.cells.references)}

    def detector(self, name: str) -> Detector:
        """The float detector of a cell or reference."""
        return checkpoint.load(self.store.open(NODES, self.records[name].node))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path, saved: Path) -> Swept:
    """E = 2 and R = 1 beyond the checkpoint; light blocks in both ways, pruning."""
    return Swept(
        tmp_path_factory.mktemp("checkpoint"), sweep_prepared, teacher={"checkpoint": str(saved), "training": SCHEDULE},
        grid__methods=menu_of("pruning") | {"lightweight": LIGHT}, grid__runtimes=["onnxruntime", "openvino"],
    )  # fmt: skip


def test_every_cell_sees_the_same_beyond_the_checkpoint(swept: Swept) -> None:
    """Three epochs of 24 pictures each, inherited or not, as the audit says; the checkpoint itself none."""
    assert swept.code == 0, swept.said
    budgets = {name: (own.budget.train_epochs, own.budget.train_images) for name, own in swept.records.items() if own.budget}
    assert budgets.pop("reference:given") == (0, 0)
    assert budgets == dict.fromkeys(swept.records.keys() - {"reference:given"}, (3, 72))
    assert len(budgets) == 6
    assert any("3 train epochs each beyond the detector as it was brought" in line for line in swept.said)


def test_the_checkpoint_is_listed_as_it_was(swept: Swept, brought: Detector) -> None:
    """Weight for weight, in a file for each runtime; the control went on from there."""
    given, control = swept.detector("reference:given"), swept.detector("none")
    assert given.digest == brought.digest
    assert set(swept.records["reference:given"].artifacts) == {"onnxruntime", "openvino"}
    assert control.spec == given.spec
    assert any(not torch.equal(control.weights[name], tensor) for name, tensor in brought.weights.items())
    ancestors = [read_done(swept.store, swept.records["none"].node).node]
    while ancestors[-1].parent is not None:
        ancestors.append(read_done(swept.store, ancestors[-1].parent).node)
    assert [(node.kind, node.planned.train_epochs) for node in ancestors] == [("recovered", 1), ("architecture", 2), ("teacher", 0)]


def test_what_begins_from_scratch_is_marked(swept: Swept) -> None:
    """Fresh light blocks take no weight over; whoever reads their accuracy has to know."""
    marked = {name for name, own in swept.records.items() if own.from_scratch}
    assert marked == {"lightweight:depthwise", "lightweight:depthwise+pruning"}


def test_no_epochs_but_recovery(tmp_path: Path, sweep_prepared: Path, saved: Path) -> None:
    """With E = 0 light blocks go on with the brought weights, though nobody said so; all recover for R, and nothing begins anew."""
    made = Swept(
        tmp_path, sweep_prepared, teacher={"checkpoint": str(saved), "training": SCHEDULE | {"epochs": 0}},
        grid={**TINY_TREE["grid"], "references": None, "methods": {"pruning": TINY_TREE["grid"]["methods"]["pruning"],
              "nas": [], "low_rank": [], "distillation": [], "quantization": []}},
    )  # fmt: skip
    assert made.code == 0, made.said
    assert {name: own.budget.train_epochs for name, own in made.records.items() if own.budget} == {
        "none": 1, "lightweight": 1, "pruning": 1, "lightweight+pruning": 1, "reference:given": 0,
        "reference:random-pruning-0.5-round-4": 1,
    }  # fmt: skip
    assert not any(own.from_scratch for own in made.records.values())
    assert made.plan.menu.lightweight[0].inherits
    assert not made.cells.not_applicable, "nobody asked for a search"


def test_a_compressed_detector_is_compressed_further(tmp_path: Path, sweep_prepared: Path, swept: Swept) -> None:
    """What was pruned before can be pruned again and searched by its parts; other blocks it cannot take, and says so."""
    pruned = swept.detector("pruning")
    checkpoint.save(pruned, tmp_path / "pruned")
    made = Swept(
        tmp_path, sweep_prepared, teacher={"checkpoint": "pruned", "training": SCHEDULE | {"epochs": 0}},
        grid={**TINY_TREE["grid"], "methods": {"pruning": TINY_TREE["grid"]["methods"]["pruning"], "quantization": [],
              "nas": [{"evaluations": 4, "population": 4, "supernet_epochs": 1, "budget_share": 0.8}]}},
    )  # fmt: skip
    assert made.code == 0, made.said
    assert "pruned or factored already" in made.cells.not_applicable["lightweight"]
    assert (made.records["none"].macs or 0) > 1.5 * (made.records["pruning"].macs or 0) > 0
    assert (made.records["none"].macs or 0) > (made.records["nas"].macs or 0) > 0
    assert not made.records["nas"].from_scratch


def test_training_starts_from_weights_of_other_classes(tmp_path: Path, sweep_prepared: Path, brought: Detector) -> None:
    """Every layer but the predictions of classes begins as it was; the teacher trains E epochs and no `given` is listed."""
    other = brought.spec.model_copy(update={"classes": tuple(f"other {name}" for name in brought.spec.classes)})
    checkpoint.save(Detector(other, brought.weights), tmp_path / "other")
    made = Swept(tmp_path, sweep_prepared, teacher={"start_from": "other", "training": SCHEDULE}, grid__methods=menu_of())
    assert made.code == 0, made.said
    assert {name: own.budget.train_epochs for name, own in made.records.items() if own.budget} == {"none": 3}
    base = lay_foundation(made.plan, sweep_prepared)
    assert (base.teacher.classes, base.root_is_untouched) == (brought.spec.classes, False)
    started = checkpoint.load(made.store.open("given", base.given or ""))
    differing = {name for name, tensor in brought.weights.items() if not torch.equal(tensor, started.weights[name])}
    assert differing
    assert differing <= {f"{layer}.{kind}" for layer in brought.family.protected(brought.network()) for kind in ("weight", "bias")}


def test_weights_of_the_same_classes_are_all_kept(brought: Detector) -> None:
    """Also where pictures have another size."""
    started = checkpoint.started(brought, brought.spec.at((96, 96)), seed=1)
    assert started.spec.input_size == (96, 96)
    assert all(torch.equal(tensor, started.weights[name]) for name, tensor in brought.weights.items())


def test_the_stage_takes_it_as_it_is(tmp_path: Path, sweep_prepared: Path, saved: Path, brought: Detector) -> None:
    """`sixfold teacher` scores the untouched weights and copies them to where people look."""
    plan = load_plan(write_params(tmp_path, teacher={"checkpoint": str(saved), "training": SCHEDULE}))
    said: list[str] = []
    teacher(plan, sweep_prepared, Store(tmp_path / "store"), tmp_path / "models/teacher", said.append)
    assert checkpoint.load(tmp_path / "models/teacher").digest == brought.digest
    assert any(line.startswith("teacher: ") and "val mAP" in line for line in said)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"checkpoint": "x", "architecture": {}}, "architecture and checkpoint are all given"),
    "nothing there": ({"checkpoint": "nowhere"}, "teacher.checkpoint: .*nowhere: no spec.json here"),
    "no epochs": ({"start_from": "brought", "training": {"epochs": 0}}, "training.epochs: 0 is for a `checkpoint`"),
    "another size": ({"checkpoint": "brought"}, r"trained for pictures of \(32, 32\).*data.input_size is \(64, 96\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path: Path, brought: Detector, case: str) -> None:
    """In one message that says where, before anything is made."""
    section, message = REFUSED[case]
    checkpoint.save(brought.at((32, 32)), tmp_path / "brought")
    with pytest.raises(InputError, match=message):
        load_plan(write_params(tmp_path, teacher=section, grid__methods=menu_of()))


def test_other_classes_are_refused_once_they_are_known(tmp_path: Path, sweep_prepared: Path, brought: Detector) -> None:
    """With the way out."""
    other = brought.spec.model_copy(update={"classes": ("a", *brought.spec.classes[1:])})
    checkpoint.save(Detector(other, brought.weights), tmp_path / "other")
    plan = load_plan(write_params(tmp_path, teacher={"checkpoint": "other"}, grid__methods=menu_of()))
    with pytest.raises(InputError, match=r"teacher\.checkpoint: .* predicts a, .* the data has .* teacher\.start_from"):
        lay_foundation(plan, sweep_prepared)


def test_methods_that_would_begin_from_scratch_are_refused_by_name(tmp_path: Path, saved: Path) -> None:
    """Asked for in the plan, with no epochs to train them."""
    section = {"checkpoint": str(saved), "training": {"epochs": 0}}
    for methods, message in (
        (menu_of() | {"lightweight": [{"weights": "fresh"}]}, r"grid\.methods\.lightweight: not applicable .* begins from scratch"),
        (menu_of() | {"lightweight": LIGHT}, r"grid\.methods\.lightweight\.0\.weights: fresh ones are trained"),
        (menu_of() | {"distillation": [{"teacher": TINY_TREE["teacher"]["architecture"]}]}, r"distillation\.0\.teacher: would be"),
    ):
        with pytest.raises(InputError, match=message):
            load_plan(write_params(tmp_path, teacher=section, grid__methods=methods))
