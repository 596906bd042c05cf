"""What describes a YOLO data set: its classes, and the folders or lists of its splits.

Ultralytics, Roboflow and newer CVAT write `data.yaml`, CVAT's "YOLO 1.1" `obj.data`, Label Studio and LabelImg `classes.txt` only.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from detection.data.dataset import Split
from detection.data.labelled import SHOWN, SPLIT_NAMES, FolderSource, check_unique, inside, read_text, stays_in
from detection.frozen import InputError

DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "obj.data", "classes.txt", "labels/classes.txt", "obj.names")
"""What may name the classes, the first that is there."""
LEADING = re.compile(r"^((\.{1,2}|data)/)+")
"""Roboflow writes ../train/images for what lies next to data.yaml, darknet and CVAT data/train.txt."""


class YoloSource(FolderSource):
    """A data set in YOLO's format. Classes are ordered by their number."""

    kind: Literal["yolo"] = "yolo"
    data: Path | None = None
    """The file that names the classes and perhaps the splits, relative to root: data.yaml, obj.data, or a class a line. By default
    the first of those names that is there."""

    @property
    def descriptions(self) -> tuple[str, ...]:
        """The files of which the first that is there describes the data set."""
        return (self.data.as_posix(),) if self.data else DESCRIPTIONS


class Description(NamedTuple):
    """What the file says; nothing is looked for yet."""

    path: Path
    names_file: Path
    """Another file where obj.data names one."""
    names: dict[int, str]
    """Class number -> name, by number."""
    splits: dict[Split, list[str]]
    """The folders, lists or pictures that each split names, as they stand there."""
    bases: tuple[Path, ...]
    """Folders to which those may be relative."""
    keypoints: int
    """How many numbers follow a box, for poses."""


def describe(root: Path, source: YoloSource) -> Description:
    """What describes the data set in this folder; InputError where nothing does, or what is wrong there."""
    path = next((file for name in source.descriptions if (file := inside(root, name, "data.source.data")).is_file()), None)
    if path is None:
        raise InputError(
            f"{root}: no {' or '.join(source.descriptions)}. One of them names the classes: data.yaml (Ultralytics, Roboflow, "
            f"CVAT), obj.data (CVAT's YOLO 1.1) or classes.txt, a class a line (Label Studio, LabelImg). Correct `root`, or "
            f"name it as `data`."
        )
    content = _parsed(path)
    names_file = path
    if path.suffix.lower() == ".data":
        names_file = located(root, (path.parent, root), content.get("names", "obj.names")) or path
        if names_file == path or not names_file.is_file():
            raise InputError(f"{path}: names is {content.get('names')!r}, but there is no such file. Put it there: a class a line.")
        content |= _parsed(names_file)
    splits = dict[Split, list[str]]()
    for key, value in content.items():
        if split := SPLIT_NAMES.get(key.lower()):
            given = value if isinstance(value, list) else [value]
            if not all(isinstance(name, str) for name in given):
                raise InputError(f"{path}: {key} is {value!r}; it may be a folder, a text file of pictures, or a list of those.")
            splits |= {split: own} if (own := [name for name in given if name not in ("", "null", "~")]) else {}
    points, below = content.get("kpt_shape"), content.get("path")
    bases = dict.fromkeys((path.parent / below if isinstance(below, str) else path.parent, path.parent, root))
    keypoints = whole_number(math.prod(map(number_in, points))) if isinstance(points, list) else 0
    return Description(path, names_file, _classes(content, names_file), splits, tuple(bases), keypoints)


def located(root: Path, bases: tuple[Path, ...], name: str) -> Path | None:
    """The file or folder in root that a path means, relative to one of the bases; None where there is none."""
    for base in bases:
        for own in dict.fromkeys((name, LEADING.sub("", name))):
            path = Path(os.path.normpath(base / own))
            with suppress(OSError, ValueError):  # a name that no file can have
                if path.exists() and stays_in(root, path):
                    return path
    return None


def number_in(text: object) -> float:
    """The number that is written there; NaN where it is none."""
    try:
        return float(str(text))
    except ValueError:
        return math.nan


def whole_number(number: float) -> int:
    """The same whole number from 0; -1 for any other."""
    return int(number) if 0 <= number < math.inf and number == int(number) else -1


def _parsed(path: Path) -> dict[str, Any]:
    """What the description says, every value as text: a class may be called `no`, or 7."""
    text = read_text(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        try:
            content = yaml.BaseLoader(text).get_single_data()
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}). Correct or export it again.") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: not a YOLO description; it needs `names`, and train, val and test. Export it again.")
        return content
    if path.suffix.lower() == ".data":
        pairs = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in text.splitlines())}
        return pairs | {"nc": pairs.get("classes")}
    return {"names": text.rstrip().splitlines()}


def _classes(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Class number -> name, by number; InputError where they cannot be told."""
    names, count = content.get("names"), content.get("nc")
    if not names and count:
        names = [f"class{number}" for number in range(whole_number(number_in(count)))]
    pairs = list(names.items()) if isinstance(names, dict) else list(enumerate(names)) if isinstance(names, list) else []
    classes = {whole_number(number_in(number)): name.strip() if isinstance(name, str) else "" for number, name in pairs}
    if not classes or -1 in classes or not all(classes.values()):
        raise InputError(
            f"{path}: names is {str(names)[:SHOWN]!r}; it must be a list of names, or number: name, each a whole number from 0 and "
            f"a text. List every class."
        )
    if count and whole_number(number_in(count)) != len(classes):
        raise InputError(f"{path}: {count} classes are announced, but {len(classes)} are named. Correct one of them.")
    check_unique(classes.values(), "class name", path)
    return dict(sorted(classes.items()))
