"""Odd data sets over all formats, made here: each ends in the right numbers or in one message. `READ` and `REFUSED` list them.

Every one that is read holds ten pictures of 20 x 30 (height, width), each with one box of a cat from (12, 6) to (18, 14), unless
its row says otherwise. `test_yolo.py`, `test_voc.py` and `test_coco.py` have what one format alone can get wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from detection.data.sources import Data, Source, read_source
from detection.frozen import InputError

LINE = "0 0.5 0.5 0.2 0.4\n"
CORNERS = {"xmin": 13, "ymin": 7, "xmax": 18, "ymax": 14}
SHADE = np.linspace(0, 200, 600).reshape(20, 30).astype(np.uint8)
BOX: dict[str, Any] = {"bbox": [12, 6, 6, 8]}
POLYGON: dict[str, Any] = {"segmentation": [[12, 6, 18, 6, 18, 14, 12, 14]]}
RUNS: dict[str, Any] = {"segmentation": {"size": [20, 30], "counts": [246, *[8, 12] * 5, 8, 246]}}  # columns 12 to 17, rows 6 to 13
Write = Callable[[Path], None]


class Odd(NamedTuple):
    """A data set that is read, and what is found."""

    make: Write
    source: dict[str, Any]
    counts: tuple[int, int, int] | None = None
    """Pictures in train, val and test; None for ten in all."""
    boxes: int = 10
    crowds: int = 0
    said: str = ""
    """Stands in a note."""


def picture(path: Path, number: int, mode: str = "L", **options: Any) -> None:
    """A picture of its own in any mode; its ending says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(SHADE + np.uint8(number)).convert(mode).save(path, **options)


def yolo(root: Path, images: str = "images", labels: str = "labels", ending: str = "png", mode: str = "L", **options: Any) -> None:
    """classes.txt, pictures and labels in two folders or one."""
    for number in range(10):
        picture(root / images / f"{number}.{ending}", number, mode, **options)
        (root / labels).mkdir(parents=True, exist_ok=True)
        (root / labels / f"{number}.txt").write_text(LINE)
    (root / "classes.txt").write_text("cat\n")


def xml(name: str = "cat") -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in CORNERS.items())
    return f"<annotation><object><name>{name}</name><bndbox>{tags}</bndbox></object></annotation>"


def voc(root: Path, images: str = "JPEGImages", annotations: str = "Annotations", first: int = 0, last: int = 10) -> None:
    for number in range(first, last):
        picture(root / images / f"{number}.jpg", number * 5)
        (root / annotations).mkdir(parents=True, exist_ok=True)
        (root / annotations / f"{number}.xml").write_text(xml())


def voc_roboflow(root: Path) -> None:
    for split, first, last in (("train", 0, 6), ("valid", 6, 8), ("test", 8, 10)):
        voc(root, split, split, first, last)


def voc_background(root: Path) -> None:
    """LabelImg writes no annotation where there is no object."""
    voc(root, ".", ".")
    for number in range(10, 20):
        picture(root / f"{number}.jpg", number * 5)


def voc_without_test(root: Path) -> None:
    voc(root, "train", "train", 0, 6)
    voc(root, "valid", "valid", 6, 10)


def voc_cvat(root: Path) -> None:
    """A list named after the task, beside which no other is."""
    voc(root)
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/default.txt").write_text("".join(f"{number}\n" for number in range(10)))
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncat:::\n")


def coco(root: Path, first: int = 0, name: str = "labels.json", images: str = "images", **own: Any) -> None:
    """Ids from `first`; own is what every annotation has besides them."""
    numbers = range(10)
    for number in numbers:
        picture(root / images / f"{number}.png", number)
    content = {
        "images": [{"id": first + n, "file_name": f"{n}.png"} for n in numbers],
        "annotations": [{"id": first + n, "image_id": first + n, "category_id": first} | own for n in numbers],
        "categories": [{"id": first, "name": "cat"}],
    }
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))


