"""`sixfold init --detector`: an ONNX file with the classes of its scores, or a trained detector of ours."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from detection import checkpoint
from detection.checkpoint import Detector
from detection.data.dataset import SPLITS
from detection.data.sources import read_source
from flows.init import looked_at
from flows.inspect.plan_text import Setting, with_settings
from flows.sweep.params import read_plan
from flows.sweep.plan_checks import load_plan
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.init_factory import CLASSES, Write, write_coco, write_voc, write_yolo

PI = ("--device", "raspberry-pi-5")
"""A device that is known on every machine."""
DATA = ("cat", "motorcycle", "dog")
"""Classes of the data in the tests about names; `theirs` has ten, so their number is not looked at before `inspect`."""


def test_an_onnx_file_is_named_with_what_is_known_of_it(sixfold: Sixfold, theirs: Path, tmp_path: Path) -> None:
    """Its own size, the data's classes, and no training; `sixfold inspect` comes next, and nothing is timed for a search."""
    classes = tuple(f"kind {number}" for number in range(10))
    data = str(write_yolo(tmp_path / "mine", classes))
    refused(
        sixfold(tmp_path, "init", data, *PI, "--detector", str(theirs), "--calibrate"),
        "in an ONNX file nothing is searched",
        out="yolo",
    )
    ended = sixfold(tmp_path, "init", data, *PI, "--detector", str(theirs))
    assert ended.code == 0, ended
    assert "Next: `sixfold inspect --params mine.yaml --write`, then" in ended.out
    plan = read_plan(tmp_path / "mine.yaml")
    assert plan.params.data.input_size == (64, 96)
    assert plan.params.detector is not None
    assert (plan.params.detector.classes, plan.params.detector.decode) == (classes, "auto")
    assert (plan.base / plan.params.detector.onnx).samefile(theirs)
    assert "teacher" not in plan.params.model_fields_set
    found = {"data": {"resize": Setting("stretch")}, "detector": {"decode": Setting("boxes_scores")}}
    (tmp_path / "mine.yaml").write_text(with_settings(plan.text, found))
    written = load_plan(tmp_path / "mine.yaml").params
    assert (written.data.resize, written.detector and written.detector.decode) == ("stretch", "boxes_scores"), (
        "inspect can write it"
    )


@pytest.mark.parametrize(("classes", "setting", "size"), [(CLASSES, "checkpoint", (64, 96)), (("cow",), "start_from", (96, 128))])
def test_a_detector_of_ours_is_taken_or_trained_further(
    classes: tuple[str, ...], setting: str, size: tuple[int, int], tiny_detector: Detector, sixfold: Sixfold, tmp_path: Path
) -> None:
    """As it is, at its own size, where the classes are the data's; otherwise training starts from it."""
    own = checkpoint.fresh(tiny_detector.spec.model_copy(update={"classes": classes}), 0)
    checkpoint.save(own, tmp_path / "own")
    ended = sixfold(tmp_path, "init", str(write_yolo(tmp_path / "mine")), *PI, "--detector", "own")
    assert ended.code == 0, ended
    params = load_plan(tmp_path / "mine.yaml").params
    assert getattr(params.teacher, setting) == Path("own")
    assert params.teacher.training.augmentation.mosaic == 0, "mosaics are for random weights"
    assert params.data.input_size == size


@pytest.mark.parametrize("inside", [False, True], ids=["in a list next to it", "in the file"])
@pytest.mark.parametrize(
    ("names", "wanted", "told"),
    [
        (("dog", "kite", "cat", "motorcycle"), None, "in the order of the file's scores"),
        (("cat", "motorbike", "dog"), DATA, "the data's, in the order of {whence}, which has motorbike for motorcycle"),
        (("dog", "motorbike", "cat"), None, "where the data's motorcycle are not: name them alike"),
        (("a", "b", "c"), None, "where the data's cat, motorcycle, dog are not: name them alike"),
    ],
)  # fmt: skip
def test_classes_are_those_of_the_file(
    names: tuple[str, ...], wanted: tuple[str, ...] | None, told: str, inside: bool, sixfold: Sixfold, theirs: Path, tmp_path: Path
) -> None:
    """Where it has them, as Ultralytics writes them, or a list lies next to it. Other spellings in one order become the data's."""
    model = onnx.load(theirs)
    if inside:
        onnx.helper.set_model_props(model, {"names": str(dict(enumerate(names)))})
    else:
        (tmp_path / "classes.txt").write_text("\n".join(names))
    onnx.save(model, tmp_path / "theirs.onnx")
    ended = sixfold(tmp_path, "init", str(write_yolo(tmp_path / "mine", DATA)), *PI, "--detector", "theirs.onnx")
    assert ended.code == 0, ended
    plan = read_plan(tmp_path / "mine.yaml")
    assert plan.params.detector is not None
    assert plan.params.detector.names(plan.base) == (wanted or names)
    assert told.format(whence="the file" if inside else "classes.txt") in ended.out


@pytest.mark.parametrize(("write", "counts"), [(write_voc, [4, 4, 4]), (write_coco, [4, 4, 4]), (write_yolo, [6, 3, 3])])
def test_what_is_not_trained_needs_few_pictures_in_train(
    write: Write, counts: list[int], sixfold: Sixfold, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third at most, for calibration; splits of the user's own stay, and so does train where it would be too few."""
    data = str(write(tmp_path / "mine"))
    for least, wanted in ((4, counts), (5, [6, 3, 3] if write is write_yolo else [8, 2, 2])):
        monkeypatch.setattr(looked_at, "LEAST_PICTURES", least)
        ended = sixfold(tmp_path, "init", data, *PI, "--detector", str(theirs), "--force")
        assert ended.code == 0, ended
        plan = read_plan(tmp_path / "mine.yaml")
        labelled = read_source(plan.params.data.source, plan.base, plan.params.seed)
        assert [len(labelled.splits[split]) for split in SPLITS] == wanted
        told = "(train {}, val {}, test {})".format(*wanted)
        assert told in ended.out
        assert ("nothing is trained" in plan.text) == ("split_shares" in plan.text) == (wanted == [4, 4, 4])


def test_far_paths_are_absolute(sixfold: Sixfold, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with which the plan's folder has nothing but the root in common; nearer ones are relative, so both may be moved."""
    (tmp_path / "plans").mkdir()
    data = write_yolo(tmp_path / "mine")
    assert sixfold(tmp_path, "init", str(data), *PI, "--detector", str(theirs)).code == 0
    plan = read_plan(tmp_path / "plans/mine.yaml")
    assert plan.params.detector is not None
    assert not plan.params.detector.onnx.is_absolute()
    monkeypatch.setattr("flows.init.looked_at.os.path.commonpath", lambda paths: "/")
    assert sixfold(tmp_path, "init", str(data), *PI, "--detector", str(theirs), "--force").code == 0
    plan = read_plan(tmp_path / "plans/mine.yaml")
    assert plan.params.detector is not None
    assert plan.params.detector.onnx == theirs.resolve()
