"""Data sets in Pascal VOC's layout: Annotations/*.xml, JPEGImages/*, and ImageSets/Main/{train,val,test}.txt if present."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ParseError  # types only: parsing is defusedxml's

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray
from pydantic import field_validator

from detection.data.dataset import SPLITS, Split
from detection.data.labelled import (
    FolderSource,
    Labelled,
    Picture,
    SplitShares,
    existing_folder,
    inside,
    read_pixels,
    read_text,
    split_by_share,
    stored_size,
)
from detection.frozen import InputError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocSource(FolderSource):
    """A data set in Pascal VOC's layout."""

    kind: Literal["voc"] = "voc"
    classes: tuple[str, ...] = ()
    """Class names in the order of their labels; empty takes every name found, sorted. Names beside these are an error."""
    coordinates: Literal["pixels_from_1", "edges_from_0"] = "pixels_from_1"
    """What the corners are. VOC's own: the first and last pixel of the object, counted from 1, so that 1..640 is a whole row
    (VOC2011 development kit, section 4). Some tools write the edges of the box instead, from 0."""
    difficult: Literal["ignore", "keep"] = "ignore"
    """VOC neither rewards nor punishes finding a `difficult` object: ignore makes it a crowd (not learned, not counted)."""

    @field_validator("classes")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError(f"classes {names} name one class twice")
        return names


def read_voc(source: VocSource, base: Path, seed: int) -> Labelled:
    """The labelled pictures of a VOC data set; InputError names the file that is wrong."""
    root = existing_folder(base, source)
    files = _picture_files(root)
    stems = _own_splits(root, files) if source.split_shares is None else None
    if stems is None:
        _check_pairs(root, files)
        stems = split_by_share(list(files), source.split_shares or SplitShares(), seed, root)
    scenes = {split: [_read_scene(root, files[stem]) for stem in stems[split]] for split in SPLITS}
    found = {thing.name for split in SPLITS for scene in scenes[split] for thing in scene.things}
    classes = source.classes or tuple(sorted(found))
    if not classes:
        raise InputError(f"{root / 'Annotations'}: no objects in any annotation. Label some, or correct `root`.")
    labels = {name: label for label, name in enumerate(classes)}
    return Labelled(classes, {split: [_picture(scene, labels, source) for scene in scenes[split]] for split in SPLITS})


@dataclass(frozen=True)
class _Thing:
    """One annotated object, its corners as they stand in the file."""

    name: str
    corners: tuple[float, ...]  # CORNERS
    difficult: bool


@dataclass(frozen=True)
class _Scene:
    """What one annotation file says."""

    annotation: Path
    file: Path
    size: tuple[int, int]  # (height, width) in pixels
    things: tuple[_Thing, ...]


def _picture_files(root: Path) -> dict[str, Path]:
    for name in ("Annotations", "JPEGImages"):
        if not (root / name).is_dir():
            raise InputError(f"{root}: no folder {name}. A VOC data set has Annotations/*.xml and JPEGImages/*: correct `root`.")
    files: dict[str, Path] = {}
    for path in sorted((root / "JPEGImages").iterdir()):
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        other = files.setdefault(path.stem, inside(path.parent, path.name, root))
        if other != path:
            raise InputError(f"{path}: {other.name} has the same name, so one annotation would have two pictures. Remove one.")
    return files


def _own_splits(root: Path, files: dict[str, Path]) -> dict[Split, list[str]] | None:
    """The splits that the data set brings along, each checked; None where it has none."""
    lists = {split: root / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS}
    missing = [path for path in lists.values() if not path.is_file()]
    if len(missing) == len(SPLITS):
        return None
    if missing:
        raise InputError(
            f"{missing[0]}: no such file, but other splits are listed beside it. "
            f"List the pictures of all three splits, or set `split_shares` to have them split anew."
        )
    seen: dict[str, Split] = {}
    splits: dict[Split, list[str]] = {}
    for split, path in lists.items():
        splits[split] = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        if not splits[split]:
            raise InputError(f"{path}: empty split. List at least one picture, or set `split_shares` to have them split anew.")
        for stem in splits[split]:
            _check_listed(root, path, stem, files)
            if stem in seen:
                raise InputError(
                    f"{path}: {stem} stands in {split} and already in {seen[stem]}. "
                    f"A picture belongs to one split, once: remove a line."
                )
            seen[stem] = split
    return splits


