"""Data sets in COCO's format: one JSON file of pictures, categories and boxes, or one per split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
)
from detection.frozen import Frozen, InputError, PositiveInt


class SplitPaths(Frozen):
    """One path per split, relative to the data folder."""

    train: Path
    val: Path
    test: Path


class CocoSource(FolderSource):
    """A data set in COCO's format. Classes are ordered by category id; crowds (`iscrowd: 1`) stay crowds."""

    kind: Literal["coco"] = "coco"
    annotations: Path | SplitPaths
    """The JSON file, relative to root, or one for each of train, val and test."""
    images: Path | SplitPaths = Path()
    """Folder of the pictures, relative to root, or one per split; `file_name` is relative to it."""

    @model_validator(mode="after")
    def _one_way_to_split(self) -> CocoSource:
        already_split = isinstance(self.annotations, SplitPaths)
        folders_split = isinstance(self.images, SplitPaths)
        if already_split and self.split_shares:
            raise ValueError("annotations per split and `split_shares` contradict each other: give one of them")
        if folders_split and not already_split:
            raise ValueError("`images` per split needs `annotations` per split: give one folder, or three files")
        return self


def read_coco(source: CocoSource, base: Path, seed: int) -> Labelled:
    """The labelled pictures of a COCO data set; InputError names the entry that is wrong and where it stands."""
    root = existing_folder(base, source)
    if not isinstance(source.annotations, SplitPaths):
        assert isinstance(source.images, Path), "checked by the config"
        path = root / source.annotations
        content = _parse(path)
        pictures = {picture.file_name: picture for picture in _pictures(content, path, root / source.images, source)}
        names = split_by_share(list(pictures), source.split_shares or SplitShares(), seed, path)
        return Labelled(_class_names(content), {split: [pictures[name] for name in names[split]] for split in SPLITS})
    paths = {split: root / _of_split(source.annotations, split) for split in SPLITS}
    contents = {split: _parse(path) for split, path in paths.items()}
    _check_same_categories(contents, paths)
    folders = {split: root / _of_split(source.images, split) for split in SPLITS}
    splits = {split: _pictures(contents[split], paths[split], folders[split], source) for split in SPLITS}
    _check_disjoint(splits, folders, paths)
    return Labelled(_class_names(contents["train"]), {split: splits[split] for split in SPLITS})


def _of_split(paths: Path | SplitPaths, split: Split) -> Path:
    path: Path = getattr(paths, split) if isinstance(paths, SplitPaths) else paths
    return path


class _Entry(BaseModel):
    """Part of a user's COCO file: keys we do not need are fine, wrong types and NaN are not."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Category(_Entry):
    id: int
    name: str


class _Image(_Entry):
    id: int
    file_name: Annotated[str, Field(min_length=1)]
    height: PositiveInt
    width: PositiveInt


class _Annotation(_Entry):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    iscrowd: Literal[0, 1] = 0


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
            f"It needs images (id, file_name, height, width), annotations (id, image_id, category_id, bbox) and "
            f"categories (id, name). Correct or export it again."
        ) from error
    _check_ids(content, path)
    return content


def _check_ids(content: _CocoFile, path: Path) -> None:
    if not content.categories:
        raise InputError(f"{path}: no categories. List every class with an id and a name.")
    if not content.images:
        raise InputError(f"{path}: no images: an empty split. List at least one picture, or split one file by `split_shares`.")
    _check_unique((category.id for category in content.categories), "category id", path)
    _check_unique((category.name for category in content.categories), "category name", path)
    _check_unique((image.id for image in content.images), "image id", path)
    _check_unique((image.file_name for image in content.images), "file_name", path)
    _check_unique((annotation.id for annotation in content.annotations), "annotation id", path)
    image_ids = {image.id for image in content.images}
    category_ids = {category.id for category in content.categories}
    for annotation in content.annotations:
        if annotation.id == 0:
            raise InputError(
                f"{path}: annotation id 0. COCO's evaluation takes 0 for `unmatched`, so tools that share this file would score it "
                f"wrongly. Number annotations from 1 (add 1 to every annotation id)."
            )
        if annotation.image_id not in image_ids:
            raise InputError(
                f"{path}: annotation {annotation.id} is of image {annotation.image_id}, which is not in `images`. "
                f"Add the image or remove the annotation."
            )
        if annotation.category_id not in category_ids:
            raise InputError(
                f"{path}: annotation {annotation.id} has the unknown class {annotation.category_id}; "
                f"categories are {', '.join(f'{c.id} ({c.name})' for c in content.categories)}. Add the category or correct the id."
            )


def _check_unique(values: Iterable[int | str], what: str, path: Path) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: {what} {twice[0]!r} stands there more than once ({len(twice)} such). "
            f"Each must be unique: renumber or rename them."
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


def _check_disjoint(splits: dict[Split, list[Picture]], folders: dict[Split, Path], paths: dict[Split, Path]) -> None:
    seen: dict[Path, Split] = {}
    for split, pictures in splits.items():
        for picture in pictures:
            other = seen.setdefault((folders[split] / picture.file_name).resolve(), split)
            if other != split:
                raise InputError(
                    f"{paths[split]}: {picture.file_name} is in {split} and in {other} ({paths[other]}). "
                    f"A picture belongs to one split: remove it from the other, or the test would repeat the training."
                )


def _pictures(content: _CocoFile, path: Path, folder: Path, source: CocoSource) -> list[Picture]:
    labels = {category_id: label for label, category_id in enumerate(sorted(category.id for category in content.categories))}
    annotations: dict[int, list[_Annotation]] = defaultdict(list)
    for annotation in content.annotations:
        annotations[annotation.image_id].append(annotation)
    files = {image.id: _existing_file(image, path, folder) for image in content.images}
    return [_picture(image, files[image.id], annotations[image.id], labels, source) for image in content.images]


def _existing_file(image: _Image, path: Path, folder: Path) -> Path:
    file = inside(folder, image.file_name, path)
    if not file.is_file():
        raise InputError(
            f"{path}: image {image.id} is {image.file_name!r}, but there is no {file}. "
            f"Add the file, remove the entry, or correct `images`."
        )
    return file


def _picture(image: _Image, file: Path, annotations: list[_Annotation], labels: dict[int, int], source: CocoSource) -> Picture:
    xywh = np.array([annotation.bbox for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    return Picture(
        file_name=image.file_name,
        size=(image.height, image.width),
        boxes_xyxy_px=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        labels=np.array([labels[annotation.category_id] for annotation in annotations], dtype=np.int64),
        crowd=np.array([annotation.iscrowd for annotation in annotations], dtype=np.bool_),
        pixels=partial(read_pixels, file, (image.height, image.width), source.exif_orientation),
    )


def _class_names(content: _CocoFile) -> tuple[str, ...]:
    return tuple(category.name for category in sorted(content.categories, key=lambda category: category.id))
