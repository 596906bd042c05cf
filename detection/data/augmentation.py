"""Training pictures varied at random: flips, scale, position and colour, pixels and boxes together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from detection.boxes import LETTERBOX_GREY
from detection.data.dataset import Images
from detection.family import Batch
from detection.frozen import Frozen

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
LEAST_VISIBLE = 0.25
"""Share of a box that must stay in the picture for it to be learned from; less is guesswork about what is hidden."""


class Augmentation(Frozen):
    """What may happen to a training picture. Flips are wrong for data whose classes have a handedness, such as digits."""

    flip_horizontal: Probability = 0.5
    flip_vertical: Probability = 0.0
    scale: Annotated[float, Field(ge=0.0, le=0.9)] = 0.25
    """Pictures are zoomed by up to this share, in and out, and shifted by up to half of it."""
    brightness: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    contrast: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    colour: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Each channel is multiplied by up to 1 plus or minus this."""


def make_batch(images: Images, rows: NDArray[np.int64], augmentation: Augmentation | None, rng: np.random.Generator) -> Batch:
    """The pictures of these rows as a batch on the CPU, augmented unless augmentation is None."""
    pixels, boxes, labels = [], [], []
    for row in rows:
        own = images.pixels[row], images.boxes_xyxy_px[row], images.labels[row]
        varied = own if augmentation is None else _vary(*own, augmentation, rng)
        pixels.append(np.asarray(varied[0]))
        boxes.append(torch.from_numpy(np.asarray(varied[1], dtype=np.float32)))
        labels.append(torch.from_numpy(np.asarray(varied[2], dtype=np.int64)))
    most = max(1, *(len(own) for own in boxes))
    padded_boxes = torch.zeros(len(rows), most, 4)
    padded_labels = torch.zeros(len(rows), most, dtype=torch.int64)
    present = torch.zeros(len(rows), most, dtype=torch.bool)
    for i, (own_boxes, own_labels) in enumerate(zip(boxes, labels, strict=True)):
        padded_boxes[i, : len(own_boxes)] = own_boxes
        padded_labels[i, : len(own_labels)] = own_labels
        present[i, : len(own_boxes)] = True
    nhwc = torch.from_numpy(np.stack(pixels))  # (B, height, width, 3): permuting it gives channels_last for free
    return Batch(nhwc.permute(0, 3, 1, 2).float().div_(255), padded_boxes, padded_labels, present)


def batches(
    images: Images, rows: NDArray[np.int64], size: int, augmentation: Augmentation | None, rng: np.random.Generator
) -> Iterator[Batch]:
    """The pictures of these rows in batches of this size, the last with what is left, each made when it is asked for."""
    for start in range(0, len(rows), size):
        yield make_batch(images, rows[start : start + size], augmentation, rng)


def _vary(
    pixels: NDArray[np.uint8], boxes: NDArray[np.float32], labels: NDArray[np.int64], how: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    height_px, width_px = pixels.shape[:2]
    flip_x, flip_y = rng.random(2) < (how.flip_horizontal, how.flip_vertical)
    zoom = float(np.exp(rng.uniform(-1, 1) * np.log1p(how.scale)))
    shift_x_px, shift_y_px = rng.uniform(-how.scale / 2, how.scale / 2, 2) * (width_px, height_px)
    scale_x, scale_y = (-zoom if flip_x else zoom), (-zoom if flip_y else zoom)
    move = np.array(  # about the centre: x' = scale * (x - w/2) + w/2 + shift
        [
            [scale_x, 0, width_px / 2 * (1 - scale_x) + shift_x_px],
            [0, scale_y, height_px / 2 * (1 - scale_y) + shift_y_px],
        ]
    )
    # OpenCV counts pixel centres as integers, boxes count pixel edges: half a pixel lies between them.
    centre_move = move.copy()
    centre_move[:, 2] += 0.5 * (np.array([scale_x, scale_y]) - 1)
    grey = (LETTERBOX_GREY,) * 3
    moved = cv2.warpAffine(np.asarray(pixels), centre_move, (width_px, height_px), flags=cv2.INTER_LINEAR, borderValue=grey)
    new_boxes, kept = _move_boxes(boxes, move, (height_px, width_px))
    return _recolour(np.asarray(moved, dtype=np.uint8), how, rng), new_boxes, labels[kept]


def _move_boxes(
    boxes: NDArray[np.float32], move: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    x = boxes[:, 0::2] * move[0, 0] + move[0, 2]
    y = boxes[:, 1::2] * move[1, 1] + move[1, 2]
    whole = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], 1)
    limits = np.array([size[1], size[0], size[1], size[0]])
    clipped = np.clip(whole, 0, limits)
    area, visible = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (whole, clipped))
    kept = visible > LEAST_VISIBLE * area
    return clipped[kept].astype(np.float32), kept


def _recolour(pixels: NDArray[np.uint8], how: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    gain = 1 + rng.uniform(-how.contrast, how.contrast)
    gains = gain * (1 + rng.uniform(-how.colour, how.colour, 3))
    offset = 255 * rng.uniform(-how.brightness, how.brightness)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - 128) * gains + 128 + offset, 0, 255).astype(np.uint8)  # (256, 3)
    return np.asarray(cv2.LUT(pixels, table[:, None, :].reshape(256, 1, 3)), dtype=np.uint8)
