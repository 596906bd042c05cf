"""Training pictures varied at random: flips, scale, position, colour and mosaics, pixels and boxes together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from detection.boxes import LETTERBOX_GREY
from detection.data.dataset import Images
from detection.family import Batch
from detection.frozen import Frozen, Share

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
LEAST_VISIBLE = 0.25
"""Share of a box that must stay in the picture for it to be learned from; less is guesswork about what is hidden."""
MOSAIC_CENTRE = (0.25, 0.75)
"""Between which shares of either side the four pictures of a mosaic meet, as in YOLOv5 and YOLOX."""
MOSAIC_ZOOM = 0.5
"""The smallest that a picture in a mosaic is drawn, at which an even quarter holds all of it; the largest is its own size."""
MOSAIC_UNTIL = 0.8


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
    # Not written at their defaults: a recipe without mosaics has the node keys that it had before there were any.
    mosaic: Annotated[Probability, Field(exclude_if=lambda share: share == 0.0)] = 0.0
    """Share of the pictures that become a mosaic: this one and three others, each flipped, zoomed and recoloured by itself."""
    mosaic_until: Annotated[Share, Field(exclude_if=lambda share: share == MOSAIC_UNTIL)] = MOSAIC_UNTIL
    """Share of the training after which there are none, so that it ends with pictures as they are (YOLOX, arXiv:2107.08430)."""

    def at(self, progress: float) -> Augmentation:
        """What happens to pictures when this share of the training is done."""
        return self.model_copy(update={"mosaic": 0.0}) if self.mosaic and progress >= self.mosaic_until else self


class _Picture(NamedTuple):
    """A picture and what is on it."""

    pixels: NDArray[np.uint8]  # (height, width, 3)
    boxes_xyxy_px: NDArray[np.float32]  # (n, 4)
    labels: NDArray[np.int64]  # (n,)


def make_batch(images: Images, rows: NDArray[np.int64], augmentation: Augmentation | None, rng: np.random.Generator) -> Batch:
    """The pictures of these rows as a batch on the CPU, augmented unless augmentation is None."""
    pixels, boxes, labels = [], [], []
    for row in rows:
        varied = _picture(images, row) if augmentation is None else _varied(images, row, augmentation, rng)
        pixels.append(np.asarray(varied.pixels))
        boxes.append(torch.from_numpy(np.asarray(varied.boxes_xyxy_px, dtype=np.float32)))
        labels.append(torch.from_numpy(np.asarray(varied.labels, dtype=np.int64)))
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


def _picture(images: Images, row: int) -> _Picture:
    return _Picture(images.pixels[row], images.boxes_xyxy_px[row], images.labels[row])


def _varied(images: Images, row: int, how: Augmentation, rng: np.random.Generator) -> _Picture:
    if how.mosaic and rng.random() < how.mosaic:  # nothing is drawn where there are no mosaics
        return _mosaic([_picture(images, own) for own in (row, *rng.integers(len(images), size=3))], how, rng)
    picture = _picture(images, row)
    height_px, width_px = picture.pixels.shape[:2]
    flips, zoom = _draw_flips(how, rng), _draw_zoom(how, rng)
    shift_px = rng.uniform(-how.scale / 2, how.scale / 2, 2) * (width_px, height_px)
    return _recolour(_move(picture, flips, zoom, shift_px, (height_px, width_px)), how, rng)


def _mosaic(pictures: Sequence[_Picture], how: Augmentation, rng: np.random.Generator) -> _Picture:
    """Four pictures that meet in a random point, each in its part (YOLOv4, arXiv:2004.10934, section 3.3)."""
    pixels = np.empty_like(pictures[0].pixels)
    height_px, width_px = pixels.shape[:2]
    middle_y_px, middle_x_px = (int(side_px * rng.uniform(*MOSAIC_CENTRE)) for side_px in (height_px, width_px))
    rows, columns = ((0, middle_y_px), (middle_y_px, height_px)), ((0, middle_x_px), (middle_x_px, width_px))
    boxes, labels = [], []
    for picture, ((top, bottom), (left, right)) in zip(pictures, itertools.product(rows, columns), strict=True):
        part = _part_of_mosaic(picture, (bottom - top, right - left), how, rng)
        pixels[top:bottom, left:right] = part.pixels
        boxes.append(part.boxes_xyxy_px + np.array([left, top, left, top], np.float32))
        labels.append(part.labels)
    return _Picture(pixels, np.concatenate(boxes), np.concatenate(labels))


def _part_of_mosaic(picture: _Picture, size: tuple[int, int], how: Augmentation, rng: np.random.Generator) -> _Picture:
    """The picture varied, as far as it lies in a window of this (height, width), at a random place in or over it."""
    flips, zoom = _draw_flips(how, rng), _draw_zoom(how, rng) * float(np.exp(rng.uniform(np.log(MOSAIC_ZOOM), 0)))
    own_px = np.array(picture.pixels.shape[1::-1])  # x, y, as in all that follows
    room_px = np.array(size[::-1]) - zoom * own_px  # negative where the picture is larger than the window
    corner_px = rng.uniform(np.minimum(0, room_px), np.maximum(0, room_px))
    return _recolour(_move(picture, flips, zoom, corner_px + (zoom - 1) / 2 * own_px, size), how, rng)


def _draw_flips(how: Augmentation, rng: np.random.Generator) -> NDArray[np.bool_]:
    return rng.random(2) < (how.flip_horizontal, how.flip_vertical)


def _draw_zoom(how: Augmentation, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(-1, 1) * np.log1p(how.scale)))


def _move(
    picture: _Picture, flips: NDArray[np.bool_], zoom: float, shift_px: NDArray[np.float64], size: tuple[int, int]
) -> _Picture:
    """The picture flipped and zoomed about its centre and shifted by (x, y), on a canvas of this (height, width)."""
    height_px, width_px = picture.pixels.shape[:2]
    scale_x, scale_y = np.where(flips, -zoom, zoom)
    move = np.array(  # about the centre: x' = scale * (x - w/2) + w/2 + shift
        [
            [scale_x, 0, width_px / 2 * (1 - scale_x) + shift_px[0]],
            [0, scale_y, height_px / 2 * (1 - scale_y) + shift_px[1]],
        ]
    )
    # OpenCV counts pixel centres as integers, boxes count pixel edges: half a pixel lies between them.
    centre_move = move.copy()
    centre_move[:, 2] += 0.5 * (np.array([scale_x, scale_y]) - 1)
    grey = (LETTERBOX_GREY,) * 3
    moved = cv2.warpAffine(np.asarray(picture.pixels), centre_move, size[::-1], flags=cv2.INTER_LINEAR, borderValue=grey)
    boxes, kept = _move_boxes(picture.boxes_xyxy_px, move, size)
    return _Picture(np.asarray(moved, dtype=np.uint8), boxes, picture.labels[kept])


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


def _recolour(picture: _Picture, how: Augmentation, rng: np.random.Generator) -> _Picture:
    gain = 1 + rng.uniform(-how.contrast, how.contrast)
    gains = gain * (1 + rng.uniform(-how.colour, how.colour, 3))
    offset = 255 * rng.uniform(-how.brightness, how.brightness)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - 128) * gains + 128 + offset, 0, 255).astype(np.uint8)  # (256, 3)
    recoloured = cv2.LUT(picture.pixels, table[:, None, :].reshape(256, 1, 3))
    return picture._replace(pixels=np.asarray(recoloured, dtype=np.uint8))
