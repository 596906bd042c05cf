"""A prepared data set: packed pixels, boxes in the network's pixels, and the COCO ground truth they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detection.boxes import Fit, Resize, fit_of
from detection.data.pixel_files import Pixels, open_pixels, resized
from detection.frozen import DamagedError, Digest, Frozen, InputError, read_json

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class SplitSummary(Frozen):
    """What one split holds."""

    pictures: int
    boxes: int
    clipped_boxes: int = 0
    """Boxes that reached over the border and were cut there."""
    dropped_boxes: int = 0
    """Boxes without area, or wholly outside their picture."""
    digest: Digest
    """sha256 over the pixels and the ground truth of this split."""


class Provenance(Frozen):
    """What prepared data was made from; another digest means that other pictures, boxes or splits are asked for now."""

    settings: Digest
    """sha256 over the `data` section of the params, the seed, and the version of the reading."""
    files: Digest | None
    """sha256 over the data set's files; None where the pictures are generated, or their folder is not on this machine."""


class Prepared(Frozen):
    """`prepared.json`: what a prepared folder holds; written last, so its presence means the folder is whole."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    name: str
    classes: tuple[str, ...]
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    resize: Resize = "letterbox"
    splits: dict[Split, SplitSummary]
    digest: Digest
    """sha256 over classes, input size and the digests of all splits."""
    made_from: Provenance | None = None
    """None where an older version prepared it."""


@dataclass(frozen=True)
class Images:
    """One split, its pixels in a file; picture i has pixels[i], boxes_xyxy_px[i] and labels[i]."""

    split: Split
    pixels: Pixels  # (pictures, height, width, 3), RGB, of the input's size
    boxes_xyxy_px: tuple[NDArray[np.float32], ...]  # each (n, 4), in pixels of the input
    labels: tuple[NDArray[np.int64], ...]  # each (n,), index into classes
    picture_ids: tuple[int, ...]
    fits: tuple[Fit, ...]
    """How each picture came into the input."""
    classes: tuple[str, ...]
    ground_truth: dict[str, Any]
    """COCO format, in pixels of the original pictures; category id = label + 1."""
    digest: Digest
    resize: Resize = "letterbox"

    def __len__(self) -> int:
        return len(self.picture_ids)

    def taking(self, rows: NDArray[np.int64]) -> Images:
        """The pictures in these rows alone, in this order, their ground truth included; pixels stay encoded where they are."""
        ids = {self.picture_ids[row] for row in rows}
        truth = self.ground_truth
        return replace(
            self,
            pixels=self.pixels[rows],
            boxes_xyxy_px=tuple(self.boxes_xyxy_px[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
            picture_ids=tuple(self.picture_ids[row] for row in rows),
            fits=tuple(self.fits[row] for row in rows),
            ground_truth=truth
            | {
                "images": [picture for picture in truth["images"] if picture["id"] in ids],
                "annotations": [annotation for annotation in truth["annotations"] if annotation["image_id"] in ids],
            },
        )

    def at(self, input_size: tuple[int, int]) -> Images:
        """The same pictures for a network of another input size, (height, width) in pixels; these where it is their own.

        Resized by area. The size may only be smaller, and of the same shape: a padded picture could not be mapped back
        otherwise.
        """
        height_px, width_px = self.pixels.shape[1:3]
        if input_size == (height_px, width_px):
            return self
        if input_size[0] * width_px != input_size[1] * height_px or input_size[0] > height_px:
            raise InputError(
                f"input_size {input_size} (height, width): the pictures were prepared at {(height_px, width_px)}; a network may "
                "see them smaller, in the same shape. Set data.input_size and run `sixfold prepare` again for anything else."
            )
        share = input_size[0] / height_px
        return replace(
            self,
            pixels=resized(self.pixels, input_size),
            boxes_xyxy_px=tuple((boxes * share).astype(np.float32) for boxes in self.boxes_xyxy_px),
            fits=tuple(fit._replace(resized=fit.resized * share) for fit in self.fits),
        )


def load_prepared(folder: Path) -> Prepared:
    """What the prepared folder holds; InputError names the command that makes it where it is missing."""
    manifest = folder / "prepared.json"
    if not manifest.is_file():
        raise InputError(f"{manifest}: no prepared data here. Run `sixfold prepare` first.")
    return read_json(manifest, Prepared, "Run `sixfold prepare` again.")


def load_split(folder: Path, split: Split) -> Images:
    """One split of a prepared folder, its pixels not read yet; DamagedError where a file was cut off or does not fit."""
    prepared = load_prepared(folder)
    try:
        return _load(folder, split, prepared)
    except (ValueError, EOFError, LookupError, TypeError, FileNotFoundError) as error:
        raise DamagedError(f"{folder}: split {split} is damaged ({error}). Run `sixfold prepare` again.") from error


def _load(folder: Path, split: Split, prepared: Prepared) -> Images:
    pictures = prepared.splits[split].pictures
    pixels = open_pixels(folder, split, (pictures, *prepared.input_size, 3))
    ground_truth = json.loads((folder / f"{split}.json").read_bytes())
    if len(ground_truth["images"]) != pictures:
        raise ValueError(f"labels of {len(ground_truth['images'])} pictures, not of {pictures}")
    sizes = [(picture["height"], picture["width"]) for picture in ground_truth["images"]]
    fits = tuple(fit_of(size, prepared.input_size, prepared.resize) for size in sizes)
    boxes, labels = _targets(ground_truth, fits)
    return Images(
        split=split,
        pixels=pixels,
        boxes_xyxy_px=boxes,
        labels=labels,
        picture_ids=tuple(picture["id"] for picture in ground_truth["images"]),
        fits=fits,
        classes=prepared.classes,
        ground_truth=ground_truth,
        digest=prepared.splits[split].digest,
        resize=prepared.resize,
    )


def split_digest(shape: tuple[int, ...], pictures: Iterable[NDArray[np.uint8]], ground_truth: dict[str, Any]) -> Digest:
    """sha256 over the content of a split: same pixels and same boxes, same digest.

    The pictures of this shape (pictures, height, width, 3) are taken one by one, the ground truth after the last.
    """
    content = hashlib.sha256(str(shape).encode())
    for picture in pictures:
        content.update(np.ascontiguousarray(picture).data)
    content.update(json.dumps(ground_truth, sort_keys=True, separators=(",", ":")).encode())
    return content.hexdigest()


def _targets(
    ground_truth: dict[str, Any], fits: tuple[Fit, ...]
) -> tuple[tuple[NDArray[np.float32], ...], tuple[NDArray[np.int64], ...]]:
    rows = {picture["id"]: row for row, picture in enumerate(ground_truth["images"])}
    boxes: list[list[list[float]]] = [[] for _ in rows]
    labels: list[list[int]] = [[] for _ in rows]
    for annotation in ground_truth["annotations"]:
        if annotation["iscrowd"]:
            continue
        x, y, width, height = annotation["bbox"]
        boxes[rows[annotation["image_id"]]].append([x, y, x + width, y + height])
        labels[rows[annotation["image_id"]]].append(annotation["category_id"] - 1)
    in_input = tuple(fit.to_input(np.asarray(own, dtype=np.float32).reshape(-1, 4)) for own, fit in zip(boxes, fits, strict=True))
    return in_input, tuple(np.asarray(own, dtype=np.int64) for own in labels)
