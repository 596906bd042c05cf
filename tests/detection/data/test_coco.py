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

from detection.data.coco import CocoSource, SplitPaths, read_coco, read_one_file
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
    """One file per split is taken as it is; ids may start again in each."""
    for name, ids in (("train", (0, 1)), ("val", (4,)), ("test", (5, 6))):
        write(tmp_path, part(*ids), f"{name}.json")
    splits = read_coco(THREE_FILES, tmp_path, seed=0).splits
    assert {split: [p.file_name for p in pictures] for split, pictures in splits.items()} == {
        "train": ["0.png", "1.png"],
        "val": ["4.png"],
        "test": ["5.png", "6.png"],
    }


def test_val_alone_is_halved(tmp_path: Path) -> None:
    """Data sets often come with train and val: train stays, val gives half of its pictures to test, and that is said."""
    write(tmp_path, part(0, 1), "train.json")
    write(tmp_path, part(2, 3, 4, 5), "val.json")
    two = CocoSource(root=Path(), annotations=SplitPaths(train=Path("train.json"), val=Path("val.json")), images=Path("images"))
    found = read_coco(two, tmp_path, seed=0)
    names = {split: {picture.file_name for picture in pictures} for split, pictures in found.splits.items()}
    assert names["train"] == {"0.png", "1.png"}
    assert names["val"] | names["test"] == {"2.png", "3.png", "4.png", "5.png"}
    assert [len(names["val"]), len(names["test"])] == [2, 2]
    assert any("there is only val: half of its 4 pictures" in note for note in found.notes)
    boxed = [picture for picture in found.splits["val"] + found.splits["test"] if len(picture.labels)]
    assert [picture.file_name for picture in boxed] == ["4.png"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"annotations": {"train": "a.json"}}, "train alone is no split"),
        ({"annotations": {"train": "a.json", "val": "b.json"}, "images": {"train": "a", "test": "b"}}, "name the same splits"),
    ],
)
def test_splits_have_to_go_together(given: dict[str, Any], message: str) -> None:
    """Of annotations and pictures the same, and more than one."""
    with pytest.raises(ValueError, match=message):
        CocoSource.model_validate({"kind": "coco", "root": ".", **given})


def test_a_picture_in_two_splits_is_refused(tmp_path: Path) -> None:
    """Training on a test picture would flatter the test."""
    for name, ids in (("train", (0, 1)), ("val", (4,)), ("test", (1, 6))):
        write(tmp_path, part(*ids), f"{name}.json")
    with pytest.raises(InputError, match=r"test\.json: 1\.png is in test, and the same picture is in train as 1\.png"):
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
        (spoiled("annotations", 0, "iscrowd", value=2), r"annotations\[0\]\.iscrowd: Input should be a valid boolean"),
        (spoiled("annotations", 0, "image_id", value=99), r"annotations\[0\] is of image 99, which is not in `images`"),
        (spoiled("annotations", 0, "category_id", value=8), r"unknown class 8; categories are 7 \(dog\), 3"),
        (spoiled("annotations", 0, "bbox", value=[1, 2, 3]), r"a COCO detection file: annotations\[0\]\.bbox\[3\]"),
        (spoiled("annotations", 0, "bbox", value=[1, 2, 3, float("nan")]), r"bbox\[3\]: Input should be a finite"),
        (spoiled("images", 2, "height", value=-1), r"images\[2\]\.height: Input should be greater than or equal to 0"),
        (spoiled("images", 2, "file_name", value="../labels.json"), r"images\[2\]: file name '\.\./labels\.json' leads out of"),
        (spoiled("images", 2, "file_name", value="gone.png"), r"images\[2\] is 'gone\.png', but there is no .*gone\.png"),
        (spoiled("images", 2, "file_name", value="images\\2.png"), r"images\[2\] .*but there is no .*parted by /, on every system"),
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


def annotations(*given: Content) -> Content:
    """The content with these annotations, of picture 0 and class 3 unless they say otherwise."""
    return CONTENT | {"annotations": [{"id": n, "image_id": 0, "category_id": 3} | own for n, own in enumerate(given, 1)]}


