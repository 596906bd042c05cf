"""The command `inspect` on a file that finds squares: what it says, what it writes into the plan, and when it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detection.boxes import Resize
from detection.file_interface.interface import PictureForm
from detection.frozen import InputError
from flows.sweep.params import read_plan
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.inspect.square_file import DETECTOR, OWN_SHAPE, PLAN, SOME_SHAPES, Head, Shapes, write_pictures, write_square_file

BGR = PictureForm(colour="bgr", scale=1.0)


def made(
    folder: Path, plan: str = PLAN + DETECTOR, form: PictureForm = BGR, head: Head = "yolov8", resize: Resize = "stretch",
    shapes: Shapes = SOME_SHAPES,
) -> Path:  # fmt: skip
    """A folder with a file, pictures and a plan."""
    write_square_file(folder / "squares.onnx", form, head)
    write_pictures(folder / "pictures", resize, shapes)
    (folder / "plan.yaml").write_text(plan)
    return folder


def test_a_file_without_labels_is_described(sixfold: Sixfold, tmp_path: Path) -> None:
    """What int8 reaches comes first; then the file, its operators, the estimates; and what to do next."""
    ended = sixfold(made(tmp_path), "inspect", "squares.onnx")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("int8 reaches ")
    for said in (
        "operator set 13",
        "input pictures: float32, 96 x 128 (height x width)",
        ": 1 x 7 x 12",
        "MaxPool",
        "raspberry-pi-5",
    ):
        assert said in ended.out
    assert "Next: `sixfold inspect FILE --data PLAN`" in ended.out


def test_where_int8_does_not_pay_it_is_said_first(sixfold: Sixfold, tmp_path: Path) -> None:
    """A device that computes int8 at the speed of float is named with both times, before the tables."""
    profiles = "measure: {profiles: [jetson-nano]}\n"
    ended = sixfold(made(tmp_path, PLAN + DETECTOR + profiles), "inspect", "--params", "plan.yaml")
    lines = ended.out.splitlines()
    told = [line for line in lines if "int8 does not pay on" in line]
    assert len(told) == 1
    assert re.match(r"int8 does not pay on jetson-nano: estimated hardly faster than float, (\S+) ms against \1\.", told[0])
    assert lines.index(told[0]) < next(row for row, line in enumerate(lines) if "M multiply-adds" in line)


def test_what_was_found_is_written_and_the_sweep_takes_it(sixfold: Sixfold, tmp_path: Path) -> None:
    """Numbers, colours, resizing and preset, each decided; comments of the plan stay. Before, it says which command to run."""
    made(tmp_path)
    with pytest.raises(InputError, match="Run `sixfold inspect --params PLAN --write`"):
        _ = read_plan(tmp_path / "plan.yaml").given
    ended = sixfold(tmp_path, "inspect", "--params", "plan.yaml", "--write")
    assert (ended.code, ended.err) == (0, "")
    assert "read as yolov8, fed as BGR, 0 to 255, stretched: mAP 1.000, mAP50 1.000 on 10 pictures of val" in ended.out
    assert "does not tell" not in ended.out
    assert "resize: clearly stretch, not letterbox as in the plan or by default" in ended.out
    fed = [line for line in ended.out.splitlines() if line.count("│") == 6 and ("letterbox" in line or "stretch" in line)]
    assert len(fed) == 28, "the whole table"
    assert "Next: `sixfold prepare --params plan.yaml`, and so on" in ended.out
    text = (tmp_path / "plan.yaml").read_text()
    assert text == PLAN + "  resize: stretch\n  input_size: [96, 128]\n" + DETECTOR + (
        "  input: {colour: bgr, scale: 1.0}\n  decode: yolov8\n"
    )
    plan = read_plan(tmp_path / "plan.yaml")
    assert plan.given is not None
    assert plan.given.spec.classes == ("red", "olive", "sky")


def test_what_val_leaves_open_is_named_in_the_plan(sixfold: Sixfold, tmp_path: Path) -> None:
    """Pictures of the input's own shape do not tell how to resize. Written once more, the note stands there once."""
    folder = made(tmp_path, shapes=OWN_SHAPE)
    for _ in range(2):
        ended = sixfold(folder, "inspect", "--params", "plan.yaml", "--write")
        assert ended.code == 0
        assert "val does not tell resize letterbox from stretch" in ended.out
        assert "letterbox stays, as in the plan or by default: decide yourself" in ended.out
        text = (folder / "plan.yaml").read_text()
        assert text.count("  resize: letterbox  # val does not tell resize letterbox from stretch\n") == 1
        assert text.count("does not tell") == 1