def yolo_labelimg(root: Path) -> None:
    """The labels saved into a folder of their own, with the names of the classes among them."""
    yolo(root)
    (root / "classes.txt").rename(root / "labels/classes.txt")


def yolo_twice(root: Path) -> None:
    """Picture 0 by two paths in one list, and by a copy."""
    yolo(root)
    picture(root / "images/copy.png", 0)
    (root / "all.txt").write_text("".join(f"images/{n}.png\n./images/{n}.png\n" for n in range(10)) + "images/copy.png\n")
    (root / "data.yaml").write_text("train: all.txt\nnames: [cat]\n")


def yolo_odd_names(root: Path) -> None:
    """Dots, spaces, a folder called images within images, and bytes that are not UTF-8."""
    yolo(root, "images/a/images", "images/a/labels")
    for name in ("a.b.c", "with space", os.fsdecode(b"caf\xe9")):
        picture(root / f"images/a/images/{name}.png", 20 + len(name))
        (root / f"images/a/labels/{name}.txt").write_text(LINE)


def yolo_crlf_and_bom(root: Path) -> None:
    yolo(root)
    for path in root.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))


def yolo_background(root: Path) -> None:
    yolo(root)
    for number in range(10, 20):
        picture(root / f"images/{number}.png", number)


def turned(make: Callable[..., None], root: Path) -> None:
    """Pictures stored on their side, whose tag asks to be turned right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    make(root, exif=exif)
    for path in (root / "images").iterdir():
        stored = np.rot90(np.asarray(Image.open(path)))
        Image.fromarray(stored).save(path, exif=exif)


def deep(root: Path) -> None:
    yolo(root)
    cv2.imwrite(str(root / "images/3.png"), SHADE.astype(np.uint16) * 20)


def broken(root: Path) -> None:
    yolo(root)
    path = root / "images/3.png"
    path.write_bytes(path.read_bytes()[:-60])


YOLO, VOC = {"kind": "yolo"}, {"kind": "voc"}
COCO = {"kind": "coco", "annotations": "labels.json", "images": "images"}
READ = {
    "yolo, grey PNG": Odd(yolo, YOLO),
    "yolo, RGBA": Odd(partial(yolo, mode="RGBA"), YOLO),
    "yolo, grey with alpha": Odd(partial(yolo, mode="LA"), YOLO),
    "yolo, palette": Odd(partial(yolo, mode="P"), YOLO),
    "yolo, one bit": Odd(lambda root: [yolo(root), picture(root / "images/0.png", 0, "1")][0], YOLO),
    "yolo, CMYK JPEG": Odd(partial(yolo, mode="CMYK", ending="jpg"), YOLO),
    "yolo, CMYK TIFF": Odd(partial(yolo, mode="CMYK", ending="tif"), YOLO),
    "yolo, endings in capitals": Odd(partial(yolo, ending="PNG"), YOLO),
    "yolo, turned pictures": Odd(partial(turned, partial(yolo, ending="jpg")), YOLO | {"exif_orientation": "apply"}),
    "yolo, one folder": Odd(partial(yolo, images=".", labels="."), YOLO),
    "yolo, classes.txt among the labels": Odd(yolo_labelimg, YOLO),
    "yolo, CR LF and byte order marks": Odd(yolo_crlf_and_bom, YOLO),
    "yolo, odd names": Odd(yolo_odd_names, YOLO, (9, 2, 2), boxes=13),
    "yolo, one picture by three names": Odd(yolo_twice, YOLO, None, said="repeat another"),
    "yolo, half is background": Odd(yolo_background, YOLO, (14, 3, 3), said="10 of 20 pictures have no label file"),
    "voc, Label Studio's images/": Odd(partial(voc, images="images"), VOC),
    "voc, LabelImg's one folder": Odd(partial(voc, images=".", annotations="."), VOC),
    "voc, LabelImg's background": Odd(voc_background, VOC, (14, 3, 3), said="10 of 20 pictures have no annotation"),
    "voc, Roboflow's train, valid, test": Odd(voc_roboflow, VOC, (6, 2, 2)),
    "voc, Roboflow without test": Odd(voc_without_test, VOC, (6, 2, 2), said="half of its 4 pictures are taken for each"),
    "voc, folders train and valid in JPEGImages": Odd(
        lambda root: [
            voc(root, f"JPEGImages/{own}", f"Annotations/{own}", *span) for own, *span in (("train", 0, 5), ("val", 5, 10))
        ],
        VOC,
        (7, 1, 2),
    ),
    "voc, CVAT's default.txt": Odd(voc_cvat, VOC),
    "coco, polygons alone, from 0": Odd(partial(coco, **POLYGON), COCO),
    "coco, run lengths alone": Odd(partial(coco, first=1, **RUNS), COCO),
    "coco, crowds by run lengths": Odd(partial(coco, **RUNS, iscrowd=1), COCO, crowds=10),
    "coco, Roboflow's file among the pictures": Odd(
        partial(coco, images="train", name="train/_annotations.coco.json", **BOX),
        {"kind": "coco", "annotations": "train/_annotations.coco.json", "images": "train"},
    ),
}
REFUSED = {
    "yolo, 16 bits": (deep, YOLO, r"images/3\.png: 16 bits a channel; allowed are 8"),
    "yolo, a cut picture": (broken, YOLO, r"images/3\.png: not a readable picture"),
    "yolo, turned pictures": (partial(turned, partial(yolo, ending="jpg")), YOLO, r"images/\d\.jpg: EXIF orientation 6 .* apply"),
    "yolo, no pictures": (lambda root: (root / "classes.txt").write_text("cat"), YOLO, r"no files with the ending \.jpg"),
    "yolo, no folder": (lambda root: root.rmdir(), YOLO, r"no such folder"),
    "voc, pictures only": (lambda root: picture(root / "0.jpg", 0), VOC, r"no folder Annotations\. A VOC data set has"),
    "voc, LabelImg with YOLO's labels": (partial(yolo, images=".", labels="."), VOC, r"no folder Annotations"),
    "coco, no pictures": (
        lambda root: [coco(root, **BOX), (root / "images/4.png").unlink()][0],
        COCO,
        r"images\[4\] is '4\.png', but there is no .*Add the file",
    ),
}


def source_of(source: dict[str, Any]) -> Source:
    return Data.model_validate({"source": {"root": "data", **source}}).source


@pytest.mark.parametrize("name", READ)
def test_what_is_odd_but_whole_is_read(tmp_path: Path, name: str) -> None:
    """Counts, sizes and boxes are those of the owner."""
    odd = READ[name]
    (tmp_path / "data").mkdir()
    odd.make(tmp_path / "data")
    labelled = read_source(source_of(odd.source), tmp_path, 0)
    pictures = [picture for split in labelled.splits.values() for picture in split]
    assert labelled.classes == ("cat",)
    if odd.counts:
        assert tuple(map(len, labelled.splits.values())) == odd.counts
    assert {picture.size for picture in pictures} == {(20, 30)}
    assert {picture.pixels().shape for picture in pictures} == {(20, 30, 3)}
    assert sum(len(picture.labels) for picture in pictures) == odd.boxes
    boxes = np.concatenate([picture.boxes_xyxy_px for picture in pictures])
    assert len({tuple(box) for box in boxes.round(6).tolist()}) == 1
    np.testing.assert_allclose(boxes[0], [12, 6, 18, 14])
    assert sum(int(picture.crowd.sum()) for picture in pictures) == odd.crowds
    assert odd.said in " ".join(labelled.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_ends_in_one_message(tmp_path: Path, name: str) -> None:
    """With the file, while labels or pixels are read."""
    make, source, complaint = REFUSED[name]
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    with pytest.raises(InputError, match=complaint):
        [picture.pixels() for split in read_source(source_of(source), tmp_path, 0).splits.values() for picture in split]
