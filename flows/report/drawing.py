"""Boxes drawn on a picture: a frame in the colour of the class, and a text above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 88
MOST_SIDE_PX = 65_500
"""Of a JPEG file, by libjpeg."""
FONT, FONT_SCALE, LINE_PX = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 2
"""Letters 9 pixels high, which can be read in pictures of some 400 pixels."""
WHITE_RGB = (255, 255, 255)
CLASS_COLOURS_RGB = (
    (214, 69, 65),
    (31, 119, 180),
    (44, 150, 60),
    (148, 103, 189),
    (230, 126, 34),
    (23, 160, 170),
    (200, 80, 160),
    (120, 100, 40),
    (90, 90, 90),
    (160, 190, 40),
)


def as_jpeg(
    pixels: NDArray[np.uint8], boxes_xyxy_px: NDArray[np.float32], labels: NDArray[np.int64], texts: Sequence[str], scale: int = 1
) -> bytes:
    """The picture (height, width, 3), RGB, as a JPEG file with its boxes (n, 4), best first; lines and letters `scale` as large."""
    canvas = np.ascontiguousarray(pixels).copy()
    for number in reversed(range(len(labels))):  # the best is drawn last, on top
        colour_rgb = CLASS_COLOURS_RGB[labels[number] % len(CLASS_COLOURS_RGB)]
        _draw_box(canvas, boxes_xyxy_px[number], texts[number], colour_rgb, scale)
    written, encoded = cv2.imencode(".jpg", canvas[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])  # OpenCV writes BGR
    assert written
    return encoded.tobytes()


def _draw_box(
    canvas: NDArray[Any], box_xyxy_px: NDArray[np.float32], text: str, colour_rgb: tuple[int, int, int], scale: int
) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in box_xyxy_px)
    font_scale, margin = FONT_SCALE * scale, 2 * scale
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour_rgb, LINE_PX * scale, cv2.LINE_AA)
    (width, height), below = cv2.getTextSize(text, FONT, font_scale, scale)
    left = max(0, min(x1, canvas.shape[1] - width - 2 * margin))
    room = height + below + margin
    bottom = y1 if y1 >= room else min(canvas.shape[0], y1 + room)  # above the box, or inside it at the border
    cv2.rectangle(canvas, (left, bottom - room), (left + width + 2 * margin, bottom), colour_rgb, cv2.FILLED)
    cv2.putText(canvas, text, (left + margin, bottom - below), FONT, font_scale, WHITE_RGB, scale, cv2.LINE_AA)
