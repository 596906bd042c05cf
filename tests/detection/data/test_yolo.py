"""YOLO data sets become labelled pictures, or one clear message: as each tool writes them.

| data set | written as by | ends in |
|---|---|---|
| folders in `train`, `val`, `test`, boxes and polygons | Ultralytics | its own splits |
| `../train/images` next to data.yaml | Roboflow | its own splits |
| the same without a test folder | Roboflow | val halved, said |
| `path` of another machine; `path` below the file; lists of folders; lists of pictures | Ultralytics | its own splits |
| obj.data, obj.names, `data/train.txt` | CVAT, YOLO 1.1 | val halved, said |
| train.txt and `names` by number | CVAT, Ultralytics YOLO | all drawn |
| classes.txt, images/, labels/ | Label Studio | all drawn |
| pictures, labels and classes.txt in one folder | LabelImg | all drawn |
| keypoints behind the box | Ultralytics, poses | boxes |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detection.data.labelled import Labelled, Picture, SplitShares
from detection.data.sources import Data, provenance
from detection.data.voc import VocSource, read_voc
from detection.data.yolo import read_yolo
from detection.data.yolo_description import YoloSource
from detection.frozen import InputError
from tests.places import SHARED

BCCD = SHARED / "datasets/bccd"
SOURCE = YoloSource(root=Path())
BOX = "0 0.5 0.5 0.2 0.4\n"
NAMES = ["cat", "dog"]


def write(root: Path, picture: str, label: str | None = None, text: str = BOX) -> None:
    """A picture of 20 x 30 (height, width) unlike any other, and its label file."""
    for name in (picture, label or picture):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    shade = np.frombuffer(picture.encode().ljust(600, b"\0")[:600], dtype=np.uint8)
    Image.fromarray(shade.reshape(20, 30)).save(root / picture)
    if label:
        (root / label).write_text(text)


def write_split(root: Path, pictures: str, labels: str, stems: str = "abcdef") -> None:
    for stem in stems:
        write(root, f"{pictures}/{stem}.png", f"{labels}/{stem}.txt")


def describe(root: Path, name: str = "data.yaml", **content: Any) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(yaml.safe_dump({"names": NAMES} | content))


def counts(labelled: Labelled) -> list[int]:
    return [len(labelled.splits[split]) for split in ("train", "val", "test")]


def first(labelled: Labelled) -> Picture:
    return next(iter(labelled.splits["train"]))


@pytest.fixture
def ultralytics(tmp_path: Path) -> Path:
    """images/train, images/val and images/test of six pictures each, and labels/ likewise."""
    for split in ("train", "val", "test"):
        write_split(tmp_path, f"images/{split}", f"labels/{split}")
    describe(tmp_path, path=".", train="images/train", val="images/val", test="images/test", nc=2)
    return tmp_path


def test_boxes_and_polygons_are_shares_of_the_picture(ultralytics: Path) -> None:
    """cx 0.5, width 0.2 of 30 pixels are 12 to 18; a polygon gives the box around it; a rounded border is the border."""
    text = "0 0.5 0.5 0.2 0.4\n\n1 0.1 0.2 0.5 0.3 0.3 0.8\n1 0.500003 0.5 1.0 1.0\n1.0 0.9 0.5 0.4 0.2\r\n"
    (ultralytics / "labels/train/a.txt").write_text(text)
    labelled = read_yolo(SOURCE, ultralytics, seed=0)
    assert labelled.classes == ("cat", "dog")
    assert counts(labelled) == [6, 6, 6]
    picture = first(labelled)
    assert (picture.file_name, picture.size, picture.pixels().shape) == ("images/train/a.png", (20, 30), (20, 30, 3))
    assert picture.labels.tolist() == [0, 1, 1, 1]
    wanted = [[12, 6, 18, 14], [3, 4, 15, 16], [0, 0, 30, 20], [21, 8, 33, 12]]
    np.testing.assert_allclose(picture.boxes_xyxy_px, wanted, atol=1e-9)
    assert picture.boxes_xyxy_px[2].tolist() == [0, 0, 30, 20]
    assert not picture.crowd.any()
    assert labelled.notes == ()


def test_pictures_without_labels_are_background(ultralytics: Path) -> None:
    """An empty file, or none: both count, and the number is said. A label file without a picture is said too."""
    (ultralytics / "labels/train/a.txt").write_text("\n")
    (ultralytics / "labels/val/b.txt").unlink()
    (ultralytics / "labels/val/classes.txt").write_text("cat\ndog\n")
    (ultralytics / "labels/test/lost.txt").write_text(BOX)
    labelled = read_yolo(SOURCE, ultralytics, seed=0)
    assert first(labelled).boxes_xyxy_px.shape == (0, 4)
    background, alone = labelled.notes
    assert background == "2 of 18 pictures have no label file, or an empty one: they are background"
    assert alone == f"1 text files next to the labels have no picture, first {ultralytics / 'labels/test/lost.txt'}: left out"


def roboflow(root: Path) -> None:
    for split in ("train", "valid", "test"):
        write_split(root, f"{split}/images", f"{split}/labels")
    describe(root, train="../train/images", val="../valid/images", test="../test/images", nc=2, roboflow={"version": 1})


def another_machine(root: Path) -> None:
    roboflow(root)
    describe(root, path="/content/datasets/mine", train="train/images", val="valid/images", test="test/images")


def lists_of_folders(root: Path) -> None:
    for split in ("train", "more", "valid", "test"):
        write_split(root, f"set/{split}/images", f"set/{split}/labels", stems="abc" if split in ("train", "more") else "abcdef")
    describe(root, path="set", train=["train/images", "./more/images"], val="valid/images", test="test/images")


def lists_of_pictures(root: Path) -> None:
    roboflow(root)
    for split in ("train", "valid", "test"):
        (root / f"{split}.txt").write_text("".join(f"./{split}/images/{stem}.png\n" for stem in "abcdef"))
    describe(root, path="./", train="train.txt", val="valid.txt", test=["test.txt"], names={1: "dog", 0: "cat"})


def below(root: Path) -> None:
    """The description in a folder of its own, whose paths lead up."""
    roboflow(root)
    (root / "data.yaml").unlink()
    describe(root, "config/set.yaml", train="../train/images", val="../valid/images", test="../test/images")


@pytest.mark.parametrize("make", [roboflow, another_machine, lists_of_folders, lists_of_pictures, below])
def test_own_splits_are_kept(tmp_path: Path, make: Any) -> None:
    """However their paths are written: six pictures each, and a box in every one."""
    make(tmp_path)
    source = YoloSource(root=Path(), data=Path("config/set.yaml")) if make is below else SOURCE
    labelled = read_yolo(source, tmp_path, seed=0)
    assert (labelled.classes, counts(labelled), labelled.notes) == (("cat", "dog"), [6, 6, 6], ())
    for split, pictures in labelled.splits.items():
        assert all(split[:3] in picture.file_name or "more" in picture.file_name for picture in pictures)
        assert all(picture.boxes_xyxy_px.shape == (1, 4) for picture in pictures)


def cvat(root: Path) -> None:
    for split, name in (("train", "obj_train_data"), ("valid", "obj_valid_data")):
        write_split(root, name, name)
        (root / f"{split}.txt").write_text("".join(f"data/{name}/{stem}.png\n" for stem in "abcdef"))
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    )


def roboflow_without_test(root: Path) -> None:
    roboflow(root)
    for path in sorted((root / "test").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "test").rmdir()


@pytest.mark.parametrize("make", [cvat, roboflow_without_test])
def test_a_missing_test_is_half_of_val(tmp_path: Path, make: Any) -> None:
    """The split between train and the rest is the owner's, who knows which pictures are of one scene."""
    make(tmp_path)
    labelled = read_yolo(SOURCE, tmp_path, seed=0)
    assert counts(labelled) == [6, 3, 3]
    assert all("train" in picture.file_name for picture in labelled.splits["train"])
    assert any("of val and test there is only val: half of its 6 pictures are taken for each" in note for note in labelled.notes)
    source = YoloSource(root=Path(), split_shares=SplitShares(train=0.5, val=0.25, test=0.25))
    assert counts(read_yolo(source, tmp_path, seed=0)) == [6, 3, 3]