def _check_listed(root: Path, path: Path, stem: str, files: dict[str, Path]) -> None:
    annotation = inside(root / "Annotations", f"{stem}.xml", path)
    if stem not in files:
        raise InputError(
            f"{path}: lists {stem}, but {root / 'JPEGImages'} has no such picture ({', '.join(PICTURE_SUFFIXES)}). "
            f"Add the picture or remove the line."
        )
    if not annotation.is_file():
        raise InputError(
            f"{path}: lists {stem}, but there is no {annotation}. Add it (without objects for background) or remove the line."
        )


def _check_pairs(root: Path, files: dict[str, Path]) -> None:
    annotations = {path.stem: path for path in sorted((root / "Annotations").glob("*.xml"))}
    without_picture = sorted(set(annotations) - set(files))
    without_annotation = sorted(set(files) - set(annotations))
    if without_picture:
        raise InputError(
            f"{annotations[without_picture[0]]}: no picture of that name in {root / 'JPEGImages'} ({len(without_picture)} such). "
            f"Add the picture or remove the annotation."
        )
    if without_annotation:
        raise InputError(
            f"{files[without_annotation[0]]}: no annotation of that name in {root / 'Annotations'} "
            f"({len(without_annotation)} such). Add it (without objects for background) or remove the picture."
        )


def _read_scene(root: Path, file: Path) -> _Scene:
    path = inside(root / "Annotations", f"{file.stem}.xml", root)
    try:
        tree: Element = fromstring(path.read_bytes())  # bytes: the encoding is the declaration's business
    except DefusedXmlException as error:
        raise InputError(f"{path}: declares XML entities, which can hide files or endless text. Remove the declaration.") from error
    except (ParseError, LookupError, ValueError) as error:  # the last two: encodings that expat does not know
        raise InputError(f"{path}: not well-formed XML ({error}). Correct or export it again.") from error
    height_px, width_px = (_size(path, tree, side) for side in ("height", "width"))
    size = (height_px, width_px) if height_px and width_px else stored_size(file)  # some tools leave it out, or write 0
    return _Scene(path, file, size, tuple(_thing(path, thing) for thing in tree.findall("object")))


def _size(path: Path, tree: Element, side: str) -> int:
    return round(_number(path, tree, f"size/{side}")) if tree.find(f"size/{side}") is not None else 0


def _thing(path: Path, thing: Element) -> _Thing:
    name = (thing.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{path}: an <object> without <name>. Name its class or remove it.")
    difficult = thing.find("difficult") is not None and _number(path, thing, "difficult") != 0
    return _Thing(name, tuple(_number(path, thing, f"bndbox/{corner}") for corner in CORNERS), difficult)


def _number(path: Path, element: Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path}: <{tag}> of an <{element.tag}> is {text!r}; it must be a number. Correct the annotation.")
    return number


def _picture(scene: _Scene, labels: dict[str, int], source: VocSource) -> Picture:
    for thing in scene.things:
        if thing.name not in labels:
            raise InputError(
                f"{scene.annotation}: unknown class {thing.name!r}; `classes` are {', '.join(labels)}. "
                f"Add it there or correct the annotation."
            )
    corners = np.array([thing.corners for thing in scene.things], dtype=np.float64).reshape(-1, 4)
    return Picture(
        file_name=scene.file.name,
        size=scene.size,
        boxes_xyxy_px=_edges(corners) if source.coordinates == "pixels_from_1" else corners,
        labels=np.array([labels[thing.name] for thing in scene.things], dtype=np.int64),
        crowd=np.array([thing.difficult and source.difficult == "ignore" for thing in scene.things], dtype=np.bool_),
        pixels=partial(read_pixels, scene.file, scene.size, source.exif_orientation),
    )


def _edges(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges from 0 of boxes given by their first and last pixel from 1: only the first corner moves.

    Corners on one row or column are a slip of the mouse, not an object one pixel wide: they stay without area, to be dropped.
    """
    has_area = (corners[:, 2:] > corners[:, :2]).all(1, keepdims=True)
    return np.concatenate([corners[:, :2] - has_area, corners[:, 2:]], 1)
