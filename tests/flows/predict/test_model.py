"""Every kind of name that MODEL may be gives the same boxes, and what cannot be opened is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.file_interface.interface import FileInterface, PictureForm
from detection.frozen import InputError
from flows.predict.model import open_model
from flows.records.schema import write_records
from flows.report.model_export import ModelInput
from flows.sweep.params import read_plan
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from tests.flows.predict_factory import (
    CLASSES,
    IN_PICTURE,
    INPUT_SIZE,
    Predicted,
    write_best,
    write_ours,
    write_pictures,
    write_users,
)
from tests.flows.sweep_factory import Sweep
from tests.hardware_profiles.tiny_model import write_model


def test_a_folder_of_a_recommended_model_is_read_by_its_card(tmp_path: Path) -> None:
    """Classes, thresholds and runtime are the card's; the boxes, worked by hand, are twice those in the input."""
    best = write_best(tmp_path / "x86", score_threshold=0.5, iou_threshold=0.7)
    model = open_model(str(best), None, None, 1)
    assert (model.classes, model.runtime, model.session.input_size) == (CLASSES, "onnxruntime", INPUT_SIZE)
    assert (model.about.score_threshold, model.suppressed_above) == (0.5, 0.7)
    assert Predicted(best, [write_pictures(tmp_path / "in")], tmp_path / "out").boxes == IN_PICTURE


def test_the_file_in_such_a_folder_is_as_good_as_the_folder(tmp_path: Path) -> None:
    """The card next to it names the classes; a card of another file does not."""
    best = write_best(tmp_path / "x86")
    assert open_model(str(best / "model.onnx"), None, None, 1).classes == CLASSES
    assert open_model(str(write_ours(best / "other.onnx")), None, None, 1).classes == ("class 0", "class 1")


def test_a_lone_file_of_ours_has_numbered_classes_and_the_thresholds_of_reports(tmp_path: Path) -> None:
    """Nobody names them; 0.35 and 0.6 are the defaults of a plan's report."""
    model = open_model(str(write_ours(tmp_path / "lone.onnx")), None, None, 1)
    assert (model.classes, model.about.score_threshold, model.suppressed_above) == (("class 0", "class 1"), 0.35, 0.6)


def test_a_file_opens_in_the_runtime_that_is_named(tmp_path: Path) -> None:
    """OpenVINO gives the same boxes of the same ONNX file."""
    found = Predicted(write_best(tmp_path / "x86"), [write_pictures(tmp_path / "in")], tmp_path / "out", runtime="openvino")
    assert found.boxes == IN_PICTURE
    assert " in openvino (1 thread; " in found.lines[0]


def test_an_openvino_file_is_recognised_by_its_suffix(tmp_path: Path) -> None:
    """The .xml that OpenVINO writes, with its .bin."""
    openvino = import_openvino()
    openvino.save_model(
        openvino.Core().read_model(write_ours(tmp_path / "ours.onnx")), tmp_path / "ours.xml", compress_to_fp16=False
    )
    found = Predicted(tmp_path / "ours.xml", [write_pictures(tmp_path / "in")], tmp_path / "out")
    assert [(score, bbox) for _, score, bbox in found.boxes] == [(score, bbox) for _, score, bbox in IN_PICTURE]
    assert " in openvino (1 thread; " in found.lines[0]


def write_interface(folder: Path, plan: Path) -> None:
    """Put next to a user's file what its plan declares, but for the selection: each object comes once."""
    asked = read_plan(plan).params.detector
    assert asked is not None
    assert not isinstance(asked.decode, str)
    FileInterface(
        layout="nchw", dtype="float32", picture=PictureForm(), outputs=("found",),
        decoding=asked.decode.model_copy(update={"select": "best"}), classes=2,
    ).write(folder)  # fmt: skip


def test_a_file_with_an_interface_next_to_it_is_fed_and_read_by_it(tmp_path: Path) -> None:
    """Planes in, centres and sizes out; nothing is to be suppressed, so the second cat stays."""
    users, plan = write_users(tmp_path)
    write_interface(tmp_path, plan)
    found = Predicted(users, [write_pictures(tmp_path / "in")], tmp_path / "out")
    assert [(name, score) for name, score, _ in found.boxes] == [("class 0", 0.9), ("class 0", 0.8), ("class 1", 0.6)]
    assert found.content["header"]["iou_threshold"] is None


