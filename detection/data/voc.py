"""Data sets in Pascal VOC's format: Annotations/*.xml, JPEGImages/*, and ImageSets/Main/{train,val,test}.txt if present.

A picture and its annotation have one name, here `stem`: the path within their folders, without the ending. Label Studio calls
the folder of the pictures `images`; LabelImg and Roboflow put both side by side, Roboflow in train/, valid/ and test/.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, ParseError  # types only: parsing is defusedxml's

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray
from pydantic import field_validator

from detection.data.dataset import SPLITS, Split
from detection.data.labelled import (
    PICTURE_SUFFIXES,
    SPLIT_NAMES,
    DataFile,
    FolderSource,
    Labelled,
    Picture,
    background_note,
    check_splits,
    existing_folder,
    found_files,
    inside,
    nothing_found,
    read_bytes,
    read_text,
    settle_splits,
)
from detection.data.pixels import read_pixels, size_in_header
from detection.frozen import InputError, printable

ANNOTATION_SUFFIXES = (".xml",)
LISTS: dict[Split, str] = {split: f"ImageSets/Main/{split}.txt" for split in SPLITS}
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocSource(FolderSource):
    """A data set in Pascal VOC's format."""

    kind: Literal["voc"] = "voc"
    classes: tuple[str, ...] = ()
    """Class names in the order of their labels; empty takes every name found, sorted. Any other name is an error."""
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
    folders = _folders(root)
    annotations, pictures = _by_stem(folders.annotations, ANNOTATION_SUFFIXES), _by_stem(folders.pictures, PICTURE_SUFFIXES)
    lists = _lists(root) if source.split_shares is None else None
    side_by_side = folders.annotations == folders.pictures
    if lists is None:
        _check_pairs(folders, pictures, annotations if not side_by_side else {**pictures, **annotations})
        files = _chosen(folders.pictures, pictures, pictures)
        splits, notes = settle_splits(_split_folders(files) if side_by_side else {"train": files}, source.split_shares, seed, root)
    else:
        stems = _own_splits(folders, lists, pictures, annotations)
        splits = {split: _chosen(folders.pictures, own, pictures) for split, own in stems.items()}
        notes = check_splits(splits, lists)
    stems_read = [stem for own in splits.values() for stem in own]
    xmls = _chosen(folders.annotations, [stem for stem in stems_read if stem in annotations], annotations)
    notes += background_note(len(stems_read) - len(xmls), len(stems_read), "annotation")
    scenes = {split: [_read_scene(xmls.get(stem), file, source) for stem, file in splits[split].items()] for split in SPLITS}
    found = {name for own in scenes.values() for scene in own for name in scene.names}
    classes = source.classes or tuple(sorted(found))
    if not classes:
        raise InputError(f"{folders.annotations}: no objects in any annotation. Label some, or correct `root`.")
    labels = {name: label for label, name in enumerate(classes)}
    folder = folders.pictures
    return Labelled(
        classes, {split: [_picture(folder, scene, labels, source) for scene in scenes[split]] for split in SPLITS}, notes
    )


def voc_files(source: VocSource, base: Path) -> Iterator[DataFile]:
    """Every file that the reader may look at: lists and annotations, and the pictures."""
    root = base / source.root
    annotations, pictures = _folders(root)
    found = (*found_files(annotations, ANNOTATION_SUFFIXES), *found_files(pictures, PICTURE_SUFFIXES))
    for path in (*(root / path for path in LISTS.values()), *found):
        by_size = path.suffix.lower() in PICTURE_SUFFIXES or not path.is_file()
        content = None if by_size else read_bytes(path)
        yield DataFile(root, path.relative_to(root).as_posix(), content)


class _Scene(NamedTuple):
    """What one annotation file says, of n objects."""

    annotation: Path
    file: Path
    size: tuple[int, int]  # (height, width) in pixels
    names: list[str]  # (n,)
    corners: NDArray[np.float64]  # (n, 4), CORNERS as they stand in the file
    difficult: list[bool]  # (n,)