def cvat_one_subset(root: Path) -> None:
    write_split(root, "images/train", "labels/train", stems="abcdefghij")
    (root / "train.txt").write_text("".join(f"data/images/train/{stem}.png\n" for stem in "abcdefghij"))
    (root / "data.yaml").write_text("names:\n  0: cat\n  1: dog\npath: ./\ntrain: train.txt\nval:\ntest: null\n")


def label_studio(root: Path) -> None:
    write_split(root, "images", "labels", stems="abcdefghij")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "notes.json").write_text("{}")


def labelimg(root: Path) -> None:
    write_split(root, ".", ".", stems="abcdefghij")
    (root / "classes.txt").write_text("cat\r\ndog\r\n\r\n")


def darknet_names(root: Path) -> None:
    write_split(root, "obj_train_data", "obj_train_data", stems="abcdefghij")
    (root / "obj.names").write_text("cat\ndog")


@pytest.mark.parametrize("make", [cvat_one_subset, label_studio, labelimg, darknet_names])
def test_without_splits_all_pictures_are_drawn(tmp_path: Path, make: Any) -> None:
    """As from one COCO file: 70, 15 and 15 %."""
    make(tmp_path)
    labelled = read_yolo(SOURCE, tmp_path, seed=0)
    assert (labelled.classes, counts(labelled), labelled.notes) == (("cat", "dog"), [7, 1, 2], ())
    assert sum(len(picture.labels) for own in labelled.splits.values() for picture in own) == 10