def boxes_of(folder: Path, content: Content, file_name: str = "0.png") -> list[list[float]]:
    """The boxes that are read for a picture, xyxy in pixels."""
    write(folder, content)
    splits = read_coco(ONE_FILE, folder, seed=0).splits
    [picture] = [picture for pictures in splits.values() for picture in pictures if picture.file_name == file_name]
    return picture.boxes_xyxy_px.tolist()


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([[3, 4, 9, 4, 9, 8.5]], [3, 4, 9, 8.5]),
        ([[3, 4, 9, 4, 9, 8], [20, 1, 22, 1, 22, 2]], [3, 1, 22, 8]),
        ({"size": [20, 30], "counts": [43, 2, 18, 2, 535]}, [2, 3, 4, 5]),  # down columns of 20: rows 3 and 4 of columns 2 and 3
        ({"size": [20, 30], "counts": "[12b00U`0"}, [2, 3, 4, 5]),  # the same, as pycocotools compresses it
    ],
    ids=["polygon", "polygons", "runs", "compressed"],
)
@pytest.mark.parametrize("bbox", [{}, {"bbox": None}, {"bbox": []}], ids=str)
def test_a_mask_gives_the_box_that_is_missing(tmp_path: Path, segmentation: object, box: list[float], bbox: Content) -> None:
    """Polygons by their outermost points, runs by their outermost pixels, by hand."""
    assert boxes_of(tmp_path, annotations({"segmentation": segmentation} | bbox)) == [box]


def test_a_given_box_counts_more_than_the_mask(tmp_path: Path) -> None:
    """Whatever stands there."""
    assert boxes_of(tmp_path, annotations({"bbox": [1, 2, 3, 4], "segmentation": "nonsense"})) == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3]],
        [[]],
        [["a", "b"]],
        [[1, 2], 3],
        "polygon",
        5,
        {},
        {"size": [20, 30]},
        {"size": [20], "counts": [1]},
        {"size": [20, 30], "counts": [1, 1000]},
        {"size": [-1, 30], "counts": [1]},
        {"size": [20, 30], "counts": "\u00ff"},
    ],
    ids=str,
)
def test_a_mask_that_gives_no_box_is_named(tmp_path: Path, segmentation: object) -> None:
    """With the annotation's index."""
    write(tmp_path, annotations({"bbox": [1, 2, 3, 4]}, {"bbox": None, "segmentation": segmentation}))
    with pytest.raises(InputError, match=r"labels\.json: not a COCO detection file: annotations\[1\]"):
        read_coco(ONE_FILE, tmp_path, seed=0)


def test_neither_box_nor_mask_is_named(tmp_path: Path) -> None:
    """It says which of the two a detector needs."""
    write(tmp_path, annotations({"bbox": None, "segmentation": []}))
    with pytest.raises(InputError, match=r"annotations\[0\]\.bbox.* bbox or segmentation"):
        read_coco(ONE_FILE, tmp_path, seed=0)


def test_ids_of_annotations_do_not_matter(tmp_path: Path) -> None:
    """They are numbered again: 0, as Label Studio counts, and none at all."""
    own = {"image_id": 0, "category_id": 3, "bbox": [1, 2, 3, 4]}
    assert boxes_of(tmp_path, CONTENT | {"annotations": [own | {"id": 0}, own, own]}) == [[1, 2, 4, 6]] * 3


@pytest.mark.parametrize(("crowd", "wanted"), [(None, False), (0, False), (False, False), (1, True), (True, True)])
def test_a_crowd_may_be_null(tmp_path: Path, crowd: object, wanted: bool) -> None:
    """Null is what exporters write who never heard of crowds."""
    write(tmp_path, annotations({"bbox": [1, 2, 3, 4], "iscrowd": crowd}))
    splits = read_coco(ONE_FILE, tmp_path, seed=0).splits
    assert [own for pictures in splits.values() for picture in pictures for own in picture.crowd.tolist()] == [wanted]


@pytest.mark.parametrize("given", [{}, {"height": None, "width": None}, {"height": 20}, {"height": 0, "width": 0}], ids=str)
@pytest.mark.parametrize(("orientation", "size"), [("ignore", (20, 30)), ("apply", (30, 20))])
def test_the_picture_gives_a_size_that_is_missing(tmp_path: Path, given: Content, orientation: str, size: tuple[int, int]) -> None:
    """As its boxes see it: turned where they were drawn on the turned picture."""
    images = [{"id": n, "file_name": f"{n}.png"} | given for n in range(10)]
    write(tmp_path, CONTENT | {"images": images})
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(10):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / "images" / f"{number}.png", exif=exif)
    source = CocoSource(root=Path(), annotations=Path("labels.json"), images=Path("images"), exif_orientation=orientation)
    for pictures in read_coco(source, tmp_path, seed=0).splits.values():
        assert {(picture.size, picture.pixels().shape[:2]) for picture in pictures} == {(size, size)}


CAT, DOG = ({"id": 3, "name": "cat", "supercategory": "pets"}, {"id": 7, "name": "dog", "supercategory": "pets"})


