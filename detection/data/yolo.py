"""Data sets in YOLO's format: for every picture a text file of boxes or polygons, and one file that names classes and splits."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.data.dataset import Split
from detection.data.labelled import (
    PICTURE_SUFFIXES,
    SHOWN,
    DataFile,
    Labelled,
    Picture,
    background_note,
    existing_folder,
    found_files,
    inside,
    nothing_found,
    read_text,
    settle_splits,
)
from detection.data.pixels import read_pixels, size_in_header
from detection.data.yolo_description import LEADING, Description, YoloSource, describe, located, number_in, whole_number
from detection.frozen import InputError, printable

FAR = 1.5
"""How far from the picture's centre a number may be, in pictures: 0.5 is the border. What is farther is in pixels."""
BORDER = 1e-5
"""An edge so near the border, in pictures, is the border: files are rounded to about six decimals."""


def read_yolo(source: YoloSource, base: Path, seed: int) -> Labelled:
    """The labelled pictures of a YOLO data set; InputError names the file and line that is wrong."""
    root = existing_folder(base, source)
    about = describe(root, source)
    given, gone = _given(root, about)
    splits, notes = settle_splits(given, source.split_shares, seed, about.path)
    files = {name: file for own in splits.values() for name, file in own.items()}
    labels = _label_files(root, files)
    rows = {name: _rows(label, about) for name, label in labels.items()}
    without = len(files) - sum(bool(len(own)) for own in rows.values())
    return Labelled(
        classes=tuple(about.names.values()),
        splits={
            split: [_picture(name, file, rows.get(name), about, source) for name, file in own.items()]
            for split, own in splits.items()
        },
        notes=(*gone, *notes, *background_note(without, len(files), "label file, or an empty one"), *_alone(labels, files)),
    )


def yolo_files(source: YoloSource, base: Path) -> Iterator[DataFile]:
    """Every file that the reader looks at: the description, lists, pictures, and their labels."""
    root = base / source.root
    yield from (DataFile(root, name, _content(root / name)) for name in source.descriptions)
    try:
        about = describe(root, source)
        yield from (DataFile(root, _name(root, path), _content(path)) for path in (about.names_file, *_lists(root, about)))
        files = {name: file for own in _given(root, about)[0].values() for name, file in own.items()}
    except InputError:  # the reader says what is wrong
        return
    for name, file in sorted(files.items()):
        yield DataFile(root, name)
        yield from (DataFile(root, _name(root, path), _content(path)) for path in _label_places(root, file) if path.is_file())


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (OSError, ValueError):  # not there, or a name that no file can have
        return None


def _name(root: Path, path: Path) -> str:
    return os.path.relpath(path, root)


def _lists(root: Path, about: Description) -> list[Path]:
    """The text files that name the pictures of a split."""
    found = (located(root, about.bases, name) for named in about.splits.values() for name in named)
    return [path for path in found if path and path.suffix.lower() == ".txt" and path.is_file()]


def _given(root: Path, about: Description) -> tuple[dict[Split, dict[str, Path]], list[str]]:
    """The pictures of each split that is named by their paths in root, and what to tell of one that is not there."""
    if not about.splits:
        folder = root / "images" if (root / "images").is_dir() else root
        return {"train": _pictures_of(root, about, ".", folder)}, []
    given, gone = dict[Split, dict[str, Path]](), list[str]()
    for split, names in about.splits.items():
        paths = {name: located(root, about.bases, name) for name in names}
        if split == "test" and not any(paths.values()):  # Roboflow names it always
            gone.append(f"{about.path}: test is {names[0]!r}, which is not there")
            continue
        given[split] = {}
        for name, path in paths.items():
            given[split] |= _pictures_of(root, about, name, path)
    return given, gone


def _pictures_of(root: Path, about: Description, name: str, path: Path | None) -> dict[str, Path]:
    """The pictures of a folder, of a list, or the one picture, by their paths in root."""
    if path is None:
        inside(root, LEADING.sub("", name), str(about.path))
        raise InputError(
            f"{about.path}: {name!r} is not there (looked in {' and '.join(map(str, about.bases))}). Put it there or correct "
            f"the path: a folder of pictures, or a text file with a picture a line."
        )
    if path.is_dir():
        files = found_files(path, PICTURE_SUFFIXES)
        if not files:
            raise nothing_found(path, PICTURE_SUFFIXES)
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        files = [path]
    else:
        files = _listed(root, about, path)
    return {own: inside(root, own, str(about.path)) for own in (_name(root, file) for file in files)}


