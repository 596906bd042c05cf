"""The configuration of a data set, as it comes out of a params file."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from detection.data.sources import READERS, CocoSource, Data, GeneratedSource, Source, VocSource, YoloSource, read_source


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"kind": "generated"}, GeneratedSource),
        ({"kind": "coco", "root": "data", "annotations": "labels.json"}, CocoSource),
        ({"kind": "voc", "root": "data"}, VocSource),
        ({"kind": "yolo", "root": "data"}, YoloSource),
    ],
)
def test_kind_chooses_the_source(given: dict[str, str], kind: type) -> None:
    """One word in the params file decides which reader and which fields apply."""
    assert type(Data.model_validate({"name": "mine", "source": given}).source) is kind


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ({"kind": "labelme", "root": "data"}, "'generated', 'coco', 'voc', 'yolo'"),
        ({"kind": "voc", "root": "data", "annotations": "x"}, "Extra inputs are not permitted"),
        ({"kind": "coco", "root": "data"}, "Field required"),
        ({"kind": "voc", "root": "data", "classes": ["a", "a"]}, "name one class twice"),
        ({"kind": "generated", "object_size_px": [20, 10]}, "the greater one"),
        ({"kind": "generated", "object_size_px": [12, 60]}, "half the shorter side"),
        ({"kind": "generated", "opacity": [0.5, 1.5]}, "between 0 and 1"),
        ({"kind": "generated", "turn_deg": 90}, "less than or equal to 30"),
        (
            {"kind": "coco", "root": "d", "annotations": {"train": "a", "val": "b", "test": "c"}, "split_shares": {}},
            "contradict each other",
        ),
        (
            {"kind": "coco", "root": "d", "annotations": "a", "images": {"train": "a", "val": "b", "test": "c"}},
            "needs `annotations` per split",
        ),
    ],
)
def test_impossible_sources_are_refused_at_the_door(source: dict[str, object], complaint: str) -> None:
    """Every contradiction is found when the params file is read, before any picture is."""
    with pytest.raises(ValidationError, match=complaint):
        Data.model_validate({"name": "mine", "source": source})


def test_every_source_has_a_reader() -> None:
    """A further kind cannot be read, or its files be counted, as if it were another."""
    assert set(READERS) == set(get_args(Source))


def test_the_default_data_needs_no_folder(tmp_path: Path) -> None:
    """An empty section gives the ten digits, from nothing on disk."""
    labelled = read_source(Data().source, tmp_path / "nowhere", seed=0)
    assert labelled.classes == tuple("0123456789")
    assert {split: len(pictures) for split, pictures in labelled.splits.items()} == {"train": 2000, "val": 200, "test": 400}
