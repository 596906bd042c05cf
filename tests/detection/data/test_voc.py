"""Pascal VOC folders become labelled pictures, or one clear message."""

from __future__ import annotations

import os
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
        (folder / name / stem).parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (30, 20), (sum(os.fsencode(stem)) * 37 % 256, 0, 0)).save(folder / "JPEGImages" / f"{stem}.jpg")
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
    """With split_shares, all pictures are split again."""
    source = VocSource(root=Path(), split_shares=SplitShares(train=0.5, val=0.25, test=0.25))
    assert [len(pictures) for pictures in read_voc(source, voc, seed=0).splits.values()] == [2, 1, 1]


@pytest.mark.parametrize(
    ("lists", "complaint"),
    [
        ({"test": "c\na\n"}, r"test\.txt: a stands in test and already in train"),
        ({"val": "b\nb\n"}, r"val\.txt: b stands in val and already in val"),
        ({"val": "\n"}, r"val\.txt: empty split"),
        ({"val": "gone\n"}, r"val\.txt: lists gone, but .*JPEGImages has no such picture"),
        ({"val": "../../gone\n"}, r"val\.txt: lists \.\./\.\./gone, but"),
        ({"val": "there/b.jpg\n"}, r"val\.txt: lists there/b\.jpg, but .*; but b is there: names are paths without their ending"),
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


def test_folders_within_are_read(tmp_path: Path) -> None:
    """One per camera: a name is the path within its folder, in the lists and in the result; hidden files are nobody's."""
    for number in range(6):
        write(tmp_path, f"cam{number % 2}/p", thing("dog", (1, 1, 5, number + 5))) if number < 2 else write(tmp_path, f"p{number}")
    write_splits(tmp_path, train="cam0/p\np2\n", val="cam1/p\n", test="p3\np4\np5\n")
    (tmp_path / "JPEGImages" / ".thumbnails").mkdir()
    for hidden in (".thumbnails/p.jpg", "._p.jpg"):
        (tmp_path / "JPEGImages" / hidden).write_text("of a file browser")
    for source in (SOURCE, VocSource(root=Path(), split_shares=SplitShares(train=0.5, val=0.25, test=0.25))):
        labelled = read_voc(source, tmp_path, seed=0)
        pictures = [picture for own in labelled.splits.values() for picture in own]
        names = ["cam0/p.jpg", "cam1/p.jpg", "p2.jpg", "p3.jpg", "p4.jpg", "p5.jpg"]
        assert sorted(picture.file_name for picture in pictures) == names
        assert {picture.pixels().shape for picture in pictures} == {(20, 30, 3)}
    assert [picture.file_name for picture in read_voc(SOURCE, tmp_path, seed=0).splits["train"]] == ["cam0/p.jpg", "p2.jpg"]


def test_a_name_without_its_folder_gets_a_hint(tmp_path: Path) -> None:
    """The list says p, the picture is cam0/p."""
    write(tmp_path, "cam0/p")
    write_splits(tmp_path, train="p\n", val="p\n", test="p\n")
    with pytest.raises(InputError, match=r"train\.txt: lists p, but .* has no such picture .*; but cam0/p is there"):
        read_voc(SOURCE, tmp_path, seed=0)


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ([], r"JPEGImages: no files with the ending \.jpg or .*, neither there nor in folders within\. Found: no files"),
        (["a.gif", "cam/b.txt"], r"JPEGImages: no files with the ending .*Found: 2 others, first a\.gif"),
    ],
    ids=["nothing", "others"],
)
def test_no_pictures_say_what_was_looked_for(tmp_path: Path, found: list[str], complaint: str, lists: bool) -> None:
    """With and without lists: the endings, where, and what is there instead."""
    write(tmp_path, "a")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    for name in found:
        (tmp_path / "JPEGImages" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "JPEGImages" / name).touch()
    if lists:
        write_splits(tmp_path, train="a\n", val="a\n", test="a\n")
    with pytest.raises(InputError, match=complaint):
        read_voc(SOURCE, tmp_path, seed=0)


