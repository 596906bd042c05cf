"""What is said of a brought teacher that cannot teach: one message, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detection import checkpoint
from detection.checkpoint import fresh
from detection.compact.architecture import Architecture
from detection.data.dataset import load_split
from detection.frozen import InputError
from detection.spec import Spec
from flows.sweep.context import lay_foundation
from flows.sweep.given_teachers import given_teachers
from flows.sweep.inputs import inputs
from flows.sweep.plan_checks import load_plan
from tests.compressors.fixed_file_factory import DECODE, SIZE, fixed_detector, write_fixed
from tests.flows.sweep_factory import TINY_TREE, write_params

TINY: dict[str, Any] = TINY_TREE["teacher"]["architecture"]
PLACE = r"params.yaml: grid\.methods\.distillation\.0\.teacher\."
AT = r"^grid\.methods\.distillation\.0\.teacher\."
CLASSES = tuple("0123456789")
TWO_LEVELS: dict[str, Any] = {"levels": [8, 16], "stage_widths": [16, 24, 32], "stage_depths": [1, 1, 1]}


def write(folder: Path, teacher: dict[str, Any], **more: Any) -> Path:
    """A plan whose only variant of distillation has this teacher."""
    return write_params(folder, grid__methods__distillation=[{"teacher": teacher} | more])


def saved(folder: Path, classes: tuple[str, ...] = CLASSES, **changed: Any) -> dict[str, Any]:
    """A checkpoint named `theirs` of the tiny family, with some settings changed."""
    spec = Spec(classes=classes, input_size=(64, 96), settings=Architecture.model_validate(TINY | changed))
    checkpoint.save(fresh(spec, 1), folder / "theirs")
    return {"checkpoint": "theirs"}


def file(folder: Path, *classes: str, size: tuple[int | str, int | str] = SIZE) -> dict[str, Any]:
    """A file `theirs.onnx` that sees one box, of these classes."""
    write_fixed(folder / "theirs.onnx", [((2, 4, 18, 20), tuple(0.5 for _ in classes))], size)
    return {"onnx": "theirs.onnx", "classes": list(classes), "decode": DECODE}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"box_bins": 8}, PLACE + r"checkpoint: teacher.box_bins 8: the student has 4"),
        (
            TWO_LEVELS,
            PLACE + r"checkpoint: teacher.levels \(8, 16\): the student's \(8, 16, 32\) must be among them\.$",
        ),
    ],
    ids=["bins", "levels"],
)
def test_a_checkpoint_that_does_not_fit_the_student(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Named with the variant, when the params are read."""
    with pytest.raises(InputError, match=message):
        load_plan(write(tmp_path, saved(tmp_path, **changed)))


def test_a_checkpoint_that_cannot_see_the_pictures(tmp_path: Path) -> None:
    """Its coarsest level has a stride that the student does not have."""
    student = {"teacher__architecture": TINY | TWO_LEVELS, "data__input_size": [64, 80]}
    variant = {"teacher": saved(tmp_path)}
    with pytest.raises(InputError, match=PLACE + r"checkpoint: pictures of \(64, 80\) \(height, width\) do not fit its strides\.$"):
        load_plan(write_params(tmp_path, grid__methods__distillation=[variant], **student))


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    """No folder, or one with a user's file in it, which teaches by its boxes."""
    with pytest.raises(InputError, match=PLACE + "checkpoint: .*nowhere: no spec.json here"):
        load_plan(write(tmp_path, {"checkpoint": "nowhere"}))
    theirs = fixed_detector(tmp_path / "theirs.onnx", [((2, 4, 18, 20), (0.5,))], ("0",))
    checkpoint.save(theirs, tmp_path / "theirs")
    with pytest.raises(InputError, match=PLACE + "checkpoint: theirs is of family 'onnx'; one that teaches is of 'compact'"):
        load_plan(write(tmp_path, {"checkpoint": "theirs"}))