def test_keypoints_behind_a_box_are_not_its_corners(ultralytics: Path) -> None:
    """Two keypoints of x and y make nine numbers, as a polygon of four corners has: `kpt_shape` tells them apart."""
    (ultralytics / "labels/train/a.txt").write_text("0 0.5 0.5 0.2 0.4 0.1 0.1 0.9 0.9\n")
    polygon = first(read_yolo(SOURCE, ultralytics, seed=0)).boxes_xyxy_px
    describe(ultralytics, train="images/train", val="images/val", test="images/test", kpt_shape=[2, 2])
    pose = first(read_yolo(SOURCE, ultralytics, seed=0)).boxes_xyxy_px
    np.testing.assert_allclose(pose, [[12, 6, 18, 14]])
    np.testing.assert_allclose(polygon, [[3, 2, 27, 18]])


def test_numbers_of_classes_may_have_gaps_and_names_may_look_like_something_else(ultralytics: Path) -> None:
    """YAML takes `no` for false and 7 for a number; here a name is what stands there."""
    text = "train: images/train\nval: images/val\ntest: images/test\nnames: {0: no, 5: 7, 80: null}\n"
    (ultralytics / "data.yaml").write_text(text)
    (ultralytics / "labels/train/a.txt").write_text("80 0.5 0.5 0.2 0.4\n5 0.5 0.5 0.2 0.4\n")
    labelled = read_yolo(SOURCE, ultralytics, seed=0)
    assert labelled.classes == ("no", "7", "null")
    assert first(labelled).labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0 0.5 0.5 0.2\n", "4 numbers"),
        ("0 0.5 0.5 0.2 0.4 0.93\n", "a sixth number is a confidence"),
        ("0 0.5 0.5 0.2 0.4 0.1 0.2 0.3\n", "8 numbers"),
        ("0 0.5 0.5 0.2 x\n", "'x' is not a number"),
        ("0 0.5 nan 0.2 0.4\n", "'nan' is not a number"),
        ("cat 0.5 0.5 0.2 0.4\n", "'cat' is not a number"),
        ("2 0.5 0.5 0.2 0.4\n", r"unknown class 2; classes are 0 \(cat\), 1 \(dog\)"),
        ("-1 0.5 0.5 0.2 0.4\n", "unknown class -1"),
        ("0.5 0.5 0.5 0.2 0.4\n", r"unknown class 0\.5"),
        ("0 15 10 6 8\n", "15 is far outside, perhaps in pixels"),
        ("0,0.5,0.5,0.2,0.4\n", "'0,0.5,0.5,0.2,0.4' is not a number"),
    ],
)
def test_a_wrong_line_is_named(ultralytics: Path, text: str, complaint: str) -> None:
    """File, number of the line, what stands there, and what may stand there."""
    (ultralytics / "labels/val/b.txt").write_text(BOX + text)
    with pytest.raises(InputError, match=rf"labels/val/b\.txt: line 2 is .*: {complaint}.*A line is `class cx cy width height`"):
        read_yolo(SOURCE, ultralytics, seed=0)


