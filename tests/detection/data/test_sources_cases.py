"""Other people's data sets, made small: each is read as its owner would expect, or refused with what is wrong in which file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from detection.data.labelled import Labelled, Picture
from detection.data.sources import Data, read_source
from detection.frozen import InputError
from tests.places import SHARED

CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases beside the checkout")


def read(case: str) -> tuple[Labelled, list[Picture]]:
    """The data set of a case by its own params file, and its pictures, each read to its last pixel."""
    plan = yaml.safe_load((CASES / case / "plan.yaml").read_text())
    labelled = read_source(Data.model_validate(plan["data"]).source, CASES / case, plan["seed"])
    pictures = [picture for own in labelled.splits.values() for picture in own]
    assert {picture.pixels().shape for picture in pictures} == {(64, 96, 3)}
    return labelled, pictures


@pytest.mark.parametrize("case", ["zero_ids", "crowd_null", "size_missing", "bbox_null", "roboflow_parent", "voc_subfolders"])
def test_what_other_tools_write_is_read(case: str) -> None:
    """24 pictures of 64 x 96 with 44 boxes of two classes, whatever is missing, null or counted from 0."""
    labelled, pictures = read(case)
    assert sorted(labelled.classes) == ["blue", "red"]
    assert (len(pictures), sum(len(picture.labels) for picture in pictures)) == (24, 44)
    assert {picture.size for picture in pictures} == {(64, 96)}
    assert not any(picture.crowd.any() for picture in pictures)


def test_boxes_of_polygons_are_those_of_the_same_pictures() -> None:
    """The case with polygons alone and the one with missing sizes hold the same scenes."""
    by_name: list[dict[str, Sequence[Sequence[float]]]] = [
        {picture.file_name: picture.boxes_xyxy_px.tolist() for picture in read(case)[1]} for case in ("bbox_null", "size_missing")
    ]
    assert by_name[0] == by_name[1]


def test_a_class_that_only_groups_is_said() -> None:
    """Roboflow's parent."""
    assert read("roboflow_parent")[0].notes == ("class 'things' is left out: no box has it, and it only groups red, blue",)


def test_one_picture_by_two_names_stands_in_one_split() -> None:
    """24 pictures by 48 names."""
    labelled, pictures = read("same_picture_twice")
    splits = [{Path(picture.file_name) for picture in own} for own in labelled.splits.values()]
    assert len(pictures) == 48
    assert sum(map(len, splits)) == len(set.union(*splits)) == 24
    assert len(labelled.notes) == 3


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        ("rgb16", r"p003\.png: 16 bits a channel"),
        ("broken_exif", r"p003\.jpg: not a readable picture"),
        ("long_name", r"labels\.json: images\[0\]: file name 'p000\.jpg\?X-Amz.*has a part of 358 bytes.*A file name is a path"),
    ],
)
def test_what_cannot_be_read_is_named(case: str, complaint: str) -> None:
    """The file or the entry, and what to do."""
    with pytest.raises(InputError, match=complaint):
        read(case)
