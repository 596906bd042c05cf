"""Accuracy against labels: pictures are matched by the end of their paths, classes by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.predict.labels import read_labels
from tests.flows.predict_factory import CLASSES, Predicted, write_best, write_labels, write_pictures


def test_a_detector_that_finds_every_object_reaches_one(tmp_path: Path) -> None:
    """Ids and their order are not the model's: names decide. Also without boxes in the drawings: mAP counts nearly every score."""
    images = write_pictures(tmp_path / "in", "a.png", "b.png")
    labels = write_labels(tmp_path / "labels.json", ["a.png", "b.png"], {7: "dog", 9: "cat"})
    for score in (None, 0.99):
        found = Predicted(write_best(tmp_path / "x86"), [images], tmp_path / "out", labels=labels, score=score)
        assert found.lines[1] == "mAP 50-95 1.000, mAP50 1.000, against 4 labelled objects"
    assert found.boxes == ()


def test_a_class_that_the_model_does_not_have_counts_as_never_found(tmp_path: Path) -> None:
    """A cat that is found and a cow that cannot be: the mean of 1 and 0. Dogs, which nobody labelled, are left out."""
    images = write_pictures(tmp_path / "in")
    labels = write_labels(tmp_path / "labels.json", ["a.png"], {1: "cat", 2: "cow"})
    cow = '{"image_id": 0, "category_id": 2, "bbox": [0, 0, 9, 9]}'
    labels.write_text(labels.read_text().replace('"annotations": [', f'"annotations": [{cow}, '))
    found = Predicted(write_best(tmp_path / "x86"), [images], tmp_path / "out", labels=labels)
    assert found.lines[1:4] == [
        "mAP 50-95 0.500, mAP50 0.500, against 2 labelled objects",
        "labelled, but no classes of the model, so never found: `cow`",
        "classes of the model that the labels do not have, so left out of mAP: `dog`",
    ]


def test_labels_of_other_pictures_are_left_out(tmp_path: Path) -> None:
    """A file name is the end of a path, folders included; sizes are the labels'."""
    folder = write_pictures(tmp_path / "in", "one/a.png", "two/a.png")
    path = write_labels(tmp_path / "labels.json", ["one/a.png", "two/a.png", "three/a.png"], {1: "cat"})
    labels = read_labels(path, [folder / "two/a.png", folder / "one/a.png"], CLASSES)
    assert labels.ids == {folder / "two/a.png": 1, folder / "one/a.png": 2}
    assert labels.boxes == 2
    assert labels.sizes[folder / "one/a.png"] == (128, 192)


@pytest.mark.parametrize(
    ("names", "categories", "words"),
    [
        (["a.png"], {1: "cat"}, r"1 of 2 pictures are not in it, first .*b\.png\. Each needs an entry in `images`"),
        (
            ["a.png", "b.png"],
            {1: "cow"},
            r"its classes \(`cow`\) are none of the model's \(`cat`, `dog`\)\. Classes are matched by name",
        ),
        (["a.png", "in/a.png", "b.png"], {1: "cat"}, r"a\.png may be a\.png or in/a\.png\. Give each `file_name` the folders"),
    ],
)
def test_labels_that_do_not_fit_are_refused(names: list[str], categories: dict[int, str], words: str, tmp_path: Path) -> None:
    """A picture without an entry, no class of a name, two entries for one picture."""
    folder = write_pictures(tmp_path / "in", "a.png", "b.png")
    path = write_labels(tmp_path / "labels.json", names, categories)
    with pytest.raises(InputError, match=words):
        read_labels(path, [folder / "a.png", folder / "b.png"], CLASSES)


def test_one_entry_for_two_pictures_is_refused(tmp_path: Path) -> None:
    """Nothing says which of them it is."""
    folder = write_pictures(tmp_path / "in", "one/a.png", "two/a.png")
    path = write_labels(tmp_path / "labels.json", ["a.png"], {1: "cat"})
    with pytest.raises(InputError, match=r"'a\.png' may be .*one/a\.png or .*two/a\.png"):
        read_labels(path, [folder / "one/a.png", folder / "two/a.png"], CLASSES)
