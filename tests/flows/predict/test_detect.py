"""One picture through a model: boxes of the original picture, and times that add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flows.predict.detect import look
from flows.predict.model import open_model
from tests.flows.predict_factory import BOXES, SCORES, write_best, write_ours


def test_boxes_come_back_through_the_letterbox(tmp_path: Path) -> None:
    """A picture of 100 x 100 pixels in an input of 64 x 96: scale 0.64, 16 pixels of padding at the left."""
    seen, candidates = look(open_model(str(write_best(tmp_path / "x86")), None, None, 1), np.zeros((100, 100, 3), np.uint8))
    assert seen.size == (100, 100)
    by_hand = np.array([[10 - 16, 20, 50 - 16, 60], [60 - 16, 8, 90 - 16, 28]]) / 0.64
    np.testing.assert_allclose(seen.final.boxes_xyxy_px, by_hand, atol=1e-4)
    assert seen.final.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(candidates.boxes_xyxy_px, BOXES)
    assert all(part > 0 for part in seen.times)


def test_a_box_that_is_no_number_is_none(tmp_path: Path) -> None:
    """A badly quantized file may give anything: its other boxes stay."""
    boxes = BOXES.copy()
    boxes[2, 3] = np.inf
    model = open_model(str(write_ours(tmp_path / "odd.onnx", boxes, SCORES)), None, None, 1)
    seen, _ = look(model, np.zeros((64, 96, 3), np.uint8))
    assert seen.final.labels.tolist() == [0]
