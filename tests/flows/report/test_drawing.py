"""Boxes are drawn where they lie, in the colour of their class, and the best on top."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flows.report.drawing import CLASS_COLOURS_RGB, as_jpeg

BLACK: NDArray[np.uint8] = np.zeros((200, 300, 3), np.uint8)


def drawn(boxes: list[list[float]], labels: list[int], scale: int = 1) -> NDArray[np.int64]:
    """The picture read back, RGB."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    content = as_jpeg(BLACK, corners, np.array(labels, np.int64), ["cat 0.90"] * len(labels), scale)
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1].astype(np.int64)


@pytest.mark.parametrize("scale", [1, 3])
def test_lines_grow_with_the_scale(scale: int) -> None:
    """Around a side at row 150, as many rows are coloured as twice the scale, give or take one of smoothing."""
    column = drawn([[50, 60, 250, 150]], [1], scale)[130:180, 150]
    coloured = np.abs(column - CLASS_COLOURS_RGB[1]).max(1) < 60
    assert abs(int(coloured.sum()) - 2 * scale) <= 1
    assert coloured[20]


def test_the_best_is_drawn_on_top() -> None:
    """Of two equal boxes the first one's colour is seen; colours begin again after the tenth class."""
    box = [50.0, 60.0, 250.0, 150.0]
    np.testing.assert_allclose(drawn([box, box], [12, 0])[150, 150], CLASS_COLOURS_RGB[2], atol=40)


def test_a_picture_without_boxes_keeps_its_pixels() -> None:
    """What was given is not drawn on."""
    assert drawn([], []).max() == 0
    drawn([[0, 0, 299, 199]], [0])
    assert BLACK.max() == 0