def test_a_label_of_odd_bytes_is_named(ultralytics: Path) -> None:
    """UTF-16, as Windows writes it."""
    (ultralytics / "labels/val/b.txt").write_text(BOX, encoding="utf-16")
    with pytest.raises(InputError, match=r"labels/val/b\.txt: not text in UTF-8"):
        read_yolo(SOURCE, ultralytics, seed=0)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"nc": 3}, "3 classes are announced, but 2 are named"),
        ({"names": ["cat", "cat"]}, "class name 'cat' stands there more than once"),
        ({"names": []}, "names is .*it must be a list of names"),
        ({"names": {"x": "cat"}}, "names is .*it must be a list of names"),
        ({"names": ["cat", ""]}, "names is .*it must be a list of names"),
        ({"names": "cat"}, "names is 'cat'; it must be a list of names"),
        ({"train": {"a": "b"}}, "train is .*; it may be a folder"),
        ({"train": "images/gone"}, "'images/gone' is not there .looked in .*a folder of pictures, or a text file"),
        ({"train": "/etc"}, "file name '/etc' is an absolute path"),
        ({"train": "../../../etc"}, r"'\.\./\.\./\.\./etc' is not there"),
        ({"train": "nul\0"}, "holds a NUL byte"),
        ({"train": "x" * 300}, "has a part of 300 bytes"),
        ({"train": None}, "no train"),
        ({"val": "images/train"}, "train and val are the same pictures. Set `split_shares`"),
        ({"val": ["images/val", "images/train/a.png"]}, "images/train/a.png is in val, and the same picture is in train"),
        ({"train": "labels/train"}, r"labels/train: no files with the ending \.jpg or .*Found: 6 others"),
    ],
)
def test_a_wrong_description_is_named(ultralytics: Path, changes: dict[str, Any], complaint: str) -> None:
    """The file, the entry and what is allowed."""
    describe(ultralytics, **{"train": "images/train", "val": "images/val", "test": "images/test", **changes})
    with pytest.raises(InputError, match=complaint):
        read_yolo(SOURCE, ultralytics, seed=0)


@pytest.mark.parametrize("text", ["[", "- a\n- b\n", "", "a: &x [*x]\nb: !!python/name:os.system x"])
def test_no_description_is_named(ultralytics: Path, text: str) -> None:
    """Broken YAML, a list, nothing, and what YAML should not do."""
    (ultralytics / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"data\.yaml: (not YAML|not a YOLO description|names is)"):
        read_yolo(SOURCE, ultralytics, seed=0)


def test_nothing_that_names_classes_is_said(tmp_path: Path) -> None:
    """Numbers alone would make classes without names."""
    write_split(tmp_path, "images", "labels")
    with pytest.raises(InputError, match=r"no data\.yaml or .* or obj\.names\. One of them names the classes"):
        read_yolo(SOURCE, tmp_path, seed=0)


def test_classes_without_names_are_numbered(ultralytics: Path) -> None:
    """`nc` alone, as Ultralytics allows."""
    (ultralytics / "data.yaml").write_text("train: images/train\nval: images/val\ntest: images/test\nnc: 2\n")
    assert read_yolo(SOURCE, ultralytics, seed=0).classes == ("class0", "class1")


def test_labels_lie_next_to_the_last_folder_named_images(tmp_path: Path) -> None:
    """The data set itself may be in a folder of that name."""
    write_split(tmp_path, "images/set/images", "images/set/labels")
    describe(tmp_path, train="images/set/images")
    labelled = read_yolo(SOURCE, tmp_path, seed=0)
    assert {len(picture.boxes_xyxy_px) for own in labelled.splits.values() for picture in own} == {1}


def test_labels_in_another_place_are_said(tmp_path: Path) -> None:
    """Otherwise all would be background."""
    write_split(tmp_path, "images", "annotations")
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(InputError, match=r"none of 6 pictures has a label file; looked for .*labels/a\.txt and .*images/a\.txt"):
        read_yolo(SOURCE, tmp_path, seed=0)


