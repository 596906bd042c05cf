"""Boxes, always xyxy in pixels: overlap, the fit of a picture into the input, and the choice of final detections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the rounds of `measure` select detections without torch in their memory
    from torch import Tensor

Array = NDArray[np.float32]
LETTERBOX_GREY = 114
"""Value of the padding: the mean grey of COCO pictures, the field's habit since YOLOv5."""


Resize = Literal["letterbox", "stretch"]
"""How a picture comes to the size of the input: in its own shape, centred and padded with grey; or stretched to all of it."""


class Fit(NamedTuple):
    """How a picture was scaled and centred into the network's input."""

    scale_y: float
    scale_x: float
    top_px: int
    left_px: int
    resized: float = 1.0
    """Share of its side to which the fitted picture was resized afterwards."""

    def to_input(self, boxes_xyxy_px: Array) -> Array:
        """Boxes of the original picture, in pixels of the fitted one."""
        offset, scale = self._offset_and_scale()
        return ((boxes_xyxy_px * scale + offset) * self.resized).astype(np.float32)

    def to_original(self, boxes_xyxy_px: Array) -> Array:
        """Boxes of the fitted picture, in pixels of the original one."""
        offset, scale = self._offset_and_scale()
        return ((boxes_xyxy_px / self.resized - offset) / scale).astype(np.float32)

    def _offset_and_scale(self) -> tuple[Array, Array]:
        offset = np.array([self.left_px, self.top_px] * 2, dtype=np.float32)
        return offset, np.array([self.scale_x, self.scale_y] * 2, dtype=np.float32)


class Detections(NamedTuple):
    """The final detections of one picture, best first."""

    boxes_xyxy_px: Array  # (n, 4)
    scores: Array  # (n,)
    labels: NDArray[np.int64]  # (n,), index into the classes


def fit_of(picture_size: tuple[int, int], input_size: tuple[int, int], resize: Resize = "letterbox") -> Fit:
    """How a picture comes into the input; both sizes are (height, width) in pixels."""
    scale_y, scale_x = (inside / own for inside, own in zip(input_size, picture_size, strict=True))
    if resize == "letterbox":
        scale_y = scale_x = min(scale_y, scale_x)
    height_px, width_px = _scaled(picture_size, (scale_y, scale_x))
    return Fit(scale_y, scale_x, (input_size[0] - height_px) // 2, (input_size[1] - width_px) // 2)


def fitted(picture: NDArray[np.uint8], input_size: tuple[int, int], resize: Resize = "letterbox") -> NDArray[np.uint8]:
    """The picture (height, width, 3) scaled, and padded where it is letterboxed, to input_size (height, width)."""
    size = int(picture.shape[0]), int(picture.shape[1])
    fit = fit_of(size, input_size, resize)
    height_px, width_px = _scaled(size, (fit.scale_y, fit.scale_x))
    how = cv2.INTER_AREA if min(fit.scale_y, fit.scale_x) < 1 else cv2.INTER_LINEAR
    canvas = np.full((*input_size, 3), LETTERBOX_GREY, dtype=np.uint8)
    canvas[fit.top_px : fit.top_px + height_px, fit.left_px : fit.left_px + width_px] = cv2.resize(
        picture,
        (width_px, height_px),
        interpolation=how,  # OpenCV alone wants (width, height)
    )
    return canvas


def pairwise_iou(a_xyxy_px: Tensor, b_xyxy_px: Tensor) -> Tensor:
    """Overlap of every box of a with every box of b: (..., A, 4), (..., B, 4) -> (..., A, B), in [0, 1]."""
    a, b = a_xyxy_px.unsqueeze(-2), b_xyxy_px.unsqueeze(-3)
    top_left = a[..., :2].maximum(b[..., :2])
    bottom_right = a[..., 2:].minimum(b[..., 2:])
    overlap_px2 = (bottom_right - top_left).clamp(min=0).prod(-1)
    union_px2 = area_px2(a) + area_px2(b) - overlap_px2
    return overlap_px2 / union_px2.clamp(min=1e-9)


def generalized_iou(a_xyxy_px: Tensor, b_xyxy_px: Tensor) -> Tensor:
    """GIoU of each box of a with that of b in the same place (arXiv:1902.09630): (..., 4), (..., 4) -> (...), in (-1, 1]."""
    (a_start, a_end), (b_start, b_end) = ((own[..., :2], own[..., 2:]) for own in (a_xyxy_px, b_xyxy_px))
    overlap_px2 = (a_end.minimum(b_end) - a_start.maximum(b_start)).clamp(min=0).prod(-1)
    around_px2 = (a_end.maximum(b_end) - a_start.minimum(b_start)).clamp(min=0).prod(-1)
    union_px2 = area_px2(a_xyxy_px) + area_px2(b_xyxy_px) - overlap_px2
    return overlap_px2 / union_px2.clamp(min=1e-9) - (around_px2 - union_px2) / around_px2.clamp(min=1e-9)


def area_px2(boxes_xyxy_px: Tensor) -> Tensor:
    """Areas in square pixels, (..., 4) -> (...)."""
    return (boxes_xyxy_px[..., 2:] - boxes_xyxy_px[..., :2]).clamp(min=0).prod(-1)


def select(
    boxes_xyxy_px: Array, scores: Array, score_threshold: float, iou_threshold: float | None, most: int, candidates: int = 1000
) -> Detections:
    """Final detections of one picture: (N, 4) boxes and (N, C) scores after per-class non-maximum suppression.

    Without an IoU threshold nothing is suppressed: set predictors give each object once. A point may give several classes, as
    COCO's own protocol allows. Only the `candidates` best pairs enter the suppression.
    """
    points, labels = np.nonzero(scores > score_threshold)
    pair_scores = scores[points, labels]
    if len(pair_scores) > candidates:
        best = np.argpartition(-pair_scores, candidates)[:candidates]
        points, labels, pair_scores = points[best], labels[best], pair_scores[best]
    boxes = boxes_xyxy_px[points]
    kept = np.arange(len(boxes))
    if iou_threshold is not None and len(boxes):
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        xywh[:, :2] -= xywh[:, :2].min()  # OpenCV keeps classes apart by an offset that counts on positive coordinates
        pairs = xywh.tolist(), pair_scores.tolist(), labels.tolist()
        kept = np.asarray(cv2.dnn.NMSBoxesBatched(*pairs, score_threshold, iou_threshold), dtype=np.int64).reshape(-1)
    kept = kept[np.argsort(-pair_scores[kept], kind="stable")][:most]
    return Detections(boxes[kept], pair_scores[kept].astype(np.float32), labels[kept].astype(np.int64))


def _scaled(picture_size: tuple[int, int], scales: tuple[float, float]) -> tuple[int, int]:
    return max(1, round(picture_size[0] * scales[0])), max(1, round(picture_size[1] * scales[1]))
