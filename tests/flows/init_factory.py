"""A dozen pictures with labels in each format: 240 x 320 (height, width), one box of 61 x 90 pixels in each."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (240, 320)
BOX = (40.0, 30.0, 101.0, 120.0)
"""Left, top, right, bottom; 24 pixels of 61 take a width of 126, so the input is 96 x 128."""
CLASSES = ("cat", "dog")
SPLITS = {"train": 6, "val": 3, "test": 3}
Write = Callable[..., Path]


def picture(path: Path, shade: int, size: tuple[int, int] = SIZE) -> Path:
    """A picture unlike those of other shades."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, dtype=np.uint8)).save(path)
    return path


def write_yolo(
    folder: Path, classes: Sequence[str] = CLASSES, size: tuple[int, int] = SIZE, box: tuple[float, float, float, float] = BOX
) -> Path:
    """With data.yaml and folders of splits, as Ultralytics and Roboflow write it."""
    left, top, right, bottom = box
    line = f"{(left + right) / 2 / size[1]} {(top + bottom) / 2 / size[0]} {(right - left) / size[1]} {(bottom - top) / size[0]}\n"
    shade = 0
    for split, count in SPLITS.items():
        for index in range(count):
            label = folder / f"{split}/labels/p{index}.txt"
            picture(folder / f"{split}/images/p{index}.png", shade := shade + 5, size)
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{index % len(classes)} {line}")
    names = "".join(f"{split}: {split}/images\n" for split in SPLITS)
    (folder / "data.yaml").write_text(f"{names}names: {json.dumps(list(classes))}\n")
    return folder


def write_voc(folder: Path) -> Path:
    """Annotations and JPEGImages, without lists of splits."""
    (folder / "Annotations").mkdir(parents=True)
    corners = "".join(f"<{name}>{edge:.0f}</{name}>" for name, edge in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
    for index in range(12):
        picture(folder / f"JPEGImages/p{index}.png", 5 * index)
        thing = f"<object><name>{CLASSES[index % 2]}</name><bndbox>{corners}</bndbox></object>"
        (folder / f"Annotations/p{index}.xml").write_text(f"<annotation>{thing}</annotation>")
    return folder


def write_coco(folder: Path) -> Path:
    """One file, its pictures in a folder of their own; and another file that is none."""
    names = [picture(folder / f"images/p{index}.png", 5 * index).name for index in range(12)]
    (folder / "labels.json").write_text(json.dumps(_coco(names)))
    (folder / "notes.json").write_text('{"images": []}')
    return folder


def write_roboflow_coco(folder: Path) -> Path:
    """One file a split, next to its pictures."""
    shade = 0
    for split, count in {"train": 6, "valid": 3, "test": 3}.items():
        names = [picture(folder / split / f"p{index}.png", shade := shade + 5).name for index in range(count)]
        (folder / split / "_annotations.coco.json").write_text(json.dumps(_coco(names)))
    return folder


def write_archive(folder: Path) -> Path:
    """The YOLO folder in a zip."""
    write_yolo(folder)
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return folder.with_suffix(".zip")


def _coco(names: list[str]) -> dict[str, object]:
    left, top, right, bottom = BOX
    return {
        "images": [{"id": index, "file_name": name} for index, name in enumerate(names)],
        "annotations": [
            {"image_id": index, "category_id": index % 2, "bbox": [left, top, right - left, bottom - top]}
            for index in range(len(names))
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(CLASSES)],
    }
