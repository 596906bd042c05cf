"""Teachers that the user brings, through the grid: a trained detector of ours, and an ONNX file whose boxes are soft labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection import checkpoint
from detection.checkpoint import Detector, fresh
from detection.data.dataset import load_split
from detection.spec import Spec
from flows.grid.forecast import forecast
from flows.grid.nodes import Context, make_node, read_done
from flows.records.store import GIVEN, Store
from flows.sweep.context import lay_foundation, store_brought
from flows.sweep.plan_checks import load_plan
from flows.teacher.stage import teacher
from tests.compressors.fixed_file_factory import DECODE, write_fixed
from tests.flows.sweep_entries import graph_in
from tests.flows.sweep_factory import TINY_TREE, Sweep, run_grid, write_params

TRAIN, TEACHER_EPOCHS, RECOVERY_EPOCHS = 24, 2, 1
WIDE: dict[str, Any] = TINY_TREE["teacher"]["architecture"] | {"stage_widths": [16, 24, 32, 48], "neck_width": 24}
KINDS = ("checkpoint", "onnx")


def tell(folder: Path, classes: tuple[str, ...], score: float = 0.9) -> dict[str, dict[str, Any]]:
    """Both teachers, written to the folder: kind -> what a variant says of it. The file knows two of the classes."""
    settings = Spec(classes=classes, input_size=(64, 96), settings=TINY_TREE["teacher"]["architecture"]).settings
    wide = type(settings).model_validate(WIDE)
    checkpoint.save(fresh(Spec(classes=classes, input_size=(128, 96), settings=wide), int(100 * score)), folder / "wide")
    write_fixed(folder / "theirs.onnx", [((2, 4, 18, 20), (0.0, score, 0.1)), ((28, 8, 44, 28), (0.3, 0.0, 0.0))])
    return {
        "checkpoint": {"checkpoint": "wide"},
        "onnx": {"onnx": "theirs.onnx", "classes": [classes[4], classes[1], "dog"], "decode": DECODE},
    }


def sweep_of(folder: Path, prepared: Path, kind: str, **changes: Any) -> Sweep:
    """A workspace with an empty store: the control, and a student of each kind."""
    folder.mkdir(exist_ok=True)
    told = tell(folder, load_split(prepared, "val").classes, **changes)
    plan = load_plan(write_params(
        folder, grid__methods__pruning=[], grid__methods__quantization=[], grid__methods__distillation=[{"teacher": told[kind]}],
    ))  # fmt: skip
    store = Store(folder / ".sixfold/store")
    return Sweep(folder, plan, prepared, store, forecast(plan, prepared, store, None), -1, ())


@pytest.fixture(scope="module", params=KINDS)
def taught(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path) -> Sweep:
    """Made by the inline executor, after which the user's files are gone; the audit has passed."""
    sweep = sweep_of(tmp_path_factory.mktemp("taught") / request.param, sweep_prepared, request.param)
    code, said = run_grid(sweep)
    assert code == 0, said
    assert any("each as planned" in line for line in said)
    return Sweep(sweep.folder, sweep.plan, sweep.prepared, sweep.store, sweep.forecast, code, tuple(said))


def weights(sweep: Sweep, cell: str) -> Detector:
    """What a cell's float detector became."""
    return checkpoint.load(sweep.store.open("nodes", graph_in(sweep).recovered[cell]))


def test_the_student_learned_from_it(taught: Sweep) -> None:
    """Its weights are not those of labels alone, and it asked once per picture and epoch, as was forecast."""
    pupil, control = weights(taught, "distillation"), weights(taught, "none")
    assert pupil.spec == control.spec
    assert any(not np.array_equal(pupil.weights[name], control.weights[name]) for name in pupil.weights)
    own = taught.cells.cells[1].budget
    assert own is not None
    assert (own.teacher_forwards, own.teacher_images) == (RECOVERY_EPOCHS * TRAIN, 0)
    assert own.train_images == (TEACHER_EPOCHS + RECOVERY_EPOCHS) * TRAIN
    assert taught.forecast.teacher_forwards == RECOVERY_EPOCHS * TRAIN
    assert taught.forecast.train_images == (TEACHER_EPOCHS + 2 * RECOVERY_EPOCHS) * TRAIN


def test_the_teacher_is_in_the_store_as_it_was_given(taught: Sweep) -> None:
    """Under its digest, for workers that do not see the user's folder, and in a node that nothing trained."""
    made = graph_in(taught)
    pupil = made.nodes[made.recovered["distillation"]]
    assert pupil.taught_by is not None
    node = made.nodes[pupil.taught_by]
    assert node.given is not None
    given = checkpoint.load(taught.store.open(GIVEN, node.given))
    assert given.digest == node.given == checkpoint.load(taught.store.open("nodes", node.key)).digest
    assert read_done(taught.store, node.key).training is None


def test_what_the_file_does_not_know_is_told(taught: Sweep) -> None:
    """By name, where work begins; a checkpoint knows all classes."""
    told = [line for line in taught.said if "labels alone teach" in line]
    if taught.plan.menu.distillation[0].gives_boxes:
        missing = "0, 2, 3, 5, 6, 7, 8, 9"
        assert told == [f"grid.methods.distillation: teacher theirs does not know {missing}: labels alone teach that."]
    else:
        assert not told


@pytest.mark.parametrize("kind", KINDS)
def test_another_teacher_in_the_same_place_makes_other_students(kind: str, tmp_path: Path, sweep_prepared: Path) -> None:
    """The key of teacher and student follow the bytes; the control does not notice. A copy elsewhere has the same keys."""
    first, same, other = (
        graph_in(sweep_of(tmp_path / name, sweep_prepared, kind, score=score))
        for name, score in (("first", 0.9), ("same", 0.9), ("other", 0.8))
    )
    assert first.recovered == same.recovered
    assert first.recovered["none"] == other.recovered["none"]
    assert first.recovered["distillation"] != other.recovered["distillation"]


def test_the_stage_teacher_still_shows_the_sweeps_own(tmp_path: Path, sweep_prepared: Path) -> None:
    """models/teacher is the detector to be compressed, and can itself be brought to the next sweep."""
    sweep = sweep_of(tmp_path / "first", sweep_prepared, "onnx")
    teacher(sweep.plan, sweep.prepared, sweep.store, tmp_path / "models", lambda _: None)
    assert checkpoint.load(tmp_path / "models").spec.settings == sweep.plan.params.teacher.architecture
    variant = {"teacher": {"checkpoint": str(tmp_path / "models")}}
    plan = load_plan(write_params(tmp_path / "next", grid__methods__distillation=[variant]))
    assert plan.cells[2].name == "distillation"


def test_what_was_not_trained_says_nothing_of_trainings(tmp_path: Path, sweep_prepared: Path) -> None:
    """With the brought teacher stored, and nothing else, the rest is forecast to take no longer than before."""
    sweep = sweep_of(tmp_path / "sweep", sweep_prepared, "checkpoint")
    store_brought(sweep.plan, sweep.data, sweep.store)
    node = next(node for node in graph_in(sweep).nodes.values() if node.given)
    base, profile = lay_foundation(sweep.plan, sweep_prepared), sweep.plan.design_profile
    make_node(node, Context(prepared=sweep_prepared, store=sweep.store.root, design_profile=profile, foundation=base))
    assert forecast(sweep.plan, sweep_prepared, sweep.store, None).cpu_s <= sweep.forecast.cpu_s
