"""The answer comes first, and a run that fails leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detection.frozen import InputError
from tests.flows.predict_factory import Predicted, write_best, write_labels, write_pictures


def test_the_answer_comes_first_and_its_parts_add_up(tmp_path: Path) -> None:
    """Pictures, boxes, time in all and its three parts, the folder; then boxes per class, then where the predictions lie."""
    images = write_pictures(tmp_path / "in", "a.png", "b.png", "c.png")
    found = Predicted(write_best(tmp_path / "x86"), [images], tmp_path / "out", threads=2)
    answer = re.fullmatch(
        r"3 pictures, 6 boxes, ([\d.]+) ms a picture in onnxruntime \(2 threads; resizing ([\d.]+), network ([\d.]+), "
        rf"selection ([\d.]+)\): {re.escape(str(tmp_path / 'out'))}",
        found.lines[0],
    )
    assert answer is not None, found.lines[0]
    whole, *parts = map(float, answer.groups())
    assert whole == pytest.approx(sum(parts), abs=0.02 + 0.01 * whole)
    assert found.table == [("class", "boxes", "pictures"), ("cat", "3", "3"), ("dog", "3", "3")]
    assert found.lines[1:] == [f"predictions: {tmp_path / 'out/predictions.json'}"]


def test_the_score_threshold_is_the_users_where_given(tmp_path: Path) -> None:
    """At 0.7 the cat alone; at 0.05 the second box as a dog too; at 0.95 nothing, which is an answer."""
    best, images = write_best(tmp_path / "x86"), write_pictures(tmp_path / "in")
    for score, counted, table in (
        (0.7, "1 picture, 1 box, ", [("cat", "1", "1")]),
        (0.05, "1 picture, 3 boxes, ", [("dog", "2", "1"), ("cat", "1", "1")]),
        (0.95, "1 picture, 0 boxes, ", []),
    ):
        found = Predicted(best, [images], tmp_path / "out", score=score, as_json=False)
        assert found.lines[0].startswith(counted)
        assert found.table[1:] == table
        assert found.files == ["a.jpg"]


def test_the_overlap_is_the_users_where_given(tmp_path: Path) -> None:
    """Of two cats that overlap by 0.905 one is found at the usual 0.6, and both above 0.95: drawn, written and counted in mAP.

    One of two makes 51 of 101 recall points, so with the dog (51 / 101 + 1) / 2.
    """
    best, images = write_best(tmp_path / "x86"), write_pictures(tmp_path / "in")
    labels = write_labels(tmp_path / "labels.json", ["a.png"], {1: "cat", 2: "dog"})
    another = '{"image_id": 0, "category_id": 1, "bbox": [24, 40, 80, 80]}'
    labels.write_text(labels.read_text().replace('"annotations": [', f'"annotations": [{another}, '))
    usual = Predicted(best, [images], tmp_path / "usual", labels=labels)
    loose = Predicted(best, [images], tmp_path / "loose", labels=labels, iou=0.95)
    assert [len(found.boxes) for found in (usual, loose)] == [2, 3]
    assert [found.lines[1].split(",")[0] for found in (usual, loose)] == ["mAP 50-95 0.752", "mAP 50-95 1.000"]
    assert loose.content["header"]["iou_threshold"] == 0.95


def test_a_run_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """A picture that cannot be read ends it before anything is written."""
    best, images, out = write_best(tmp_path / "x86"), write_pictures(tmp_path / "in"), tmp_path / "made/out"
    Predicted(best, [images], out)
    before = (out / "predictions.json").read_bytes()
    (images / "b.png").write_text("no picture")
    with pytest.raises(InputError, match="1 of 2 pictures cannot be used"):
        Predicted(best, [images], out, score=0.7)
    assert (out / "predictions.json").read_bytes() == before
    with pytest.raises(InputError, match="1 of 2 pictures cannot be used"):
        Predicted(best, [images], tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()
