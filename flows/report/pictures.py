"""Test images with ground truth, control and recommended cells side by side. The control alone decides which are shown."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from detection.boxes import Detections, pairwise_iou
from detection.data.dataset import Images
from detection.frozen import Frozen
from flows.report.drawing import as_jpeg

MATCH_IOU = 0.5
PANEL_WIDTH_PX = 384
"""Least width of a picture on the page: small inputs are enlarged by a whole factor, stretched ones shown in their own shape."""


class Picture(Frozen):
    """One picture of the page: how well the control does on it, and its panels in the order of the headings."""

    picture_id: int
    file_name: str
    control_f1: float
    panels: tuple[str, ...]
    """Each a data URI; the ground truth first."""


HOW_CHOSEN = (
    "Not picked by hand: the test pictures are ordered by the control's own F1 (score at least {score:g}, IoU at least 0.5) "
    "and shown at equal steps from its worst to its best."
)


def draw_pictures(
    images: Images, results: Sequence[list[dict[str, Any]]], count: int, score_threshold: float
) -> tuple[Picture, ...]:
    """`count` pictures, worst of the control first; results are COCO lists in original pixels, the control's first."""
    per_result = [_by_picture(images, result, score_threshold) for result in results]
    f1 = [_f1(images, row, per_result[0][row]) for row in range(len(images))]
    return tuple(
        Picture(
            picture_id=images.picture_ids[row],
            file_name=images.ground_truth["images"][row]["file_name"],
            control_f1=f1[row],
            panels=(_panel(images, row, None), *(_panel(images, row, own[row]) for own in per_result)),
        )
        for row in chosen_rows(f1, count)
    )


def chosen_rows(control_f1: Sequence[float], count: int) -> tuple[int, ...]:
    """Rows at equal steps of rank from the worst to the best; equal values keep the order of the split."""
    ranked = sorted(range(len(control_f1)), key=lambda row: (control_f1[row], row))
    if count >= len(ranked):
        return tuple(ranked)
    return tuple(ranked[round(rank)] for rank in np.linspace(0, len(ranked) - 1, count)) if count else ()


def _by_picture(images: Images, result: list[dict[str, Any]], score_threshold: float) -> list[Detections]:
    """Per row of the split, the detections worth showing, in pixels of the input, best first."""
    rows = {picture_id: row for row, picture_id in enumerate(images.picture_ids)}
    kept: list[list[dict[str, Any]]] = [[] for _ in rows]
    for found in sorted(result, key=lambda found: -float(found["score"])):
        if found["score"] >= score_threshold:
            kept[rows[found["image_id"]]].append(found)
    return [_detections(images, row, own) for row, own in enumerate(kept)]


def _detections(images: Images, row: int, own: list[dict[str, Any]]) -> Detections:
    xywh = np.asarray([found["bbox"] for found in own], dtype=np.float32).reshape(-1, 4)
    boxes = images.fits[row].to_input(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
    return Detections(
        boxes,
        np.asarray([found["score"] for found in own], dtype=np.float32),
        np.asarray([found["category_id"] - 1 for found in own], dtype=np.int64),
    )


def _f1(images: Images, row: int, found: Detections) -> float:
    """2 x matched / (found + labelled), 1 where both are empty; best scores choose their box first."""
    labelled = len(images.labels[row])
    if not labelled + len(found.scores):
        return 1.0
    overlap = pairwise_iou(
        torch.from_numpy(found.boxes_xyxy_px), torch.from_numpy(images.boxes_xyxy_px[row])
    ).numpy()  # (found, labelled)
    overlap = np.where(found.labels[:, None] == images.labels[row][None], overlap, 0.0)
    matched = 0
    for own in overlap:
        if labelled and own.max() >= MATCH_IOU:
            overlap[:, own.argmax()] = 0.0
            matched += 1
    return 2 * matched / (len(found.scores) + labelled)


def _panel(images: Images, row: int, found: Detections | None) -> str:
    """One drawn picture as a data URI: detections with their scores, or the ground truth."""
    pixels, taken = images.pixels[row], images.ground_truth["images"][row]
    across = down = float(max(1, -(-PANEL_WIDTH_PX // pixels.shape[1])))
    if images.resize == "stretch":  # back to the picture's own shape
        down *= pixels.shape[1] / pixels.shape[0] * taken["height"] / taken["width"]
    canvas = cv2.resize(np.ascontiguousarray(pixels), None, fx=across, fy=down, interpolation=cv2.INTER_CUBIC)
    boxes, labels = (images.boxes_xyxy_px[row], images.labels[row]) if found is None else (found.boxes_xyxy_px, found.labels)
    texts = [images.classes[label] for label in labels]
    if found is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, found.scores, strict=True)]
    drawn = as_jpeg(canvas, boxes * np.array((across, down, across, down), np.float32), labels, texts)
    return "data:image/jpeg;base64," + base64.b64encode(drawn).decode()