def test_readings_that_val_does_not_tell_apart_are_not_written(sixfold: Sixfold, tmp_path: Path) -> None:
    """Softmax or sigmoid: both are shown, the rest is written, and one that is declared is kept."""
    folder = made(tmp_path, head="softmax")
    ended = sixfold(folder, "inspect", "--params", "plan.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert "decode: val does not tell detr with " in ended.out
    assert "val does not tell these apart, although they detect differently:" in ended.out
    assert "declare one of these; then `sixfold prepare --params plan.yaml`" in ended.out
    assert ended.out.count("form: softmax") == ended.out.count("form: sigmoid") == 1
    ended = sixfold(folder, "inspect", "--params", "plan.yaml", "--write")
    refused(ended, "plan.yaml: `decode` is not written, since 2 ways are equal", out="int8 reaches")
    text = (folder / "plan.yaml").read_text()
    assert "decode" not in text
    assert "  input: {colour: bgr, scale: 1.0}\n" in text
    shown = ended.out[ended.out.rindex("  decode:") :].replace("form: cxcywh", "form: cxcywh, order: xy")  # which is the default
    (folder / "plan.yaml").write_text(text + shown)
    ended = sixfold(folder, "inspect", "--params", "plan.yaml", "--write")
    assert (ended.code, ended.err) == (0, "")
    assert "what the plan declares stays" in ended.out
    assert (folder / "plan.yaml").read_text() == text + shown


def test_a_file_is_judged_by_the_data_of_a_plan_without_a_detector(sixfold: Sixfold, tmp_path: Path) -> None:
    """Its classes are then those of the data, and the section that is missing is written."""
    ended = sixfold(made(tmp_path, PLAN), "inspect", "squares.onnx", "--data", "plan.yaml", "--write")
    assert (ended.code, ended.err) == (0, "")
    detector = read_plan(tmp_path / "plan.yaml").params.detector
    assert detector is not None
    assert (detector.onnx, detector.classes, detector.input, detector.decode) == (
        Path("squares.onnx"), ("red", "olive", "sky"), BGR, "yolov8",
    )  # fmt: skip


def test_a_teacher_is_not_given_a_file(sixfold: Sixfold, tmp_path: Path) -> None:
    """The plan would be none any more."""
    plan = PLAN + "teacher: {threads: 1}\n"
    ended = sixfold(made(tmp_path, plan), "inspect", "squares.onnx", "--params", "plan.yaml", "--write")
    refused(ended, "has a `teacher` section, but a file is not trained. Take it out", out="int8 reaches")
    assert (tmp_path / "plan.yaml").read_text() == plan


@pytest.mark.parametrize(
    ("head", "classes", "words"),
    [
        ("yolov8", "[sky, red, olive]", "none fits: none of 6 ways"),
        ("softmax", "[red, olive, sky, grey, black, white]", "no preset takes outputs of these shapes with 6 classes"),
    ],
)
def test_where_nothing_fits_the_file_is_described_all_the_same(
    sixfold: Sixfold, tmp_path: Path, head: Head, classes: str, words: str
) -> None:
    """The outputs are what the parts of a declaration are about."""
    folder = made(tmp_path, PLAN + DETECTOR.replace("[red, olive, sky]", classes), head=head)
    ended = sixfold(folder, "inspect", "--params", "plan.yaml")
    refused(ended, words, "`detector.classes`", out="int8 reaches")
    assert ("how it differs, or what values contradict it" in ended.out) == (head == "yolov8")
    assert (": 1 x 7 x 12" if head == "yolov8" else ": 1 x 12 x 4") in ended.out


def test_the_data_has_to_be_named(sixfold: Sixfold, tmp_path: Path) -> None:
    """Generated digits, the default, tell nothing about a file."""
    folder = made(tmp_path, "sweep: squares\nstore: {url: store}\n" + DETECTOR)
    refused(sixfold(folder, "inspect", "--params", "plan.yaml"), "data: the plan has no such section", out="int8 reaches")