class _Folders(NamedTuple):
    annotations: Path
    pictures: Path


def _folders(root: Path) -> _Folders:
    """Where annotations and pictures are; side by side in root where it has annotations, but neither of VOC's folders."""
    folders = _Folders(root / "Annotations", root / "JPEGImages")
    if folders.pictures.is_dir():
        return folders
    if folders.annotations.is_dir():
        return folders._replace(pictures=root / "images") if (root / "images").is_dir() else folders
    return _Folders(root, root) if found_files(root, ANNOTATION_SUFFIXES) else folders


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """The files of every stem; InputError where there is no such folder, or nothing to read in it."""
    if not folder.is_dir():
        raise InputError(
            f"{folder.parent}: no folder {folder.name}. A VOC data set has Annotations/*.xml and JPEGImages/* (or images/*), "
            f"or both side by side: correct `root`."
        )
    files: dict[str, list[Path]] = defaultdict(list)
    for path in found_files(folder, suffixes):
        files[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    if not files:
        raise nothing_found(folder, suffixes)
    return files


def _split_folders(files: dict[str, Path]) -> dict[Split, dict[str, Path]]:
    """The splits where every picture is in a folder train, valid or test; otherwise all as one."""
    splits: dict[Split, dict[str, Path]] = defaultdict(dict)
    for stem, file in files.items():
        if (split := SPLIT_NAMES.get(stem.partition("/")[0].lower())) is None:
            return {"train": files}
        splits[split][stem] = file
    return splits


def _chosen(folder: Path, stems: Iterable[str], files: dict[str, list[Path]]) -> dict[str, Path]:
    """The one file of each of these stems, checked to lie in the folder."""
    chosen = {}
    for stem in stems:
        path, *others = files[stem]
        if others:
            raise InputError(f"{others[0]}: {path.name} has the same name. A picture has one file and one annotation: remove one.")
        chosen[stem] = inside(folder, path.relative_to(folder).as_posix(), str(folder))
    return chosen


def _lists(root: Path) -> dict[Split, Path] | None:
    """The lists of the splits that the data set brings along; None where it has none, InputError where one is missing."""
    lists = {split: root / path for split, path in LISTS.items()}
    missing = [path for path in lists.values() if not path.is_file()]
    if len(missing) == len(SPLITS):
        return None
    if missing:
        raise InputError(
            f"{missing[0]}: no such file, but other splits are listed next to it. "
            f"List the pictures of all three splits, or set `split_shares` to have them split again."
        )
    return lists


def _own_splits(
    folders: _Folders, lists: dict[Split, Path], pictures: dict[str, list[Path]], annotations: dict[str, list[Path]]
) -> dict[Split, list[str]]:
    """The stems that each list names, each checked."""
    seen: dict[str, Split] = {}
    splits: dict[Split, list[str]] = {}
    for split, path in lists.items():
        lines = read_text(path, "surrogateescape").splitlines()
        splits[split] = [line.strip() for line in lines if line.strip()]
        if not splits[split]:
            raise InputError(f"{path}: empty split. List at least one picture, or set `split_shares` to have them split again.")
        for stem in splits[split]:
            if stem not in pictures:
                raise InputError(
                    f"{path}: lists {stem}, but {folders.pictures} has no such picture ({', '.join(PICTURE_SUFFIXES)})"
                    f"{_near(stem, pictures)}. Add the picture or remove the line."
                )
            if stem not in annotations:
                raise InputError(
                    f"{path}: lists {stem}, but there is no {folders.annotations / stem}.xml{_near(stem, annotations)}. "
                    f"Add it (without objects for background) or remove the line."
                )
            if stem in seen:
                raise InputError(
                    f"{path}: {stem} stands in {split} and already in {seen[stem]}. "
                    f"A picture belongs to one split, once: remove a line."
                )
            seen[stem] = split
    return splits


def _near(stem: str, files: Iterable[str]) -> str:
    """A hint where the name is there, but in another folder or without the ending that the list has."""
    names = {PurePosixPath(stem).name, PurePosixPath(stem).stem}
    near = next((other for other in files if PurePosixPath(other).name in names), None)
    return f"; but {near} is there: names are paths without their ending" if near else ""


def _check_pairs(folders: _Folders, pictures: dict[str, list[Path]], annotations: dict[str, list[Path]]) -> None:
    without_picture = sorted(set(annotations) - set(pictures))
    without_annotation = sorted(set(pictures) - set(annotations))
    if without_picture:
        raise InputError(
            f"{annotations[without_picture[0]][0]}: no picture of that name in {folders.pictures} ({len(without_picture)} such)"
            f"{_near(without_picture[0], pictures)}. Add the picture or remove the annotation."
        )
    if without_annotation:
        raise InputError(
            f"{pictures[without_annotation[0]][0]}: no annotation of that name in {folders.annotations} "
            f"({len(without_annotation)} such). Add it (without objects for background) or remove the picture."
        )


def _read_scene(path: Path | None, file: Path, source: VocSource) -> _Scene:
    if path is None:  # LabelImg writes no file where there is no object
        return _Scene(file, file, size_in_header(file, source.exif_orientation), [], np.empty((0, 4)), [])
    content = read_bytes(path)
    try:
        tree: Element = fromstring(content)  # bytes: the encoding is the declaration's business
    except DefusedXmlException as error:
        raise InputError(f"{path}: declares XML entities, which can hide files or endless text. Remove the declaration.") from error
    except (ParseError, LookupError, ValueError) as error:  # the last two: encodings that expat does not know
        raise InputError(f"{path}: not well-formed XML ({error}). Correct or export it again.") from error
    height_px, width_px = (round(_number(path, tree, f"size/{side}", missing="0")) for side in ("height", "width"))
    given = (height_px, width_px) if height_px and width_px else None  # some tools leave it out, or write 0
    things = tree.findall("object")
    names = [(thing.findtext("name") or "").strip() for thing in things]
    if not all(names):
        raise InputError(f"{path}: an <object> without <name>. Name its class or remove it.")
    corners = [[_number(path, thing, f"bndbox/{corner}") for corner in CORNERS] for thing in things]
    return _Scene(
        annotation=path,
        file=file,
        size=given or size_in_header(file, source.exif_orientation),
        names=names,
        corners=np.array(corners, dtype=np.float64).reshape(-1, 4),
        difficult=[_number(path, thing, "difficult", missing="0") != 0 for thing in things],
    )


def _number(path: Path, element: Element, tag: str, missing: str | None = None) -> float:
    """The number in a tag, or the one that is meant where the tag is missing."""
    text = element.findtext(tag, missing)
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path}: <{tag}> of an <{element.tag}> is {text!r}; it must be a number. Correct the annotation.")
    return number


def _picture(folder: Path, scene: _Scene, labels: dict[str, int], source: VocSource) -> Picture:
    if unknown := [name for name in scene.names if name not in labels]:
        raise InputError(
            f"{scene.annotation}: unknown class {unknown[0]!r}; `classes` are {', '.join(labels)}. "
            f"Add it there or correct the annotation."
        )
    return Picture(
        file_name=printable(scene.file.relative_to(folder).as_posix()),
        size=scene.size,
        boxes_xyxy_px=_edges(scene.corners) if source.coordinates == "pixels_from_1" else scene.corners,
        labels=np.array([labels[name] for name in scene.names], dtype=np.int64),
        crowd=np.array([difficult and source.difficult == "ignore" for difficult in scene.difficult], dtype=np.bool_),
        pixels=partial(read_pixels, scene.file, scene.size, source.exif_orientation),
    )


def _edges(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges from 0 of boxes given by their first and last pixel from 1: only the first corner moves.

    Corners on one row or column are a slip of the mouse, not an object one pixel wide: they stay without area, to be dropped.
    """
    has_area = (corners[:, 2:] > corners[:, :2]).all(1, keepdims=True)
    return np.concatenate([corners[:, :2] - has_area, corners[:, 2:]], 1)
