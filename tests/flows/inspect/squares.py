"""Pictures of coloured rectangles on grey noise, and a detector that finds the squares among them by exact numbers of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.boxes import Detections, Resize, fit_of
from detection.data.labelled import Picture
from detection.file_interface.interface import PictureForm

Colours = Mapping[str, tuple[int, int, int]]
"""Classes and their red, green and blue."""
COLOURS: Colours = {"red": (230, 30, 40), "olive": (110, 120, 20), "sky": (60, 190, 240)}
PURPLE_AND_GREEN: Colours = {"purple": (220, 30, 220), "green": (30, 220, 30)}
"""The same in either order of colours."""
SIZE = (96, 128)
"""(height, width) of the detector's input in pixels."""
SHAPES = ((2, 2), (2, 1), (1, 2))
"""Height and width of pictures in inputs: the first has the input's own shape, the others are letterboxed with bars."""
TOLERANCE = 6.0
"""Of a colour, in 255ths: ImageNet's means of two orders of colours are 20 apart."""
SIDES_PX, CELL_PX = (16, 20, 28), 32


def pictures(
    count: int, resize: Resize = "letterbox", shapes: Sequence[tuple[int, int]] = SHAPES, colours: Colours = COLOURS,
    size: tuple[int, int] = SIZE, seed: int = 0,
) -> list[Picture]:  # fmt: skip
    """Labelled pictures whose objects are squares once they are resized so, with edges on whole pixels."""
    generator = np.random.default_rng(seed)
    return [_picture(index, generator, resize, shapes[index % len(shapes)], colours, size) for index in range(count)]


def _picture(
    index: int, generator: np.random.Generator, resize: Resize, shape: tuple[int, int], colours: Colours, size: tuple[int, int]
) -> Picture:
    own = size[0] * shape[0], size[1] * shape[1]
    fit = fit_of(own, size, resize)
    pixels = generator.integers(90, 150, (*own, 1)).astype(np.uint8).repeat(3, axis=2)
    boxes, labels = [], []
    left, top, right, bottom = fit.to_input(np.array([[0, 0, own[1], own[0]]], np.float32))[0].astype(int).tolist()
    for y, x in product(range(top, bottom - CELL_PX, CELL_PX), range(left, right - CELL_PX, CELL_PX)):
        if generator.random() < 0.5 or not boxes:
            corner, side = np.array([x, y]) + generator.integers(1, 5, 2), int(generator.choice(SIDES_PX))
            boxes.append(fit.to_original(np.array([[*corner, *(corner + side)]], np.float32))[0])
            labels.append(int(generator.integers(len(colours))))
            x1, y1, x2, y2 = boxes[-1].round().astype(int).tolist()
            pixels[y1:y2, x1:x2] = list(colours.values())[labels[-1]]
    return Picture(
        file_name=f"{index:03}.png", size=own, boxes_xyxy_px=np.array(boxes, np.float64), labels=np.array(labels, np.int64),
        crowd=np.zeros(len(boxes), np.bool_), pixels=lambda: pixels,
    )  # fmt: skip


@dataclass(frozen=True)
class SquareFinder:
    """Finds squares of its colours in tensors of its form; each has a score of its own."""

    form: PictureForm
    dtype: str = "float32"
    layout: str = "nchw"
    colours: Colours = field(default_factory=lambda: COLOURS)

    def __call__(self, tensor: NDArray[np.generic]) -> Detections:
        """What is in one picture, in pixels of the input."""
        assert tensor.dtype == self.dtype
        assert tensor.shape[0] == 1
        planes = tensor[0].astype(np.float32)
        values = planes.transpose(1, 2, 0) if self.layout == "nchw" else planes  # (height, width, channels)
        if self.dtype != "uint8":
            values = (values * np.float32(self.form.std) + np.float32(self.form.mean)) * self.form.scale
        values = values[..., ::-1] if self.form.colour == "bgr" else values
        found = [(box, label) for label, colour in enumerate(self.colours.values()) for box in _squares(values, colour)]
        boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        scores = 0.55 + 0.4 * ((boxes @ np.float32([7, 13, 3, 5])) % 101) / 101
        order = np.argsort(-scores)
        return Detections(boxes[order], scores[order].astype(np.float32), np.array([label for _, label in found], np.int64)[order])


def _squares(values: NDArray[np.float32], colour: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """xyxy of areas of this colour that are as wide as high, but for a pixel."""
    mask = (np.abs(values - np.float32(colour)).max(-1) < TOLERANCE).astype(np.uint8)
    _, _, areas, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    wide = [(x, y, w, h) for x, y, w, h, area in areas[1:].tolist() if min(w, h) > 8 and area > 0.9 * w * h]
    return [(x, y, x + w, y + h) for x, y, w, h in wide if abs(w - h) <= 1]
