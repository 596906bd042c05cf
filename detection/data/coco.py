"""Data sets in COCO's format: one JSON file of pictures, categories and boxes, or one per split."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from detection.data.dataset import SPLITS, Split
from detection.data.labelled import (
    DataFile,
    FolderSource,
    Labelled,
    Picture,
    check_unique,
    draw_splits,
    existing_folder,
    inside,
    read_bytes,
    read_text,
    settle_splits,
)
from detection.data.pixels import ExifOrientation, read_pixels, size_in_header
from detection.frozen import Frozen, InputError


class SplitPaths(Frozen):
    """One path per split, relative to the data folder; of val and test one may be missing, and takes half of the other."""

    train: Path
    val: Path | None = None
    test: Path | None = None

    @property
    def given(self) -> tuple[Split, ...]:
        """The splits that have a path."""
        return tuple(split for split in SPLITS if getattr(self, split) is not None)

    @model_validator(mode="after")
    def _has_two(self) -> SplitPaths:
        if self.given == ("train",):
            raise ValueError("train alone is no split: add val or test, or give one path in place of `train: ...`")
        return self


class CocoSource(FolderSource):
    """A data set in COCO's format. Classes are ordered by category id; crowds (`iscrowd: 1`) stay crowds."""

    kind: Literal["coco"] = "coco"
    annotations: Path | SplitPaths
    """The JSON file, relative to root, or one for train and one for val, test or both."""
    images: Path | SplitPaths = Path()
    """Folder of the pictures, relative to root, or one per split; `file_name` is relative to it."""

    @model_validator(mode="after")
    def _one_way_to_split(self) -> CocoSource:
        already_split = isinstance(self.annotations, SplitPaths)
        folders_split = isinstance(self.images, SplitPaths)
        if already_split and self.split_shares:
            raise ValueError("annotations per split and `split_shares` contradict each other: give one of them")
        if folders_split and not already_split:
            raise ValueError("`images` per split needs `annotations` per split: give one folder, or a file for each split")
        own, theirs = (paths.given if isinstance(paths, SplitPaths) else () for paths in (self.annotations, self.images))
        if theirs and theirs != own:
            raise ValueError(f"annotations are of {' and '.join(own)}, images of {' and '.join(theirs)}: name the same splits")
        return self


def read_coco(source: CocoSource, base: Path, seed: int) -> Labelled:
    """The labelled pictures of a COCO data set; InputError names the entry that is wrong and where it stands."""
    root = existing_folder(base, source)
    if isinstance(source.annotations, SplitPaths):
        paths = {split: root / _of_split(source.annotations, split) for split in source.annotations.given}
        contents = {split: _parse(path) for split, path in paths.items()}
        _check_same_categories(contents, paths)
        given = {split: _files(contents[split], paths[split], root / _of_split(source.images, split)) for split in paths}
        files, notes = settle_splits(given, None, seed, root, paths)
        [half, *_] = [split for split in paths if split != "train"]
        contents = {split: contents.get(split, contents[half]) for split in SPLITS}
    else:
        assert isinstance(source.images, Path), "checked by the config"
        path = root / source.annotations
        content = _parse(path)
        contents = dict.fromkeys(SPLITS, content)
        files, notes = draw_splits(_files(content, path, root / source.images), source.split_shares, seed, path)
    categories, left_out = _categories(contents)
    labels = {category.id: label for label, category in enumerate(categories)}
    return Labelled(
        classes=tuple(category.name for category in categories),
        splits={split: _pictures(contents[split], files[split], labels, source.exif_orientation) for split in SPLITS},
        notes=(*notes, *left_out),
    )


