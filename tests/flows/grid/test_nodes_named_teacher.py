"""A sweep whose distillation names a larger teacher: it is trained, it teaches, and the cells that asked for it pay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from detection import checkpoint
from detection.compact.architecture import architecture_of
from detection.frozen import InputError
from flows.grid.forecast import forecast
from flows.grid.nodes import NODES, read_done
from flows.records.store import Store
from flows.sweep.plan_checks import load_plan
from flows.teacher.stage import teacher
from tests.flows.sweep_entries import forget, graph_in, lend
from tests.flows.sweep_factory import TINY_TREE, Sweep, run_grid, write_params

WIDE: dict[str, Any] = TINY_TREE["teacher"]["architecture"] | {"stage_widths": [16, 24, 32, 48], "neck_width": 24}
NO_VARIATION = {"flip_horizontal": 0.5, "scale": 0, "brightness": 0, "contrast": 0, "colour": 0}
TRAIN, TEACHER_EPOCHS, RECOVERY_EPOCHS = 24, 2, 1


def prepared_sweep(folder: Path, prepared: Path, **changes: Any) -> Sweep:
    """A workspace with data and an empty store."""
    plan = load_plan(write_params(folder, grid__methods__pruning=[], grid__methods__quantization=[], **changes))
    data, store = lend(prepared, plan, folder / "prepared"), Store(folder / ".sixfold/store")
    return Sweep(folder, plan, data, store, forecast(plan, data, store, None), -1, ())


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path) -> Sweep:
    """Two cells, the control and one that learns from a larger teacher by MGD; made by the inline executor."""
    variant = {"teacher": WIDE, "features_by": "mgd"}
    sweep = prepared_sweep(tmp_path_factory.mktemp("taught"), sweep_prepared, grid__methods__distillation=[variant])
    code, said = run_grid(sweep)
    assert code == 0, said
    return sweep


def test_the_larger_teacher_taught(taught: Sweep) -> None:
    """Its node holds its architecture, the pupil's training asked it once per picture, and the pupil is as small as the control."""
    made = graph_in(taught)
    pupil = made.nodes[made.recovered["distillation"]]
    assert pupil.taught_by is not None
    larger = checkpoint.load(taught.store.open(NODES, pupil.taught_by)).spec
    assert architecture_of(larger).stage_widths == (16, 24, 32, 48)
    assert read_done(taught.store, pupil.key).teacher_forwards == RECOVERY_EPOCHS * TRAIN
    control, own = taught.cells.cells
    assert own.params == control.params
    assert own.macs == control.macs


def test_those_who_asked_for_it_pay(taught: Sweep) -> None:
    """Two epochs of 24 pictures stand in the pupil's budget and not in the control's; the weights of both have seen the same."""
    control, own = (cell.budget for cell in taught.cells.cells)
    assert control is not None
    assert own is not None
    assert (control.teacher_images, own.teacher_images) == (0, TEACHER_EPOCHS * TRAIN)
    assert (control.teacher_forwards, own.teacher_forwards) == (0, RECOVERY_EPOCHS * TRAIN)
    assert control.train_images == own.train_images == (TEACHER_EPOCHS + RECOVERY_EPOCHS) * TRAIN
    assert own.train_s > control.train_s


def test_its_training_was_forecast(taught: Sweep) -> None:
    """Two teachers of two epochs and two recoveries of one: 6 epochs of 24 pictures, counted before the run."""
    assert taught.forecast.nodes == {"teacher": 2, "recovered": 2}
    assert taught.forecast.train_images == (2 * TEACHER_EPOCHS + 2 * RECOVERY_EPOCHS) * TRAIN
    assert taught.forecast.teacher_forwards == RECOVERY_EPOCHS * TRAIN


def test_a_larger_teacher_is_forecast_to_take_longer(taught: Sweep, sweep_prepared: Path, tmp_path: Path) -> None:
    """The same graph with wider stages in the named teacher, and nothing else changed."""
    wider = WIDE | {"stage_widths": [64, 96, 128, 256]}
    slower = prepared_sweep(tmp_path, sweep_prepared, grid__methods__distillation=[{"teacher": wider}])
    assert slower.forecast.cpu_s > taught.forecast.cpu_s


def test_without_its_teacher_a_pupil_is_not_made(taught: Sweep, tmp_path: Path) -> None:
    """When the teacher is lost and the pupil too, both are made again, the teacher first; the control is not touched."""
    copy = taught.copied_to(tmp_path / "copy")
    shutil.copytree(taught.prepared, copy.prepared)
    made = graph_in(copy)
    pupil = made.nodes[made.recovered["distillation"]]
    assert pupil.taught_by is not None
    for key in (pupil.key, pupil.taught_by):
        forget(copy, NODES, key)
    code, said = run_grid(copy)
    assert code == 0, said
    assert "4 nodes: 2 stored, 2 to make" in said[0]
    assert [cell.artifacts for cell in copy.cells.cells] == [cell.artifacts for cell in taught.cells.cells]


def test_the_stage_teacher_shows_the_sweeps_own(taught: Sweep, tmp_path: Path) -> None:
    """models/teacher is the detector to be compressed, whoever else teaches."""
    teacher(taught.plan, taught.prepared, taught.store, tmp_path / "models", lambda _: None)
    assert checkpoint.load(tmp_path / "models").spec.settings == taught.plan.params.teacher.architecture


def test_a_sweep_may_remember_its_teachers_words(tmp_path: Path, sweep_prepared: Path) -> None:
    """Three epochs of recovery and a flip to two sides: the teacher is asked twice about each picture, as was planned."""
    recipe = TINY_TREE["grid"]["recovery"] | {"augmentation": NO_VARIATION}
    sweep = prepared_sweep(
        tmp_path, sweep_prepared, grid__methods__distillation=[{"cache": True}], grid__recovery=recipe | {"epochs": 3},
        teacher__training__augmentation=NO_VARIATION,
    )  # fmt: skip
    assert sweep.forecast.teacher_forwards == 2 * TRAIN
    code, said = run_grid(sweep)
    assert code == 0, said
    budgets = [cell.budget.teacher_forwards for cell in sweep.cells.cells if cell.budget]
    assert budgets == [0, 2 * TRAIN]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            {"teacher": WIDE | {"box_bins": 8}},
            r"grid.methods.distillation.0.teacher.box_bins 8: the student has 4; make them equal",
        ),
        (
            {"teacher": WIDE | {"levels": [8, 16], "stage_widths": [16, 24, 32], "stage_depths": [1, 1, 1]}},
            r"grid.methods.distillation.0.teacher.levels \(8, 16\): the student's \(8, 16, 32\) must be among them",
        ),
        ({"cache": True}, r"grid.methods.distillation.0.cache, teacher.training.augmentation: .*augmentation has scale 0.25"),
        ({"features_by": "none", "features": 2}, "grid.methods.distillation.0: .*features 2: with features_by none"),
        (
            {"features_by": "fitnet"},
            r"distillation.0.features_by: Input should be 'pkd', 'cwd', 'mgd' or 'none' \(found 'fitnet'\)$",
        ),
    ],
)
def test_impossible_settings_are_refused_at_the_door(variant: dict[str, Any], message: str, tmp_path: Path) -> None:
    """When the params are read, in one line that names the field and says what would do."""
    with pytest.raises(InputError, match=message):
        load_plan(write_params(tmp_path, grid__methods__distillation=[variant]))
