"""The inverse of a declared decoding: tensors of given shapes that say given detections, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.boxes import Detections
from detection.file_interface.declaration import Boxes, Decoding
from detection.file_interface.outputs import _read
from detection.file_interface.points import Placed
from detection.file_interface.presets import Shapes

NOTHING, CLASS = 1e-4, 0.95
"""Probability of what is not there, and of the class of an object where its objectness says the rest."""
Array = NDArray[np.float64]


def encoded(decoding: Decoding, shapes: Shapes, size: tuple[int, int], classes: int, found: Detections) -> dict[str, NDArray[Any]]:
    """The outputs. Where boxes are still to be suppressed, each object stands there twice, the second time moved a little."""
    places, total = {}, 0
    for name, shape in shapes.items():
        places[name] = np.arange(total, total := total + int(np.prod(shape))).reshape(shape)
    where, placed = _read(decoding, places, size, classes)  # of each number of each part, its position in all tensors together
    if decoding.select == "nms":
        found = _twice(found)
    values = {what: np.zeros(positions.shape) for what, positions in where.items()}
    rows = _fill_boxes(decoding, values, placed, size, found)
    _fill_scores(decoding, values, rows, found, classes)
    flat = np.zeros(total)
    for what, positions in where.items():
        flat[positions.astype(np.int64)] = values[what]
    if decoding.count is not None:
        flat[places[str(decoding.count)].reshape(-1)] = len(rows)
    return {name: flat[own].astype(np.float32) for name, own in places.items()}


def _twice(found: Detections) -> Detections:
    sizes = found.boxes_xyxy_px[:, 2:] - found.boxes_xyxy_px[:, :2]
    moved = found.boxes_xyxy_px + np.tile(sizes * 0.06, 2)
    again = found.scores * 0.9
    return Detections(np.concatenate([found.boxes_xyxy_px, moved]), np.concatenate([found.scores, again]), np.tile(found.labels, 2))


def _fill_boxes(
    decoding: Decoding, values: dict[str, Array], placed: Placed, size: tuple[int, int], found: Detections
) -> list[int]:
    """The rows in which the objects are, one each."""
    rows: list[int] = []
    count = len(values["boxes"])
    for box in found.boxes_xyxy_px:
        numbers, fits = _numbers(decoding.boxes, placed, size, box.astype(np.float64))
        numbers = np.broadcast_to(numbers, (count, numbers.shape[1]))
        apart = np.arange(count, dtype=np.float64)
        if decoding.points:
            centre = (box[:2] + box[2:]) / 2
            apart = np.abs(placed.centres_px - centre).sum(1) + np.abs(placed.sizes_px - (box[2:] - box[:2])).sum(1)
        apart[[*rows, *np.flatnonzero(~np.broadcast_to(fits, count))]] = np.inf
        assert np.isfinite(apart.min()), f"no row is left that can say {box}"
        rows.append(int(apart.argmin()))
        own = numbers[rows[-1]]
        if decoding.boxes.order == "yx" and not decoding.boxes.bins:
            own = own[[1, 0, 3, 2]]
        if decoding.boxes.centres:
            values["boxes.centres"][rows[-1]], own = own[:2], own[2:]
        values["boxes"][rows[-1]] = own
    return rows


def _numbers(boxes: Boxes, placed: Placed, size: tuple[int, int], box: Array) -> tuple[Array, NDArray[np.bool_]]:
    """For every row, or for all alike, the numbers that say the box there, and whether they can."""
    top_left, bottom_right = box[:2], box[2:]
    centre, extent = (top_left + bottom_right) / 2, bottom_right - top_left
    points, anchors, strides = (own.astype(np.float64) for own in placed[:3])
    unit: Any = {"pixels": np.ones(2), "share": np.array(size[::-1], np.float64), "stride": strides}[boxes.unit]
    pairs: dict[str, Callable[[], Sequence[Array]]] = {
        "xyxy": lambda: (top_left / unit, bottom_right / unit),
        "cxcywh": lambda: (centre / unit, extent / unit),
        "ltrb_dfl": lambda: ((points - top_left) / unit, (bottom_right - points) / unit),
        "cxcywh_linear": lambda: ((centre - points) / strides, extent / unit),
        "cxcywh_exp": lambda: ((centre - points) / strides, np.log(extent / strides)),
        "anchor_sigmoid": lambda: (((centre - points) / strides + 0.5) / 2, np.sqrt(extent / anchors) / 2),
        "ssd": lambda: ((centre - points) / anchors / boxes.variances[0], np.log(extent / anchors) / boxes.variances[1]),
    }
    numbers = np.concatenate(np.broadcast_arrays(*map(np.atleast_2d, pairs[boxes.form]())), 1)
    if boxes.form == "anchor_sigmoid":
        return _logit(numbers), ((numbers > 0.01) & (numbers < 0.99)).all(1)
    if boxes.bins:
        return _distributed(numbers, boxes.bins), ((numbers >= 0) & (numbers <= boxes.bins - 1)).all(1)
    return numbers, np.ones(len(numbers), np.bool_)


def _distributed(sides: Array, bins: int) -> Array:
    """Logits of which the softmax lies on the two distances next to each side, (N, 4) -> (N, 4 * bins)."""
    shares = np.clip(1 - np.abs(sides[..., None] - np.arange(bins)), 0, 1)
    return np.log(shares + 1e-7).reshape(len(sides), -1)


def _fill_scores(decoding: Decoding, values: dict[str, Array], rows: list[int], found: Detections, classes: int) -> None:
    labelled = decoding.labels is not None
    shares = np.full((len(values["scores"]), 1 if labelled else classes), 0.0 if labelled else NOTHING)
    if labelled and decoding.labels:
        values["labels"][:] = decoding.labels.first
        values["labels"][rows, 0] = found.labels + decoding.labels.first
    columns = np.zeros_like(found.labels) if labelled else found.labels
    shares[rows, columns] = found.scores
    if decoding.objectness:
        first, second = decoding.objectness.powers
        objectness = np.full(len(shares), NOTHING)
        objectness[rows] = (found.scores / CLASS**second) ** (1 / first)
        shares[rows, columns] = CLASS
        values["objectness"][:, 0] = _logit(objectness) if decoding.objectness.form == "sigmoid" else objectness
    values["scores"][:] = _with_background(decoding, shares)


def _with_background(decoding: Decoding, shares: Array) -> Array:
    """Numbers whose sigmoid or softmax are these probabilities; logits of a softmax add up to 0, as trained networks' do."""
    form, background = decoding.scores.form, decoding.scores.background
    if background != "none":
        rest = 1 - shares.sum(1, keepdims=True) if form != "sigmoid" else np.full((len(shares), 1), NOTHING)
        shares = np.concatenate([rest, shares] if background == "first" else [shares, rest], 1)
    if form == "softmax":
        logits = np.log(shares)
        return np.asarray(logits - logits.mean(1, keepdims=True))
    return _logit(shares) if form == "sigmoid" else shares


def _logit(shares: Array) -> Array:
    clipped = np.clip(shares, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))
