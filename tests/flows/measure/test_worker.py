"""What surrounds the network in a round: letterboxing before it, the final detections after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detection.boxes import LETTERBOX_GREY
from flows.measure.worker import detection_hooks
from flows.sweep.settings import Measure
from hardware_profiles.timing.calls import Hooks
from hardware_profiles.timing.protocol import Protocol
from hardware_profiles.timing.round import Job

INPUT_SIZE = (8, 12)


@pytest.fixture
def hooks(tmp_path: Path) -> Hooks:
    """Those of a round on one thread."""
    settings = Measure(iou_threshold=0.5).settings()
    job = Job(runtime="onnxruntime", threads=1, cores=None, files=(), order_seed=0, protocol=Protocol(), pictures="",
              settings=settings, result="")  # fmt: skip
    return detection_hooks(job)(tmp_path / "model.onnx")


def test_final_detections_are_in_pixels_of_the_original(hooks: Hooks) -> None:
    """A box at x 2..5, y 1..4 of the input is x 0..9, y 3..12 of the picture.

    24 x 20 is scaled by 1/3 into 8 x 12: round(20 / 3) = 7 columns remain, and 2 of the 5 empty ones lie left of them.
    """
    picture = np.zeros((24, 20, 3), np.uint8)
    boxes, scores = np.array([[[2, 1, 5, 4], [0, 0, 1, 1]]], np.float32), np.array([[[0.9, 0.1], [0.2, 0.2]]], np.float32)
    final = hooks.after((boxes, scores), picture, INPUT_SIZE)
    np.testing.assert_allclose(final.boxes_xyxy_px, [[0, 3, 9, 12]], atol=1e-4)
    assert final.labels.tolist() == [0]


def test_the_network_gets_bytes(hooks: Hooks) -> None:
    """The letterboxed picture goes in as it is stored, channels last and neither scaled nor turned into floats."""
    pixels = hooks.before(np.full((24, 20, 3), (10, 20, 30), np.uint8), INPUT_SIZE)
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((1, *INPUT_SIZE, 3), np.uint8, True)
    assert (pixels[0, :, 2:9] == (10, 20, 30)).all()
    assert (pixels[0, :, :2] == LETTERBOX_GREY).all()
