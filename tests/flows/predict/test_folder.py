"""What is written, where boxes are drawn, and what is never replaced."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection.frozen import InputError
from flows.records.own_folder import checked_place
from flows.report.drawing import CLASS_COLOURS_RGB
from tests.flows.predict_factory import IN_PICTURE, Predicted, write_best, write_pictures


def test_predictions_say_what_their_numbers_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COCO boxes in pixels of the original, the file as it was named, its size, and its drawing."""
    write_best(tmp_path / "x86")
    write_pictures(tmp_path / "in", "a.png")
    monkeypatch.chdir(tmp_path)
    content = Predicted("x86", ["in"], Path("out")).content
    assert content["header"] == {
        "bbox": "COCO: [x, y, width, height] in pixels of the original picture, x and y of the box's upper left corner",
        "model": "x86",
        "runtime": content["header"]["runtime"],
        "score_threshold": 0.35,
        "iou_threshold": 0.6,
        "classes": ["cat", "dog"],
    }
    assert re.fullmatch(r"onnxruntime \d+\.\d+\.\d+", content["header"]["runtime"])
    assert content["pictures"] == [{"file_name": "in/a.png", "height": 128, "width": 192, "drawn": "a.jpg"}]
    assert content["predictions"] == [
        {"file_name": "in/a.png", "category": name, "bbox": list(bbox), "score": score} for name, score, bbox in IN_PICTURE
    ]


def test_boxes_are_drawn_on_the_original_at_its_own_size(tmp_path: Path) -> None:
    """The lower side of the cat's box, in the colour of its class; a picture ten times as large gets lines that can be seen."""
    best = write_best(tmp_path / "x86")
    for factor in (1, 10):
        size = 128 * factor, 192 * factor
        Predicted(best, [write_pictures(tmp_path / "in", size=size)], tmp_path / "out")
        drawn = cv2.imread(str(tmp_path / "out/a.jpg"))[:, :, ::-1].astype(int)
        assert drawn.shape == (*size, 3)
        np.testing.assert_allclose(drawn[120 * factor, 60 * factor], CLASS_COLOURS_RGB[0], atol=60)  # noise bleeds in JPEG


def test_pictures_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    """Each has a drawing of its own, and predictions.json says which."""
    images = write_pictures(tmp_path / "in", "one/a.png", "two/a.png")
    found = Predicted(write_best(tmp_path / "x86"), [images / "one", images / "two"], tmp_path / "out")
    assert found.files == ["a-2.jpg", "a.jpg", "predictions.json"]
    assert [own["drawn"] for own in found.content["pictures"]] == ["a.jpg", "a-2.jpg"]


def test_what_an_earlier_run_wrote_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing of it is left, and nothing of the making."""
    best, out = write_best(tmp_path / "x86"), tmp_path / "made/out"
    Predicted(best, [write_pictures(tmp_path / "in", "a.png")], out)
    again = Predicted(best, [write_pictures(tmp_path / "other", "b.png")], out, as_json=False)
    assert again.files == ["b.jpg"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    """A user's own pictures, and a file that was put next to drawings later."""
    best, images = write_best(tmp_path / "x86"), write_pictures(tmp_path / "in")
    with pytest.raises(InputError, match=r"--out .*in: holds 'a\.png', which `sixfold predict` did not write"):
        Predicted(best, [images], images)
    Predicted(best, [images], tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt'.*Name another place or move its content"):
        Predicted(best, [images], tmp_path / "out")
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


def test_places_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a folder below a file, and the folder one stands in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for out, words in (("file", "a file, but `sixfold predict` writes a folder"), ("file/out", "no folder"), (".", "you are in")):
        with pytest.raises(InputError, match=words):
            checked_place(Path(out), "predict")
    assert checked_place(Path("new.v2/out"), "predict") == tmp_path / "new.v2/out"