@pytest.mark.parametrize(
    ("others", "classes", "notes"),
    [
        ([{"id": 0, "name": "pets", "supercategory": "none"}], ("cat", "dog"), ["'pets' is left out", "only groups cat, dog"]),
        ([{"id": 8, "name": "bird", "supercategory": "none"}], ("cat", "dog", "bird"), []),  # rare, but no group
        ([{"id": 8, "name": "bird", "supercategory": "bird"}], ("cat", "dog", "bird"), []),  # as COCO's own person
        ([{"id": 8, "name": "bird", "supercategory": ["odd"]}], ("cat", "dog", "bird"), []),
    ],
)
def test_a_class_that_only_groups_others_is_left_out(
    tmp_path: Path, others: list[Content], classes: tuple[str, ...], notes: list[str]
) -> None:
    """Roboflow writes one; it would be a class that nothing can be found of. It is said, and labels close the gap."""
    write(tmp_path, CONTENT | {"categories": [*others, DOG, CAT]})
    labelled = read_coco(ONE_FILE, tmp_path, seed=0)
    assert labelled.classes == classes
    assert all(word in " ".join(labelled.notes) for word in notes)
    assert len(labelled.notes) == bool(notes)
    labels = [label for pictures in labelled.splits.values() for picture in pictures for label in picture.labels.tolist()]
    assert sorted(labels) == [0, 0, 1]


def test_a_group_that_has_boxes_stays(tmp_path: Path) -> None:
    """In whichever split: the class is somebody's."""
    parent = {"id": 0, "name": "pets", "supercategory": "none"}
    for name, ids in (("train", (0, 1)), ("val", (4,)), ("test", (5, 6))):
        write(tmp_path, part(*ids) | {"categories": [parent, DOG, CAT]}, f"{name}.json")
    assert read_coco(THREE_FILES, tmp_path, seed=0).classes == ("cat", "dog")
    own = {"id": 9, "image_id": 5, "category_id": 0, "bbox": [1, 2, 3, 4]}
    write(tmp_path, part(5, 6) | {"categories": [parent, DOG, CAT], "annotations": [own]}, "test.json")
    labelled = read_coco(THREE_FILES, tmp_path, seed=0)
    assert (labelled.classes, labelled.notes) == (("pets", "cat", "dog"), ())


def test_one_picture_by_two_names_is_kept_in_one_split_and_said(tmp_path: Path) -> None:
    """Twenty entries of ten pictures, as "x" and "./x"."""
    again = [image | {"id": 100 + image["id"], "file_name": f"./{image['file_name']}"} for image in CONTENT["images"]]
    write(tmp_path, CONTENT | {"images": CONTENT["images"] + again})
    labelled = read_coco(ONE_FILE, tmp_path, seed=0)
    own = [{Path(picture.file_name) for picture in pictures} for pictures in labelled.splits.values()]
    assert [len(names) for names in own] == [7, 1, 2]
    assert sum(map(len, own)) == len(set.union(*own))
    assert [note.split(" pictures")[0] for note in labelled.notes] == ["train: 7 of 14", "val: 1 of 2", "test: 2 of 4"]


def test_a_link_that_leads_back_to_itself_is_named(tmp_path: Path) -> None:
    """There is no such file, and that is the message."""
    write(tmp_path, CONTENT)
    (tmp_path / "images/2.png").unlink()
    (tmp_path / "images/2.png").symlink_to(tmp_path / "images/2.png")
    with pytest.raises(InputError, match=r"images\[2\] is '2\.png', but there is no"):
        read_coco(ONE_FILE, tmp_path, seed=0)


def test_equal_bytes_in_two_files_of_splits_are_refused(tmp_path: Path) -> None:
    """A copy under another name leaks the test like the picture itself."""
    for name, ids in (("train", (0, 1)), ("val", (4,)), ("test", (5, 6))):
        write(tmp_path, part(*ids), f"{name}.json")
    Image.new("RGB", (30, 20), (0, 0, 0)).save(tmp_path / "images" / "6.png")
    with pytest.raises(InputError, match=r"test\.json: 6\.png is in test, and the same picture is in train as 0\.png"):
        read_coco(THREE_FILES, tmp_path, seed=0)


def test_pictures_of_one_file_may_lie_anywhere(tmp_path: Path) -> None:
    """Those that are found, under their files; the others are left out, with their annotations."""
    write(tmp_path, CONTENT)
    places = {"0.png": tmp_path / "images/0.png", "2.png": tmp_path / "images/2.png"}
    classes, pictures = read_one_file(tmp_path / "labels.json", places.get, "refuse")
    assert classes == ("cat", "dog")
    assert list(pictures) == list(places.values())
    assert [len(picture.labels) for picture in pictures.values()] == [2, 0]
    assert pictures[places["2.png"]].pixels()[0, 0].tolist() == [2, 0, 0]
