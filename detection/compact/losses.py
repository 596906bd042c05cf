"""What a detector is trained to lower: scores (BCE), boxes (CIoU) and their distributions (DFL), on task-aligned targets.

B images, N points, M boxes (padded), C classes, K bins. Boxes are xyxy in pixels of the letterboxed image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from detection.boxes import pairwise_iou
from detection.compact.network import Network, Outputs
from detection.family import Batch

SCORE_WEIGHT, BOX_WEIGHT, DFL_WEIGHT = 1.0, 7.5, 1.5
"""Relative weights of the three terms: those of YOLOv8 but for the score's, which is twice as large here. Trainings of a sweep
are short, and telling ten classes apart is what takes longest to begin."""
TOP_CANDIDATES = 10
"""Points each box may claim (TOOD, arXiv:2108.07755, uses 13; small pictures have fewer points)."""
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
"""Exponents of the alignment metric (TOOD, section 3.2, as set by PP-YOLOE)."""


class Targets(NamedTuple):
    """What each point should predict."""

    scores: Tensor  # (B, N, C) soft: how well aligned the point is with its box
    boxes_xyxy_px: Tensor  # (B, N, 4)
    weight: Tensor  # (B, N): sum of the soft score; 0 for background


def detection_loss(network: Network, outputs: Outputs, batch: Batch) -> Tensor:
    """Weighted sum of the three terms, normalised by the sum of the soft targets; in float32."""
    outputs = Outputs(outputs.score_logits.float(), outputs.box_logits.float(), outputs.features)  # autocast gives bfloat16
    with torch.no_grad():
        boxes = network.decode_boxes(outputs.box_logits)
        targets = assign(outputs.score_logits.sigmoid(), boxes, network.points_px, batch)
    scale = targets.weight.sum().clamp(min=1.0)
    score_term = F.binary_cross_entropy_with_logits(outputs.score_logits, targets.scores, reduction="sum") / scale
    box_term, dfl_term = _box_terms(network, outputs.box_logits, targets, scale)
    return SCORE_WEIGHT * score_term + BOX_WEIGHT * box_term + DFL_WEIGHT * dfl_term


def assign(scores: Tensor, boxes_xyxy_px: Tensor, points_px: Tensor, batch: Batch) -> Targets:
    """Task-aligned targets (TOOD): each box claims the inner points that score and overlap best.

    A contested point goes to the box that it overlaps most. The confidence of a box multiplies its overlap there, and its soft
    score, which is the goal of the class and the weight of the box.
    """
    overlap = pairwise_iou(batch.boxes_xyxy_px, boxes_xyxy_px)  # (B, M, N)
    own_scores = scores.transpose(1, 2).gather(1, batch.labels[..., None].expand(-1, -1, scores.shape[1]))  # (B, M, N)
    inside = _inside(points_px, batch.boxes_xyxy_px) & batch.present[..., None]
    alignment = own_scores.pow(SCORE_POWER) * overlap.pow(OVERLAP_POWER) * inside
    claimed = _claims(alignment, inside)
    sure = torch.ones_like(overlap[..., 0]) if batch.confidence is None else batch.confidence  # (B, M)
    best = F.one_hot((overlap * sure[..., None]).masked_fill(~claimed, -1.0).argmax(1), overlap.shape[1]).transpose(1, 2).bool()
    claimed = claimed & best
    owner = claimed.float().argmax(1)  # (B, N)
    taken = claimed.any(1)
    soft = _soft_scores(alignment * claimed, overlap * claimed).gather(1, owner[:, None]).squeeze(1) * taken  # (B, N)
    soft = soft * sure.gather(1, owner)
    labels = batch.labels.gather(1, owner)
    target_scores = F.one_hot(labels, scores.shape[2]).float() * soft[..., None]
    return Targets(target_scores, batch.boxes_xyxy_px.gather(1, owner[..., None].expand(-1, -1, 4)), soft)


def complete_iou(a_xyxy_px: Tensor, b_xyxy_px: Tensor) -> Tensor:
    """CIoU of paired boxes, (..., 4), (..., 4) -> (...): IoU less centre distance and aspect mismatch (arXiv:1911.08287)."""
    iou = pairwise_iou(a_xyxy_px[..., None, :], b_xyxy_px[..., None, :])[..., 0, 0]
    enclosing = torch.maximum(a_xyxy_px[..., 2:], b_xyxy_px[..., 2:]) - torch.minimum(a_xyxy_px[..., :2], b_xyxy_px[..., :2])
    centre_gap = (a_xyxy_px[..., :2] + a_xyxy_px[..., 2:] - b_xyxy_px[..., :2] - b_xyxy_px[..., 2:]) / 2
    distance = centre_gap.square().sum(-1) / enclosing.square().sum(-1).clamp(min=1e-9)
    (a_w, a_h), (b_w, b_h) = (_sides(a_xyxy_px), _sides(b_xyxy_px))
    aspect = (4 / math.pi**2) * (torch.atan(b_w / b_h) - torch.atan(a_w / a_h)).square()
    with torch.no_grad():
        trade = aspect / (1 - iou + aspect + 1e-9)
    return iou - distance - trade * aspect


def _box_terms(network: Network, box_logits: Tensor, targets: Targets, scale: Tensor) -> tuple[Tensor, Tensor]:
    picture, point = torch.nonzero(targets.weight, as_tuple=True)  # P points are taken
    weight, goal, logits = targets.weight[picture, point], targets.boxes_xyxy_px[picture, point], box_logits[picture, point]
    points, strides = network.points_px[point], network.strides_px[point]
    box_term = ((1 - complete_iou(network.boxes_at(points, strides, logits), goal)) * weight).sum() / scale
    distance = torch.cat([points - goal[:, :2], goal[:, 2:] - points], -1) / strides  # (P, 4) in strides
    dfl_term = (_distribution_focal(logits, distance) * weight).sum() / scale
    return box_term, dfl_term


def _distribution_focal(box_logits: Tensor, distance: Tensor) -> Tensor:
    """(P, 4 * K) logits and (P, 4) distances in strides -> (P,): cross entropy to the two bins around (arXiv:2006.04388, eq. 6)."""
    bins = box_logits.shape[-1] // 4
    distance = distance.clamp(0, bins - 1 - 0.01)
    low = distance.floor().long()
    share_high = distance - low
    log_p = box_logits.reshape(-1, 4, bins).log_softmax(-1)
    at_low, at_high = (log_p.gather(-1, index[..., None]).squeeze(-1) for index in (low, low + 1))
    return -(at_low * (1 - share_high) + at_high * share_high).mean(-1)


def _inside(points_px: Tensor, boxes_xyxy_px: Tensor) -> Tensor:
    """(N, 2) points in (B, M, 4) boxes -> (B, M, N) bool."""
    gap = torch.cat([points_px - boxes_xyxy_px[..., None, :2], boxes_xyxy_px[..., None, 2:] - points_px], -1)
    return gap.amin(-1) > 0


def _claims(alignment: Tensor, inside: Tensor) -> Tensor:
    """(B, M, N) bool: the best points of each box."""
    best = alignment.topk(min(TOP_CANDIDATES, alignment.shape[-1]), dim=-1).indices
    return torch.zeros_like(inside).scatter_(-1, best, True) & inside


def _soft_scores(alignment: Tensor, overlap: Tensor) -> Tensor:
    """Alignment rescaled so that each box's best point gets its best overlap (TOOD, section 3.3), (B, M, N)."""
    best_alignment = alignment.amax(-1, keepdim=True)
    return alignment / best_alignment.clamp(min=1e-9) * overlap.amax(-1, keepdim=True)


def _sides(boxes_xyxy_px: Tensor) -> tuple[Tensor, Tensor]:
    sides = (boxes_xyxy_px[..., 2:] - boxes_xyxy_px[..., :2]).clamp(min=1e-3)
    return sides[..., 0], sides[..., 1]