def test_a_recommended_model_may_be_a_users_file(tmp_path: Path) -> None:
    """Its folder holds card and interface: names and the way of resizing from the one, feeding and reading from the other."""
    users, plan = write_users(tmp_path)
    best = write_best(tmp_path / "x86", input=ModelInput(size=INPUT_SIZE, resize="stretch"))
    users.replace(best / "model.onnx")
    write_interface(best, plan)
    found = Predicted(best, [write_pictures(tmp_path / "in", size=(128, 96))], tmp_path / "out")
    assert found.boxes[0] == ("cat", 0.9, (10.0, 40.0, 40.0, 80.0))
    assert len(found.boxes) == 3


@pytest.mark.parametrize("runtime", [None, "openvino"])
def test_a_users_file_is_read_as_the_plan_describes_it(runtime: str | None, tmp_path: Path) -> None:
    """The same boxes, under the plan's names of classes, in either runtime."""
    users, plan = write_users(tmp_path)
    found = Predicted(users, [write_pictures(tmp_path / "in")], tmp_path / "out", params=plan, runtime=runtime)
    assert found.boxes == IN_PICTURE


def test_a_plan_that_stretches_pictures_is_obeyed(tmp_path: Path) -> None:
    """A picture of 128 x 96 pixels in an input of 64 x 96: rows are doubled on the way back, columns stay."""
    users, plan = write_users(tmp_path, resize="stretch")
    found = Predicted(users, [write_pictures(tmp_path / "in", size=(128, 96))], tmp_path / "out", params=plan)
    assert [bbox for _, _, bbox in found.boxes] == [(10.0, 40.0, 40.0, 80.0), (60.0, 16.0, 30.0, 40.0)]


def test_a_cell_is_taken_from_the_store_of_the_plan(swept: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its classes are the data's, its thresholds the plan's, and its only runtime need not be named."""
    monkeypatch.chdir(swept.folder)
    model = open_model("pruning+quantization", None, None, 1)
    assert (model.runtime, model.classes) == ("onnxruntime", swept.data.classes)
    assert (model.about.score_threshold, model.session.input_size) == (swept.plan.params.report.score_threshold, (64, 96))


def test_a_reference_is_named_like_a_cell_and_several_runtimes_want_a_choice(
    swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files for two runtimes neither is taken by chance."""
    cells = swept_copy.cells
    own = cells.cells[0]
    both = dict.fromkeys(("onnxruntime", "openvino"), own.artifacts["onnxruntime"])
    reference = own.model_copy(update={"cell": "reference:narrow-0.5", "artifacts": both})
    write_records(swept_copy.cells_path, cells.model_copy(update={"references": (reference,)}))
    monkeypatch.chdir(swept_copy.folder)
    assert open_model("reference:narrow-0.5", None, "openvino", 1).runtime == "openvino"
    with pytest.raises(InputError, match=r"reference:narrow-0\.5: has 2 files\. Name one with --runtime: onnxruntime or openvino"):
        open_model("reference:narrow-0.5", None, None, 1)
    with pytest.raises(InputError, match=r"none: has no file for openvino\. Name one with --runtime: onnxruntime\."):
        open_model("none", None, "openvino", 1)


def test_a_name_of_nothing_is_told_what_there_is(swept: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a sweep, the three kinds of names; inside one, the nearest cells as well."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"model\.onnx: no file, no folder with model\.json, and no cell.*Name a folder of models/best"
    ):
        open_model("model.onnx", None, None, 1)
    monkeypatch.chdir(swept.folder)
    with pytest.raises(InputError, match=r"prunning: no file, and no folder with model\.json\. As a cell: .*'pruning'"):
        open_model("prunning", None, None, 1)


def test_a_file_that_nothing_describes_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Another input than ours, or an open size; both need a plan."""
    planes = write_model(tmp_path / "planes.onnx", planes=True)
    with pytest.raises(InputError, match=r"planes\.onnx: takes float32 \(1, 3, 8, 12\) .*needs --params PLAN"):
        open_model(str(planes), None, None, 1)
    (tmp_path / "cut.onnx").write_bytes(planes.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cut\.onnx: onnxruntime cannot open it.*`sixfold inspect .*cut\.onnx`"):
        open_model(str(tmp_path / "cut.onnx"), None, None, 1)


def test_what_cannot_be_is_one_message(tmp_path: Path) -> None:
    """An unknown runtime, names that are too few, and a decoding that was not chosen yet."""
    best = write_best(tmp_path / "x86", classes=("cat",))
    with pytest.raises(InputError, match=r"--runtime 'tensorrt': allowed are onnxruntime and openvino"):
        open_model(str(best), None, "tensorrt", 1)
    with pytest.raises(InputError, match=r"gives scores of 2 classes, but 1 are named"):
        open_model(str(best), None, None, 1)
    users, plan = write_users(tmp_path, decode="auto")
    with pytest.raises(InputError, match=r"detector\.decode: auto .*Run `sixfold inspect"):
        open_model(str(users), plan, None, 1)