def test_two_pictures_of_one_label_file_are_named(ultralytics: Path) -> None:
    """a.png and a.jpg."""
    write(ultralytics, "images/train/a.jpg")
    with pytest.raises(InputError, match=r"labels/train/a\.txt: both images/train/a\.jpg and images/train/a\.png have this name"):
        read_yolo(SOURCE, ultralytics, seed=0)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda root: (root / "train.txt").write_text("\n"), r"train\.txt: empty split"),
        (lambda root: (root / "obj_train_data/b.png").unlink(), r"train\.txt: line 2 is 'data/obj_train_data/b\.png', but no such"),
        (lambda root: (root / "train.txt").write_text("x" * 5000), r"train\.txt: line 1 is 'x+', but no such picture"),
        (lambda root: (root / "obj.names").unlink(), r"obj\.data: names is 'data/obj\.names', but there is no such file"),
    ],
)
def test_a_wrong_list_is_named(tmp_path: Path, spoil: Any, complaint: str) -> None:
    """CVAT without pictures, for one."""
    cvat(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=complaint):
        read_yolo(SOURCE, tmp_path, seed=0)


def test_a_link_out_of_the_folder_is_refused(ultralytics: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A picture, as in the other formats."""
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    write(outside.parent, "secret.png")
    (ultralytics / "images/train/link.png").symlink_to(outside)
    with pytest.raises(InputError, match=r"file name 'images/train/link\.png' leads out of"):
        read_yolo(SOURCE, ultralytics, seed=0)


@pytest.mark.skipif(not BCCD.is_dir(), reason="needs ../shared/datasets/bccd beside the checkout")
def test_real_labels_are_those_of_the_other_format(tmp_path: Path) -> None:
    """BCCD's val, written with six decimals: the boxes of the VOC reader to a thousandth of a pixel."""
    wanted = {picture.file_name: picture for picture in read_voc(VocSource(root=BCCD), tmp_path, 0).splits["val"]}
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "classes.txt").write_text("Platelets\nRBC\nWBC\n")
    for name, picture in wanted.items():
        (tmp_path / "images" / name).write_bytes((BCCD / "JPEGImages" / name).read_bytes())
        shares = picture.boxes_xyxy_px / np.array([*picture.size[::-1]] * 2)
        rows = np.concatenate([(shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]], 1)
        lines = [f"{label} {' '.join(f'{share:.6f}' for share in row)}\n" for label, row in zip(picture.labels, rows, strict=True)]
        (tmp_path / "labels" / name).with_suffix(".txt").write_text("".join(lines))
    labelled = read_yolo(SOURCE, tmp_path, seed=0)
    found = {Path(picture.file_name).name: picture for own in labelled.splits.values() for picture in own}
    assert (found.keys(), labelled.notes) == (wanted.keys(), ())
    for name, picture in wanted.items():
        assert (found[name].labels.tolist(), found[name].size) == (picture.labels.tolist(), picture.size)
        np.testing.assert_allclose(found[name].boxes_xyxy_px, picture.boxes_xyxy_px, atol=1e-3)


def files_of(root: Path) -> str | None:
    return provenance(Data(name="mine", source=SOURCE), root, 0).files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.yaml", "names: [a]"),
        ("train.txt", "data/obj_train_data/a.png\n"),
        ("obj.data", "train = data/train.txt\nnames = data/obj.names\n"),
        ("my.names", "dog\ncat\n"),
        ("obj_train_data/a.txt", BOX.replace("0.2", "0.3")),
        ("obj_train_data/a.png", "another size"),
        ("obj_train_data/a.jpg", None),
        ("notes.txt", None),
    ],
)
def test_what_the_reader_looks_at_counts(tmp_path: Path, name: str, content: str | None) -> None:
    """Descriptions, lists and labels by content, pictures by size; nothing that it does not look at."""
    cvat(tmp_path)
    (tmp_path / "obj.names").rename(tmp_path / "my.names")
    (tmp_path / "obj.data").write_text((tmp_path / "obj.data").read_text().replace("obj.names", "my.names"))
    before = files_of(tmp_path)
    assert before is not None
    (tmp_path / name).write_text(content or "nobody's")
    assert (files_of(tmp_path) == before) is (content is None)


def test_a_folder_that_is_not_here_has_no_digest(tmp_path: Path) -> None:
    """Prepared data may be carried to a machine without the pictures; a wrong description is left to the reader."""
    assert files_of(tmp_path / "nowhere") is None
    (tmp_path / "data.yaml").write_text("[")
    assert files_of(tmp_path) is not None