def read_one_file(
    path: Path, find: Callable[[str], Path | None], orientation: ExifOrientation
) -> tuple[tuple[str, ...], dict[Path, Picture]]:
    """The classes of a COCO file in the order of their ids, and its pictures by their files.

    `find` gives the file of a `file_name`, or None for a picture to leave out. InputError names the entry that is wrong.
    """
    content = _parse(path)
    categories, _ = _categories({"train": content})
    labels = {category.id: label for label, category in enumerate(categories)}
    files = {image.file_name: file for image in content.images if (file := find(image.file_name)) is not None}
    pictures = _pictures(content, files, labels, orientation)
    return tuple(category.name for category in categories), dict(zip(files.values(), pictures, strict=True))


def coco_files(source: CocoSource, base: Path) -> Iterator[DataFile]:
    """Every file that the reader looks at: the annotations, and the pictures that they list."""
    root = base / source.root
    for split in source.annotations.given if isinstance(source.annotations, SplitPaths) else SPLITS[:1]:
        annotation, folder = _of_split(source.annotations, split), _of_split(source.images, split)
        content = read_bytes(root / annotation) if (root / annotation).is_file() else None
        yield DataFile(root, annotation.as_posix(), content)
        yield from (DataFile(root, f"{folder.as_posix()}/{name}") for name in _listed(content))


