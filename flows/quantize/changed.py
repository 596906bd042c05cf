"""How many detections differ between two files of a detector on the same pictures: what can be said without labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import NonNegativeInt

from detection.boxes import Detections, pairwise_iou
from detection.frozen import Frozen, PositiveInt

LEAST_IOU = 0.5
"""From here on two boxes are of the same object, as in mAP50."""


class Changed(Frozen):
    """The detections of two files on the same pictures, with scores above a threshold."""

    share_of_detections_that_changed: float | None
    """Those of both files without a partner in the other, over all of both: 0 where each has one, 1 where none has, the same for
    both orders of files. None where neither finds anything."""
    pictures: PositiveInt
    float_detections: NonNegativeInt
    """Of the float file, over all pictures."""
    detections: NonNegativeInt
    """Of the other file."""


def compare(exact: Sequence[Detections], other: Sequence[Detections]) -> Changed:
    """What the other file finds in each picture, compared with what the float file finds in it."""
    float_detections, detections = (sum(len(own.scores) for own in found) for found in (exact, other))
    both, pairs = float_detections + detections, sum(count_pairs(*own) for own in zip(exact, other, strict=True))
    return Changed(
        share_of_detections_that_changed=(both - 2 * pairs) / both if both else None,
        pictures=len(exact),
        float_detections=float_detections,
        detections=detections,
    )


def count_pairs(a: Detections, b: Detections) -> int:
    """How many detections of one picture have a partner: of the same class, IoU `LEAST_IOU` or more, one for each.

    Those that overlap most become partners first, of equals those of the better scores.
    """
    iou = pairwise_iou(*(torch.from_numpy(own.boxes_xyxy_px) for own in (a, b))).numpy()  # (A, B)
    iou[(a.boxes_xyxy_px[:, None] == b.boxes_xyxy_px).all(-1)] = 1.0  # a box without area overlaps nothing, not even itself
    iou[a.labels[:, None] != b.labels] = 0.0
    pairs = 0
    while iou.size and iou.max() >= LEAST_IOU:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        iou[row], iou[:, column] = 0.0, 0.0
        pairs += 1
    return pairs
