"""COCO files become labelled pictures, or one clear message."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection.data.coco import CocoSource, SplitPaths, read_coco
from detection.frozen import InputError

Content = dict[str, Any]

CONTENT: Content = {
    "info": {"ignored": True},
    "images": [{"id": n, "file_name": f"{n}.png", "height": 20, "width": 30} for n in range(10)],
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 10.5, 5], "iscrowd": 0, "segmentation": []},
        {"id": 2, "image_id": 0, "category_id": 3, "bbox": [25, 10, 10, 5], "iscrowd": 1},
        {"id": 5, "image_id": 4, "category_id": 3, "bbox": [0, 0, 30, 20]},
    ],
}
ONE_FILE = CocoSource(root=Path(), annotations=Path("labels.json"), images=Path("images"))
THREE_FILES = CocoSource(
    root=Path(),
    annotations=SplitPaths(train=Path("train.json"), val=Path("val.json"), test=Path("test.json")),
    images=Path("images"),
)


def write(folder: Path, content: Content, name: str = "labels.json") -> None:
    (folder / "images").mkdir(exist_ok=True)
    for number in range(10):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(folder / "images" / f"{number}.png")
    (folder / name).write_text(json.dumps(content))


def part(*ids: int) -> Content:
    """The content with these pictures and their annotations only."""
    return CONTENT | {
        "images": [image for image in CONTENT["images"] if image["id"] in ids],
        "annotations": [annotation for annotation in CONTENT["annotations"] if annotation["image_id"] in ids],
    }


def test_one_file_is_read_and_split(tmp_path: Path) -> None:
    """Classes stand in the order of their ids, xywh becomes xyxy, crowds stay crowds, background pictures stay."""
    write(tmp_path, CONTENT)
    labelled = read_coco(ONE_FILE, tmp_path, seed=0)
    assert labelled.classes == ("cat", "dog")
    assert [len(labelled.splits[split]) for split in ("train", "val", "test")] == [7, 1, 2]
    pictures = {picture.file_name: picture for split in labelled.splits.values() for picture in split}
    assert sorted(pictures) == [f"{n}.png" for n in range(10)]
    first = pictures["0.png"]
    np.testing.assert_array_equal(first.boxes_xyxy_px, [[1, 2, 11.5, 7], [25, 10, 35, 15]])
    assert first.labels.tolist() == [1, 0]
    assert first.crowd.tolist() == [False, True]
    assert pictures["5.png"].boxes_xyxy_px.shape == (0, 4)
    assert pictures["5.png"].pixels()[0, 0].tolist() == [5, 0, 0]


def test_three_files_keep_their_splits(tmp_path: Path) -> None:
    """One file per split is taken as it is; ids may start anew in each."""
    for name, ids in (("train", (0, 1)), ("val", (4,)), ("test", (5, 6))):
        write(tmp_path, part(*ids), f"{name}.json")
    splits = read_coco(THREE_FILES, tmp_path, seed=0).splits
    assert {split: [p.file_name for p in pictures] for split, pictures in splits.items()} == {
        "train": ["0.png", "1.png"],
        "val": ["4.png"],
        "test": ["5.png", "6.png"],
    }


def test_a_picture_in_two_splits_is_refused(tmp_path: Path) -> None:
    """Training on a test picture would flatter the test."""
    for name, ids in (("train", (0, 1)), ("val", (4,)), ("test", (1, 6))):
        write(tmp_path, part(*ids), f"{name}.json")
    with pytest.raises(InputError, match=r"test\.json: 1\.png is in test and in train"):
        read_coco(THREE_FILES, tmp_path, seed=0)


def test_splits_with_other_categories_are_refused(tmp_path: Path) -> None:
    """The same id with another name would mix up labels between splits."""
    for name, ids in (("train", (0, 1)), ("val", (4,)), ("test", (5, 6))):
        write(tmp_path, part(*ids), f"{name}.json")
    write(tmp_path, part(4) | {"categories": [{"id": 7, "name": "wolf"}, {"id": 3, "name": "cat"}]}, "val.json")
    with pytest.raises(InputError, match=r"val\.json: categories differ from those of .*train\.json, first at \(7, 'dog'\)"):
        read_coco(THREE_FILES, tmp_path, seed=0)


def spoiled(*path: str | int, value: object) -> Callable[[Content], None]:
    def spoil(content: Content) -> None:
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoiled("images", 3, "id", value=2), r"labels\.json: image id 2 stands there more than once"),
        (spoiled("images", 3, "file_name", value="2.png"), r"file_name '2\.png' stands there more than once"),
        (spoiled("annotations", 1, "id", value=1), r"annotation id 1 stands there more than once"),
        (spoiled("categories", 1, "id", value=7), r"category id 7 stands there more than once"),
        (spoiled("categories", 1, "name", value="dog"), r"category name 'dog' stands there more than once"),
        (spoiled("annotations", 0, "id", value=0), r"annotation id 0\. .*Number annotations from 1"),
        (spoiled("annotations", 0, "image_id", value=99), r"is of image 99, which is not in `images`"),
        (spoiled("annotations", 0, "category_id", value=8), r"unknown class 8; categories are 7 \(dog\), 3"),
        (spoiled("annotations", 0, "bbox", value=[1, 2, 3]), r"a COCO detection file: annotations\[0\]\.bbox\[3\]"),
        (spoiled("annotations", 0, "bbox", value=[1, 2, 3, float("nan")]), r"bbox\[3\]: Input should be a finite"),
        (spoiled("images", 2, "height", value=0), r"images\[2\]\.height: Input should be greater than 0"),
        (spoiled("images", 2, "file_name", value="../labels.json"), r"file name '\.\./labels\.json' leads out of"),
        (spoiled("images", 2, "file_name", value="gone.png"), r"image 2 is 'gone\.png', but there is no .*gone\.png"),
        (spoiled("images", value=[]), r"no images: an empty split"),
        (spoiled("categories", value=[]), r"no categories"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, spoil: Callable[[Content], None], complaint: str) -> None:
    """The message names the file and the entry that is wrong."""
    content = copy.deepcopy(CONTENT)
    spoil(content)
    write(tmp_path, content)
    with pytest.raises(InputError, match=complaint):
        read_coco(ONE_FILE, tmp_path, seed=0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b'{"images": [', r"labels\.json: not a COCO detection file: Invalid JSON"),
        (b"[]", r"not a COCO detection file: Input should be an object"),
        (b"\xff\xfe", r"labels\.json: not text in UTF-8"),
    ],
)
def test_files_that_are_no_coco_files_are_named(tmp_path: Path, text: bytes, complaint: str) -> None:
    """Broken JSON, other JSON and other encodings each get a message, not a traceback."""
    (tmp_path / "labels.json").write_bytes(text)
    with pytest.raises(InputError, match=complaint):
        read_coco(ONE_FILE, tmp_path, seed=0)


def test_a_missing_annotation_file_is_named(tmp_path: Path) -> None:
    """The folder is there, the file is not."""
    with pytest.raises(InputError, match=r"labels\.json: cannot be read \(No such file or directory\)"):
        read_coco(ONE_FILE, tmp_path, seed=0)