@pytest.mark.parametrize("classes", [CLASSES[:9], CLASSES[::-1], (*CLASSES, "dog")], ids=["fewer", "order", "more"])
def test_a_checkpoint_of_other_classes(classes: tuple[str, ...], tmp_path: Path, sweep_prepared: Path) -> None:
    """Its scores have no names: they have to be those of the data, in order."""
    assert load_split(sweep_prepared, "val").classes == CLASSES
    plan = load_plan(write(tmp_path, saved(tmp_path, classes)))
    shown = ", ".join(classes[:5])
    with pytest.raises(
        InputError, match=AT + rf"checkpoint: theirs was trained for {shown} and \d more, and the data has 0, 1, 2, 3, 4"
    ):
        lay_foundation(plan, sweep_prepared)


def test_a_file_without_a_class_of_the_data(tmp_path: Path, sweep_prepared: Path) -> None:
    """It could teach nothing."""
    plan = load_plan(write(tmp_path, file(tmp_path, "dog", "cat")))
    with pytest.raises(InputError, match=AT + r"classes: dog, cat, none of which the data has \(0, 1, 2, 3, 4 and 5 more\)"):
        lay_foundation(plan, sweep_prepared)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"onnx": "nowhere.onnx"}, r"onnx: .*nowhere\.onnx: no such file"),
        ({"classes": "nowhere.txt"}, r"classes: .*nowhere\.txt: no such file"),
        ({"decode": "auto"}, "decode: auto stands for what labelled pictures tell"),
        ({"input": {"colour": "grey"}}, "input.colour: grey, but theirs.onnx takes 3 channels"),
        ({"clases": []}, r"clases: no such setting; did you mean 'classes'\?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_file_that_cannot_be_read(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    """As a file that is to be compressed, under the name of the variant."""
    with pytest.raises(InputError, match=PLACE + message):
        load_plan(write(tmp_path, file(tmp_path, "0") | changed))


@pytest.mark.parametrize(("size", "taken"), [(SIZE, SIZE), (("height", "width"), (64, 96))], ids=["fixed", "open"])
def test_a_file_sees_pictures_at_its_own_size(size: tuple[int | str, int | str], taken: tuple[int, int], tmp_path: Path) -> None:
    """Where that is open, at the data's."""
    plan = load_plan(write(tmp_path, file(tmp_path, "0", size=size)))
    (detector,) = given_teachers(plan).values()
    assert detector.spec.input_size == taken


def test_a_search_for_smaller_pictures_needs_a_teacher_that_sees_them(tmp_path: Path, sweep_prepared: Path) -> None:
    """The checkpoint's own strides count, 32 here, and not those of the sweep's teacher; a file sees them at its own size."""
    changes = {"teacher__architecture": TINY | TWO_LEVELS, "grid__methods__nas": [{"input_share": 0.5}]}

    def lay(teacher: dict[str, Any]) -> None:
        plan = load_plan(write_params(tmp_path, grid__methods__distillation=[{"teacher": teacher}], **changes))
        lay_foundation(plan, sweep_prepared)

    lay(saved(tmp_path, **TWO_LEVELS))
    lay(file(tmp_path, "0"))
    with pytest.raises(
        InputError, match=r"nas\.input_share leaves pictures of \(32, 48\) .* do not fit the strides of the teacher"
    ):
        lay(saved(tmp_path))


def test_another_teacher_in_the_same_place_is_shown_to_dvc(tmp_path: Path) -> None:
    """Which cannot see the folder that a plan names."""
    seen = []
    for widths in ([16, 16, 24, 32], [16, 24, 24, 32]):
        plan = load_plan(write(tmp_path, saved(tmp_path, stage_widths=widths)))
        seen.append({path.name: path.read_text() for path in inputs(plan, tmp_path / "inputs", tmp_path / "prepared")}["grid.json"])
    assert seen[0] != seen[1]
