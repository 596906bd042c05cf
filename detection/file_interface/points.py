"""The places that predictions refer to: cells of a grid, anchors and priors, in pixels of the network's input."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from detection.boxes import Array
from detection.frozen import Frozen

Size = tuple[PositiveFloat, PositiveFloat]
"""(height, width) in pixels of the network's input."""


class _Levels(Frozen):
    strides: tuple[PositiveFloat, ...] = Field(min_length=1)
    """Pixels from cell to cell, for each level in the order of the file's rows. A level has ceil(side / stride) cells a side."""
    offset: float = Field(0.5, ge=0.0, le=1.0)
    """Where in its cell a point lies, in strides: 0 is the top left corner, 0.5 the middle."""


class _Sized(_Levels):
    order: Literal["inner", "outer"] = "inner"
    """Order of a level's rows: inner, the anchors of a cell follow each other (SSD); outer, the cells of an anchor do (YOLOv5)."""
    clip: bool = False
    """Whether centres and sizes are limited to the input."""


class Anchors(_Sized):
    """Boxes of fixed sizes around every point of a grid."""

    kind: Literal["anchors"] = "anchors"
    sizes_px: tuple[tuple[Size, ...], ...]
    """For each stride, the (height, width) of every anchor."""

    @model_validator(mode="after")
    def _one_list_per_stride(self) -> Self:
        _same_count(self.strides, sizes_px=self.sizes_px)
        return self


class Grid(_Levels):
    """One point in every cell, row by row."""

    kind: Literal["grid"] = "grid"

    def anchors(self) -> Anchors:
        """The same points with their cells as sizes."""
        return Anchors(strides=self.strides, offset=self.offset, sizes_px=tuple(((stride, stride),) for stride in self.strides))


class Priors(_Sized):
    """Anchors by the rule of SSD (Liu et al. 2016, section 2.2, as its code has it): squares of the smaller size and of the root of
    smaller times larger size, then the smaller size at each aspect ratio and its inverse.
    """

    kind: Literal["priors"] = "priors"
    min_sizes_px: tuple[PositiveFloat, ...]
    """The smaller size of each level."""
    max_sizes_px: tuple[PositiveFloat, ...]
    """The larger size of each level."""
    aspect_ratios: tuple[tuple[PositiveFloat, ...], ...]
    """Width / height of the others of each level, the inverses left out."""

    @model_validator(mode="after")
    def _one_entry_per_stride(self) -> Self:
        _same_count(self.strides, min_sizes_px=self.min_sizes_px, max_sizes_px=self.max_sizes_px, aspect_ratios=self.aspect_ratios)
        return self

    def anchors(self) -> Anchors:
        """The same boxes, written out."""
        settings = zip(self.min_sizes_px, self.max_sizes_px, self.aspect_ratios, strict=True)
        sizes_px = tuple(_prior_sizes(*level) for level in settings)
        return Anchors(strides=self.strides, offset=self.offset, sizes_px=sizes_px, order=self.order, clip=self.clip)


class Given(Frozen):
    """Priors that are listed one by one, in the order of the file's rows."""

    kind: Literal["given"] = "given"
    boxes_cxcywh: tuple[tuple[float, float, float, float], ...] = Field(min_length=1)
    """Centre x, centre y, width and height of each, as shares of the input's sides."""


Points = Annotated[Grid | Anchors | Priors | Given, Field(discriminator="kind")]


class Level(NamedTuple):
    """How many points a level has."""

    height: int
    width: int
    anchors: int


class Placed(NamedTuple):
    """Points of an input of known size. N points."""

    centres_px: Array  # (N, 2) x, y
    sizes_px: Array  # (N, 2) width, height; those of a grid are its strides
    strides_px: Array  # (N, 1); 0 where priors are given one by one
    levels: tuple[Level, ...]  # none where priors are given one by one
    outer: bool  # whether the cells of an anchor follow each other


@lru_cache(maxsize=64)
def place(points: Grid | Anchors | Priors | Given, input_size: tuple[int, int]) -> Placed:
    """All points of an input of `input_size` (height, width), in the order of the rows. The arrays are shared: read only."""
    input_px = np.array(input_size[::-1], np.float32)  # (2,) width, height
    if isinstance(points, Given):
        boxes = np.array(points.boxes_cxcywh, np.float32).reshape(-1, 2, 2) * input_px  # (N, 2, 2)
        placed = Placed(boxes[:, 0], boxes[:, 1], np.zeros((len(boxes), 1), np.float32), levels=(), outer=False)
    else:
        anchors = points if isinstance(points, Anchors) else points.anchors()
        levels = [Level(*cells(input_size, s), len(sizes)) for s, sizes in zip(anchors.strides, anchors.sizes_px, strict=True)]
        boxes = np.concatenate([_level(anchors, index, level) for index, level in enumerate(levels)])  # (N, 2, 2)
        if anchors.clip:
            boxes = boxes.clip(0, input_px)
        strides_px = np.repeat(np.array(anchors.strides, np.float32), [math.prod(level) for level in levels])
        placed = Placed(boxes[:, 0], boxes[:, 1], strides_px[:, None], tuple(levels), anchors.order == "outer")
    for array in (placed.centres_px, placed.sizes_px, placed.strides_px):
        array.flags.writeable = False
    return placed


def cells(input_size: tuple[int, int], stride: float) -> tuple[int, int]:
    """Rows and columns of a level: a part of a cell at the border counts, as padded convolutions make it."""
    height, width = (math.ceil(side / stride - 1e-6) for side in input_size)  # 300 / (300 / 7) is not quite 7
    return height, width


def _level(anchors: Anchors, index: int, level: Level) -> Array:
    """Centre x, y and width, height of every anchor of a level, (cells * anchors, 2, 2)."""
    x, y = np.meshgrid(np.arange(level.width), np.arange(level.height))
    centres_px = (np.stack([x, y], -1).reshape(-1, 1, 2) + anchors.offset) * anchors.strides[index]  # (cells, 1, 2)
    sizes_px = np.array(anchors.sizes_px[index])[None, :, ::-1]  # (1, anchors, 2)
    boxes = np.stack(np.broadcast_arrays(centres_px, sizes_px), -2)  # (cells, anchors, 2, 2)
    return (boxes.swapaxes(0, 1) if anchors.order == "outer" else boxes).reshape(-1, 2, 2).astype(np.float32)


def _prior_sizes(min_px: float, max_px: float, ratios: tuple[float, ...]) -> tuple[Size, ...]:
    between = math.sqrt(min_px * max_px)
    roots = [root for ratio in ratios for root in (math.sqrt(ratio), 1 / math.sqrt(ratio))]
    return ((min_px, min_px), (between, between), *((min_px / root, min_px * root) for root in roots))


def _same_count(strides: tuple[float, ...], **lists: tuple[object, ...]) -> None:
    for name, entries in lists.items():
        if len(entries) != len(strides):
            raise ValueError(f"{name} has {len(entries)} entries for {len(strides)} strides; give one for each stride")