def _listed(content: bytes | None) -> list[str]:
    """The pictures that a COCO file lists, sorted; none where it is not one: its content counts, and `prepare` explains."""
    try:
        return sorted(str(image["file_name"]) for image in json.loads(content or b"")["images"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _of_split(paths: Path | SplitPaths, split: Split) -> Path:
    path: Path = getattr(paths, split) if isinstance(paths, SplitPaths) else paths
    return path


class _Entry(BaseModel):
    """Part of a user's COCO file: keys we do not need are fine, wrong types and NaN are not."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Category(_Entry):
    id: int
    name: str
    supercategory: Any = None


class _Image(_Entry):
    id: int
    file_name: Annotated[str, Field(min_length=1)]
    height: Annotated[int, Field(ge=0)] | None = None  # 0 for "unknown", as some tools write it
    width: Annotated[int, Field(ge=0)] | None = None


class _Annotation(_Entry):
    id: int | None = None
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    iscrowd: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _box_of_mask(cls, given: Any) -> Any:
        """The mask gives the box where there is none; it is dropped otherwise, as masks of a large file fill the memory."""
        if isinstance(given, dict) and not given.get("bbox") and given.get("segmentation"):
            return given | {"bbox": _mask_bbox(given["segmentation"])}
        return given


def _mask_bbox(mask: Any) -> tuple[float, ...]:
    """x, y, width, height in pixels of polygons, or of a run-length encoding, compressed or not; ValueError for anything else."""
    try:
        if isinstance(mask, list):
            points = np.concatenate([np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in mask])
            least, most = points.min(0), points.max(0)
            return (*least.tolist(), *(most - least).tolist())
        from hotcoco.mask import fr_py_objects, to_bbox

        runs = fr_py_objects(mask, *mask["size"]) if isinstance(mask["counts"], list) else mask
        return tuple(to_bbox(runs).tolist())
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"no bbox, and its segmentation is neither polygons nor a run-length encoding ({error})") from error


class _CocoFile(_Entry):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def _parse(path: Path) -> _CocoFile:
    try:
        content = _CocoFile.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        raise InputError(
            f"{path}: not a COCO detection file: {place + ': ' if place else ''}{first['msg']} ({error.error_count()} such). "
            f"It needs images (id, file_name), annotations (image_id, category_id, and bbox or segmentation) and "
            f"categories (id, name). Correct or export it again."
        ) from error
    _check_ids(content, path)
    return content


def _check_ids(content: _CocoFile, path: Path) -> None:
    if not content.categories:
        raise InputError(f"{path}: no categories. List every class with an id and a name.")
    if not content.images:
        raise InputError(f"{path}: no images: an empty split. List at least one picture, or split one file by `split_shares`.")
    check_unique((category.id for category in content.categories), "category id", path)
    check_unique((category.name for category in content.categories), "category name", path)
    check_unique((image.id for image in content.images), "image id", path)
    check_unique((image.file_name for image in content.images), "file_name", path)
    check_unique((annotation.id for annotation in content.annotations if annotation.id is not None), "annotation id", path)
    image_ids = {image.id for image in content.images}
    category_ids = {category.id for category in content.categories}
    for index, annotation in enumerate(content.annotations):
        if annotation.image_id not in image_ids:
            raise InputError(
                f"{path}: annotations[{index}] is of image {annotation.image_id}, which is not in `images`. "
                f"Add the image or remove the annotation."
            )
        if annotation.category_id not in category_ids:
            raise InputError(
                f"{path}: annotations[{index}] has the unknown class {annotation.category_id}; "
                f"categories are {', '.join(f'{c.id} ({c.name})' for c in content.categories)}. Add the category or correct the id."
            )


def _check_same_categories(contents: dict[Split, _CocoFile], paths: dict[Split, Path]) -> None:
    wanted = {category.id: category.name for category in contents["train"].categories}
    for split, content in contents.items():
        found = {category.id: category.name for category in content.categories}
        if found != wanted:
            differing = sorted(set(found.items()) ^ set(wanted.items()))
            raise InputError(
                f"{paths[split]}: categories differ from those of {paths['train']}, first at {differing[0]}. "
                f"All splits must list the same ids and names: copy the list of train."
            )


def _categories(contents: dict[Split, _CocoFile]) -> tuple[list[_Category], tuple[str, ...]]:
    """The classes in the order of their ids, and what to tell of those left out: no box has them, and they only group others."""
    categories = sorted(contents["train"].categories, key=lambda category: category.id)
    carried = {annotation.category_id for content in contents.values() for annotation in content.annotations}
    kept, notes = list[_Category](), list[str]()
    for own in categories:
        grouped = [other.name for other in categories if other.supercategory == own.name and other is not own]
        if own.id in carried or not grouped:
            kept.append(own)
        else:
            notes.append(f"class {own.name!r} is left out: no box has it, and it only groups {', '.join(grouped)}")
    return kept, tuple(notes)


def _files(content: _CocoFile, path: Path, folder: Path) -> dict[str, Path]:
    """The file of every picture by its `file_name`."""
    files = {}
    for index, image in enumerate(content.images):
        file = files[image.file_name] = inside(folder, image.file_name, f"{path}: images[{index}]")
        if not file.is_file():
            hint = " Folders in a file_name are parted by /, on every system." if "\\" in image.file_name else ""
            raise InputError(
                f"{path}: images[{index}] is {image.file_name!r}, but there is no {file}. "
                f"Add the file, remove the entry, or correct `images`.{hint}"
            )
    return files


def _pictures(content: _CocoFile, files: Mapping[str, Path], labels: dict[int, int], orientation: ExifOrientation) -> list[Picture]:
    """The pictures of these files, in their order."""
    images = {image.file_name: image for image in content.images}
    annotations: dict[int, list[_Annotation]] = defaultdict(list)
    for annotation in content.annotations:
        annotations[annotation.image_id].append(annotation)
    return [_picture(images[name], file, annotations[images[name].id], labels, orientation) for name, file in files.items()]


def _picture(
    image: _Image, file: Path, annotations: list[_Annotation], labels: dict[int, int], orientation: ExifOrientation
) -> Picture:
    size = (image.height, image.width) if image.height and image.width else size_in_header(file, orientation)
    xywh = np.array([annotation.bbox for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    return Picture(
        file_name=image.file_name,
        size=size,
        boxes_xyxy_px=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        labels=np.array([labels[annotation.category_id] for annotation in annotations], dtype=np.int64),
        crowd=np.array([bool(annotation.iscrowd) for annotation in annotations], dtype=np.bool_),
        pixels=partial(read_pixels, file, size, orientation),
    )
