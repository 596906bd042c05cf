"""Pascal VOC folders become labelled pictures, or one clear message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.data.labelled import SplitShares
from detection.data.voc import VocSource, read_voc
from detection.frozen import InputError

SOURCE = VocSource(root=Path())
BOMB = '<!DOCTYPE a [<!ENTITY b "boom">]><annotation>&b;</annotation>'


def thing(name: str, corners: tuple[float, float, float, float], difficult: int = 0) -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{tags}</bndbox></object>"


def write(folder: Path, stem: str, *things: str, size: str = "<size><width>30</width><height>20</height></size>") -> None:
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(folder / "JPEGImages" / f"{stem}.jpg")
    (folder / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{''.join(things)}</annotation>")


def write_splits(folder: Path, **stems: str) -> None:
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for split, text in stems.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(text)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four pictures, one of them background, with splits of their own."""
    write(tmp_path, "a", thing("dog", (1, 1, 30, 20)), thing("cat", (5, 6, 5, 9)))
    write(tmp_path, "b", thing("cat", (3, 4, 10, 12), difficult=1))
    write(tmp_path, "c", thing("dog", (2, 3, 4, 5)), size="")
    write(tmp_path, "d")
    write_splits(tmp_path, train="a\nd\n", val="b\n", test="c\n")
    return tmp_path


def test_corners_are_pixels_counted_from_one(voc: Path) -> None:
    """1..30 by 1..20 is the whole picture, edges 0..30 and 0..20; corners on one column have no area and stay so."""
    labelled = read_voc(SOURCE, voc, seed=0)
    assert labelled.classes == ("cat", "dog")
    dog, slip = next(iter(labelled.splits["train"])).boxes_xyxy_px
    assert dog.tolist() == [0, 0, 30, 20]
    assert slip[2] - slip[0] == 0


def test_corners_may_be_edges_from_zero(voc: Path) -> None:
    """Tools that write continuous coordinates are taken at their word."""
    labelled = read_voc(SOURCE.model_copy(update={"coordinates": "edges_from_0"}), voc, seed=0)
    assert next(iter(labelled.splits["train"])).boxes_xyxy_px[0].tolist() == [1, 1, 30, 20]


def test_own_splits_are_kept_and_background_stays(voc: Path) -> None:
    """The lists decide; a picture without objects is a picture."""
    splits = read_voc(SOURCE, voc, seed=0).splits
    assert {split: [p.file_name for p in pictures] for split, pictures in splits.items()} == {
        "train": ["a.jpg", "d.jpg"],
        "val": ["b.jpg"],
        "test": ["c.jpg"],
    }
    assert [p.boxes_xyxy_px.shape for p in splits["train"]] == [(2, 4), (0, 4)]


def test_the_picture_gives_its_size_where_the_annotation_does_not(voc: Path) -> None:
    """Picture c has no <size>; its own header says 20 x 30 (height, width)."""
    picture = next(iter(read_voc(SOURCE, voc, seed=0).splits["test"]))
    assert picture.size == (20, 30)
    assert picture.pixels().shape == (20, 30, 3)


def test_difficult_objects_are_crowds_unless_kept(voc: Path) -> None:
    """VOC does not count them; `keep` makes them ordinary."""
    assert next(iter(read_voc(SOURCE, voc, seed=0).splits["val"])).crowd.tolist() == [True]
    kept = SOURCE.model_copy(update={"difficult": "keep"})
    assert next(iter(read_voc(kept, voc, seed=0).splits["val"])).crowd.tolist() == [False]


def test_given_classes_fix_the_order_and_refuse_others(voc: Path) -> None:
    """Labels follow the list; a name beside it is an error that names the file."""
    named = VocSource(root=Path(), classes=("dog", "cat"))
    assert next(iter(read_voc(named, voc, seed=0).splits["train"])).labels.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"b\.xml: unknown class 'cat'; `classes` are dog"):
        read_voc(VocSource(root=Path(), classes=("dog",)), write_without_cat(voc), seed=0)


def write_without_cat(folder: Path) -> Path:
    write(folder, "a", thing("dog", (1, 1, 30, 20)))
    return folder