@pytest.mark.parametrize("lists", ["none", "with it", "without it"])
def test_names_in_another_encoding_are_read(voc: Path, lists: str) -> None:
    """An archive from another system: bytes are names too, in files and in lists; what is written of them is UTF-8."""
    name = os.fsdecode(b"caf\xe9")
    write(voc, name, thing("cat", (3, 4, 10, 12)))
    if lists == "with it":
        (voc / "ImageSets/Main/val.txt").write_bytes(b"b\ncaf\xe9\n")
    source = SOURCE if lists != "none" else VocSource(root=Path(), split_shares=SplitShares(train=0.4, val=0.3, test=0.3))
    pictures = [picture for own in read_voc(source, voc, seed=0).splits.values() for picture in own]
    for picture in pictures:
        picture.file_name.encode()
    own = [picture for picture in pictures if picture.file_name == r"caf\xe9.jpg"]
    assert [picture.pixels().shape for picture in own] == [(20, 30, 3)] * (lists != "without it")


def test_a_broken_picture_in_another_encoding_is_named(voc: Path) -> None:
    """The message can be printed."""
    name = os.fsdecode(b"caf\xe9")
    write(voc, name)
    (voc / "JPEGImages" / f"{name}.jpg").write_bytes(b"broken")
    source = VocSource(root=Path(), split_shares=SplitShares(train=0.4, val=0.3, test=0.3))
    [own] = [p for pictures in read_voc(source, voc, seed=0).splits.values() for p in pictures if p.file_name.startswith("caf")]
    with pytest.raises(InputError) as caught:
        own.pixels()
    assert r"caf\xe9.jpg: not a readable picture" in str(caught.value)
    assert str(caught.value).encode()


def test_what_no_list_names_does_not_matter(voc: Path) -> None:
    """Two pictures of one name, a link that leads out, an annotation alone: none of them is asked for."""
    (voc / "JPEGImages" / "x.jpg").symlink_to("/etc/hostname")
    (voc / "JPEGImages" / "y.jpg").touch()
    (voc / "JPEGImages" / "y.png").touch()
    (voc / "Annotations" / "z.xml").touch()
    assert sum(map(len, read_voc(SOURCE, voc, seed=0).splits.values())) == 4


def test_a_listed_link_that_leads_out_is_refused(voc: Path) -> None:
    """A data set cannot show other files of this machine."""
    for name in ("JPEGImages/b.jpg", "Annotations/b.xml"):
        content = (voc / name).read_bytes()
        (voc / name).unlink()
        (voc / name).symlink_to("/etc/hostname")
        with pytest.raises(InputError, match=rf"file name '{Path(name).name}' leads out of"):
            read_voc(SOURCE, voc, seed=0)
        (voc / name).unlink()
        (voc / name).write_bytes(content)


def test_equal_pictures_in_two_lists_are_refused(voc: Path) -> None:
    """Under another name, it leaks the test all the same; drawn again, both go into one split and it is said."""
    (voc / "JPEGImages/c.jpg").write_bytes((voc / "JPEGImages/a.jpg").read_bytes())
    with pytest.raises(InputError, match=r"test\.txt: c is in test, and the same picture is in train as a"):
        read_voc(SOURCE, voc, seed=0)
    source = VocSource(root=Path(), split_shares=SplitShares(train=0.4, val=0.3, test=0.3))
    assert "c = a" in " ".join(read_voc(source, voc, seed=0).notes)


@pytest.mark.parametrize(("orientation", "size"), [("ignore", (20, 30)), ("apply", (30, 20))])
def test_a_missing_size_is_that_of_the_turned_picture(voc: Path, orientation: str, size: tuple[int, int]) -> None:
    """Boxes drawn on the turned picture are of its height and width."""
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (30, 20)).save(voc / "JPEGImages" / "c.jpg", exif=exif)
    source = VocSource(root=Path(), exif_orientation=orientation)
    [picture] = read_voc(source, voc, seed=0).splits["test"]
    assert picture.size == picture.pixels().shape[:2] == size


def test_the_folder_of_pictures_may_be_a_link(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """To a larger disk, say."""
    elsewhere = tmp_path_factory.mktemp("disk") / "pictures"
    (voc / "JPEGImages").rename(elsewhere)
    (voc / "JPEGImages").symlink_to(elsewhere)
    assert [picture.pixels().shape for picture in read_voc(SOURCE, voc, seed=0).splits["train"]] == [(20, 30, 3)] * 2
