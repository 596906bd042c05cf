"""COCO accuracy of an exported file, run in the runtime that will run it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detection.boxes import Array, Detections, Fit, select
from detection.data.dataset import Images
from detection.frozen import Frozen

SCORE_THRESHOLD, IOU_THRESHOLD, MOST_DETECTIONS = 0.001, 0.6, 100
"""For mAP: nearly every score counts (the curve needs its tail), and COCO looks at the 100 best."""
SCORE_DIGITS, BOX_DIGITS = 5, 2
"""Digits kept in stored detections; mAP moves by less than 1e-4, files shrink threefold."""

Pixels = NDArray[np.uint8]
Infer = Callable[[Pixels], tuple[Array, Array]]
"""A picture (1, height, width, 3) -> boxes xyxy px (1, N, 4) and scores (1, N, C)."""


class Accuracy(Frozen):
    """COCO's shares in [0, 1]; a class without ground truth is absent from `per_class`."""

    map_50_95: float
    map_50: float
    map_75: float
    per_class: dict[str, float]


def detect(infer: Infer, images: Images, select_by: Literal["nms", "best"] = "nms") -> list[dict[str, Any]]:
    """COCO results of one split, in pixels of the original pictures; `select_by` is the family's `select`."""
    found = (infer(as_input(images.pixels[row])) for row in range(len(images)))
    return selected(((boxes[0], scores[0]) for boxes, scores in found), images, select_by)


def selected(
    outputs: Iterable[tuple[Array, Array]], images: Images, select_by: Literal["nms", "best"] = "nms"
) -> list[dict[str, Any]]:
    """COCO results of what a network gave for each picture of a split: boxes xyxy px (N, 4) and scores (N, C)."""
    results: list[dict[str, Any]] = []
    iou_threshold = IOU_THRESHOLD if select_by == "nms" else None
    for row, (boxes, scores) in enumerate(outputs):
        final = select(boxes, scores, SCORE_THRESHOLD, iou_threshold, MOST_DETECTIONS)
        results += as_coco(final, images.fits[row], images.picture_ids[row])
    return results


def accuracy(ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> Accuracy:
    """COCO's mAP of stored results, by hotcoco."""
    import hotcoco

    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    if not results:
        present = {annotation["category_id"] for annotation in ground_truth["annotations"] if not annotation.get("iscrowd")}
        return Accuracy(map_50_95=0.0, map_50=0.0, map_75=0.0, per_class={names[category]: 0.0 for category in sorted(present)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = hotcoco.COCO(ground_truth)
        evaluation = hotcoco.COCOeval(truth, truth.load_res(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.eval is not None, "accumulate() fills it"
    precision = np.asarray(evaluation.eval["precision"])  # (IoU, recall, category, area, most)
    per_class = {
        names[category]: float(curve[curve > -1].mean())
        for category, curve in zip(sorted(names), np.moveaxis(precision[:, :, :, 0, -1], 2, 0), strict=True)
        if (curve > -1).any()
    }
    map_50_95, map_50, map_75 = (float(value) for value in evaluation.stats[:3])
    return Accuracy(map_50_95=map_50_95, map_50=map_50, map_75=map_75, per_class=per_class)


def as_input(pixels: Pixels) -> Pixels:
    """A picture of the input's size (height, width, 3) as an exported file takes it: (1, height, width, 3)."""
    return np.ascontiguousarray(pixels[None])


def as_planes(pixels: Pixels) -> Array:
    """A picture of the input's size (height, width, 3) as a network takes it in training: (1, 3, height, width) in [0, 1]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def as_coco(final: Detections, fit: Fit, picture_id: int) -> list[dict[str, Any]]:
    """The detections of one picture as COCO results: xywh in pixels of the original picture."""
    boxes = fit.to_original(final.boxes_xyxy_px)
    return [
        {
            "image_id": picture_id,
            "category_id": int(label) + 1,
            "bbox": [round(float(v), BOX_DIGITS) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(score), SCORE_DIGITS),
        }
        for (x1, y1, x2, y2), score, label in zip(boxes, final.scores, final.labels, strict=True)
    ]