def _listed(root: Path, about: Description, path: Path) -> list[Path]:
    """The pictures that a list names."""
    files = []
    for number, line in enumerate(read_text(path, "surrogateescape").splitlines(), 1):
        if name := line.strip():
            file = located(root, (*about.bases, path.parent), name)
            if file is None or not file.is_file():
                raise InputError(
                    f"{path}: line {number} is {name[:SHOWN]!r}, but no such picture is in {root}. Add it (export with the "
                    f"pictures), remove the line, or write paths relative to that folder."
                )
            files.append(file)
    if not files:
        raise InputError(f"{path}: empty split. List at least one picture, or set `split_shares` to have them split again.")
    return files


def _label_places(root: Path, file: Path) -> list[Path]:
    """Where the labels of a picture may be: in `labels` where it is in `images`, or next to it."""
    parts = Path(_name(root, file)).with_suffix(".txt").parts
    places = [root.joinpath(*parts)]
    if "images" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("images")
        places.insert(0, root.joinpath(*parts[:last], "labels", *parts[last + 1 :]))
    return places


def _label_files(root: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    """The label file of every picture that has one; InputError where none has, or two have the same."""
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name, file in files.items():
        label = next((path for path in _label_places(root, file) if path.is_file()), None)
        if label is not None:
            found[name] = inside(root, _name(root, label), str(root))
            if (owner := owners.setdefault(label, name)) != name:
                raise InputError(
                    f"{label}: both {owner} and {name} have this name. A picture has one file and one label file: remove one."
                )
    if not found:
        looked = " and ".join(str(path) for path in _label_places(root, next(iter(files.values()))))
        raise InputError(f"{root}: none of {len(files):,} pictures has a label file; looked for {looked}. Put the labels there.")
    return found


def _alone(labels: Mapping[str, Path], files: Mapping[str, Path]) -> list[str]:
    """What to tell of label files without a picture."""
    places: dict[Path, set[Path]] = defaultdict(set)
    for name, label in labels.items():
        places[label.parent].add(files[name].parent)
    alone: list[Path] = []
    for folder, own in sorted(places.items()):
        stems = {path.stem for place in own for path in place.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES}
        alone += sorted(path for path in folder.glob("*.txt") if path.stem not in {*stems, "classes"})
    return [f"{len(alone):,} text files next to the labels have no picture, first {alone[0]}: left out"] if alone else []


def _rows(path: Path, about: Description) -> NDArray[np.float64]:
    """(n, 5): class number, and the edges left, top, right, bottom in shares of the picture."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if words := line.split():
            values = [number_in(word) for word in words]
            if fault := _fault(words, values, about):
                raise InputError(
                    f"{path}: line {number} is {line.strip()[:SHOWN]!r}: {fault}. A line is `class cx cy width height`, or "
                    f"`class x1 y1 x2 y2 x3 y3 ...` for a polygon, in shares of the picture, 0 to 1. Correct or export it again."
                )
            if len(values) in (5, 5 + about.keypoints):
                cx, cy, width, height = values[1:5]
                edges = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
            else:
                xs, ys = values[1::2], values[2::2]
                edges = (min(xs), min(ys), max(xs), max(ys))
            rows.append((values[0], *(round(edge) if abs(edge - round(edge)) < BORDER else edge for edge in edges)))
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _fault(words: list[str], values: list[float], about: Description) -> str | None:
    """What is wrong with a line; None where nothing is."""
    if odd := [word for word, value in zip(words, values, strict=True) if not math.isfinite(value)]:
        return f"{odd[0]!r} is not a number"
    if whole_number(values[0]) not in about.names:
        return f"unknown class {words[0]}; classes are {', '.join(f'{number} ({name})' for number, name in about.names.items())}"
    if len(values) == 6:
        return "a sixth number is a confidence, as predictions have: they are no labels. Remove the column if somebody checked them"
    if len(values) not in (5, 5 + about.keypoints) and (len(values) < 7 or len(values) % 2 == 0):
        return f"{len(values)} numbers"
    shares = values[1:5] if len(values) == 5 + about.keypoints else values[1:]
    far = next((word for word, share in zip(words[1:], shares, strict=False) if abs(share - 0.5) > FAR), None)
    return f"{far} is far outside, perhaps in pixels" if far else None


def _picture(name: str, file: Path, rows: NDArray[np.float64] | None, about: Description, source: YoloSource) -> Picture:
    rows = np.empty((0, 5)) if rows is None else rows
    labels = {number: label for label, number in enumerate(about.names)}
    size = size_in_header(file, source.exif_orientation)
    return Picture(
        file_name=printable(name),
        size=size,
        boxes_xyxy_px=rows[:, 1:] * np.array([*size[::-1]] * 2, dtype=np.float64),
        labels=np.array([labels[int(number)] for number in rows[:, 0]], dtype=np.int64),
        crowd=np.zeros(len(rows), dtype=np.bool_),
        pixels=partial(read_pixels, file, size, source.exif_orientation),
    )
