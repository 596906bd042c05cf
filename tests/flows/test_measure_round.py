"""What surrounds the network in a round: letterboxing before it, the final detections after it."""

from __future__ import annotations

import numpy as np

from flows.measure import Measure
from flows.measure_round import detection_hooks
from hardware_profiles.measure import Job, Protocol

INPUT_SIZE = (8, 12)


def test_final_detections_are_in_pixels_of_the_original() -> None:
    """A box at x 2..5, y 1..4 of the input is x 0..9, y 3..12 of the picture.

    24 x 20 is scaled by 1/3 into 8 x 12: round(20 / 3) = 7 columns remain, and 2 of the 5 empty ones lie left of them.
    """
    job = Job(
        runtime="onnxruntime",
        threads=1,
        cores=None,
        files=(),
        order_seed=0,
        protocol=Protocol(),
        pictures="",
        settings=Measure(iou_threshold=0.5).settings(),
        result="",
    )
    picture = np.zeros((24, 20, 3), np.uint8)
    boxes, scores = np.array([[[2, 1, 5, 4], [0, 0, 1, 1]]], np.float32), np.array([[[0.9, 0.1], [0.2, 0.2]]], np.float32)
    hooks = detection_hooks(job)
    final = hooks.after(boxes, scores, picture, INPUT_SIZE)
    np.testing.assert_allclose(final.boxes_xyxy_px, [[0, 3, 9, 12]], atol=1e-4)
    assert final.labels.tolist() == [0]
    assert hooks.before(picture, INPUT_SIZE).shape == (1, 3, *INPUT_SIZE)
