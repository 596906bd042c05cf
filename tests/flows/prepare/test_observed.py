"""Sizes of boxes against the strides, doubled boxes and names to show, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from flows.prepare.observed import ROWS, box_sizes, doubled, shown


@pytest.mark.parametrize(
    ("sides_px", "scale", "advice"),
    [
        ([10, 20, 30, 40], 0.25, "The input_size is large enough for nearly all boxes."),
        ([40, 50, 60, 70], 0.25, "Nearly all boxes are at least 32 px wide: a smaller input_size would be faster and may do."),
        (
            [4, 4, 20, 20],
            0.25,
            "50% of the boxes are narrower than the finest stride (8 px); with input_size [192, 256] it would be 0%, "
            "for 4.0 times the work.",
        ),
        (
            [2, 2, 20, 20],
            0.5,  # no more than the pictures have: twice, where four times would be wanted
            "50% of the boxes are narrower than the finest stride (8 px); with input_size [192, 256] it would be 50%, "
            "for 4.0 times the work.",
        ),
        (
            [4, 4, 20, 20],
            1.0,
            "50% of the boxes are narrower than the finest stride (8 px); a larger input_size would show no more, as the "
            "pictures themselves have no more pixels.",
        ),
    ],
)
def test_the_advice_on_input_size(sides_px: list[float], scale: float, advice: str) -> None:
    """In an input of 96 x 128: large enough, too large, too small, and as large as pictures allow."""
    assert box_sizes(np.array(sides_px, np.float32), (96, 128), scale).advice == advice


def test_shares_and_percentiles_by_hand() -> None:
    """Of 2, 6, 12 and 24 px one is below 4, two below 8, three below 16, all below 32; the median is 9."""
    sizes = box_sizes(np.array([2, 6, 12, 24], np.float32), (96, 128), 0.5)
    assert sizes.share_below == {4: 0.25, 8: 0.5, 16: 0.75, 32: 1.0}
    assert sizes.percentiles_px[50] == 9.0


def test_doubled_boxes_are_counted_once_and_by_class() -> None:
    """Three drawings of one box are two too many; another class or an IoU of 0.9 is another object."""
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 100], [1, 0, 100, 100], [0, 0, 100, 90], [0, 0, 100, 100]], np.float64)
    assert doubled(boxes, np.array([0, 0, 0, 0, 1])) == 2
    assert doubled(boxes[:1], np.array([0])) == 0


def test_doubled_boxes_of_a_crowded_picture() -> None:
    """Boxes are compared in blocks: a double of the first in another block is found, and no box doubles itself."""
    boxes = np.arange(2 * ROWS + 9, dtype=np.float64)[:, None] * 10 + [0, 0, 9, 9]
    labels = np.zeros(len(boxes), np.int64)
    assert doubled(boxes, labels) == 0
    boxes[ROWS + 5] = boxes[0]
    assert doubled(boxes, labels) == 1


def test_names_are_escaped_for_terminals() -> None:
    """Escape sequences, line breaks and foreign bytes become text; letters of any script stay."""
    assert shown("\x1b[31mred\n.jpg") == "\\x1b[31mred\\n.jpg"
    assert shown("caf\udce9 größe 猫.jpg") == "caf\\xe9 größe 猫.jpg"