def test_wanted_shares_overrule_own_splits(voc: Path) -> None:
    """With split_shares, all pictures are split anew."""
    source = VocSource(root=Path(), split_shares=SplitShares(train=0.5, val=0.25, test=0.25))
    assert [len(pictures) for pictures in read_voc(source, voc, seed=0).splits.values()] == [2, 1, 1]


@pytest.mark.parametrize(
    ("lists", "complaint"),
    [
        ({"test": "c\na\n"}, r"test\.txt: a stands in test and already in train"),
        ({"val": "b\nb\n"}, r"val\.txt: b stands in val and already in val"),
        ({"val": "\n"}, r"val\.txt: empty split"),
        ({"val": "gone\n"}, r"val\.txt: lists gone, but .*JPEGImages has no such picture"),
        ({"val": "../../gone\n"}, r"file name '\.\./\.\./gone\.xml' leads out of"),
    ],
)
def test_wrong_split_lists_are_named(voc: Path, lists: dict[str, str], complaint: str) -> None:
    """The message names the list and the line."""
    write_splits(voc, **lists)
    with pytest.raises(InputError, match=complaint):
        read_voc(SOURCE, voc, seed=0)


def test_a_missing_split_list_is_named(voc: Path) -> None:
    """Two lists of three are neither the data set's splits nor none."""
    (voc / "ImageSets" / "Main" / "test.txt").unlink()
    with pytest.raises(InputError, match=r"test\.txt: no such file, but other splits are listed.*split_shares"):
        read_voc(SOURCE, voc, seed=0)


def test_listed_pictures_need_an_annotation(voc: Path) -> None:
    """A picture without its file of objects is not background but an omission."""
    (voc / "Annotations" / "b.xml").unlink()
    with pytest.raises(InputError, match=r"val\.txt: lists b, but there is no .*b\.xml"):
        read_voc(SOURCE, voc, seed=0)


@pytest.mark.parametrize(
    ("gone", "complaint"),
    [("Annotations/b.xml", r"b\.jpg: no annotation of that name"), ("JPEGImages/b.jpg", r"b\.xml: no picture of that name")],
)
def test_without_lists_pictures_and_annotations_pair_up(voc: Path, gone: str, complaint: str) -> None:
    """Either one alone is an error."""
    (voc / gone).unlink()
    with pytest.raises(InputError, match=complaint):
        read_voc(VocSource(root=Path(), split_shares=SplitShares()), voc, seed=0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<annotation><object>", r"b\.xml: not well-formed XML"),
        ("", r"b\.xml: not well-formed XML"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', r"b\.xml: not well-formed XML"),
        (BOMB, r"b\.xml: declares XML entities"),
        ("<annotation><object><bndbox/></object></annotation>", r"an <object> without <name>"),
        ("<annotation><object><name>cat</name></object></annotation>", r"<bndbox/xmin> of an <object> is None; it must be"),
        (f"<annotation>{thing('cat', (1, 1, float('nan'), 5))}</annotation>", r"<bndbox/xmax> of an <object> is 'nan'"),
    ],
)
def test_wrong_annotations_are_named(voc: Path, text: str, complaint: str) -> None:
    """Broken, hostile and incomplete XML each get a message, not a traceback."""
    (voc / "Annotations" / "b.xml").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_voc(SOURCE, voc, seed=0)


def test_two_pictures_of_one_name_are_refused(voc: Path) -> None:
    """b.jpg and b.png would share one annotation."""
    Image.new("RGB", (30, 20)).save(voc / "JPEGImages" / "b.png")
    with pytest.raises(InputError, match=r"b\.png: b\.jpg has the same name"):
        read_voc(SOURCE, voc, seed=0)


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    """The message says what a VOC folder looks like."""
    with pytest.raises(InputError, match=r"no folder Annotations\. A VOC data set has"):
        read_voc(SOURCE, tmp_path, seed=0)


def test_the_order_of_labels_is_by_name(voc: Path) -> None:
    """Labels index the sorted names: cat 0, dog 1."""
    np.testing.assert_array_equal(next(iter(read_voc(SOURCE, voc, seed=0).splits["train"])).labels, [1, 0])
