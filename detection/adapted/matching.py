"""Which of a teacher's predictions answers which of a student's where both predict sets: by the Hungarian method."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detection.boxes import generalized_iou
from detection.family import Points, TeacherTargets

SCORES, SIDES, OVERLAP = 2.0, 5.0, 2.0
"""What a difference of scores, of boxes as shares of the picture, and of GIoU weighs, as in DETR's matching (arXiv:2005.12872,
appendix A.4) with the class term of Deformable DETR (arXiv:2010.04159)."""
UNANSWERED = 100.0
"""What it costs that the teacher is sure of something and no query is told: more than any difference."""


def matched_targets(teacher: Points, student: Points, input_size: tuple[int, int]) -> TeacherTargets:
    """What the teacher says of the object of each of the student's queries; of queries that are left over, that nothing is there.

    A query has no place of its own, so equal numbers say nothing. (height, width) in pixels. Everything the teacher is unsure of
    costs little wherever it goes (DETRDistill, arXiv:2211.10156, section 3.1, matches what is sure and what is not apart).
    """
    own_scores = student.score_logits.detach().float().sigmoid()
    their_scores = teacher.score_logits.float().sigmoid()
    assert student.boxes_xyxy_px is not None, "set predictors give boxes"
    assert teacher.boxes_xyxy_px is not None, "set predictors give boxes"
    own_boxes, their_boxes = student.boxes_xyxy_px.detach().float(), teacher.boxes_xyxy_px.float()
    scores, boxes = torch.zeros_like(own_scores), own_boxes.clone()
    for picture in range(len(scores)):
        cost = _cost(own_scores[picture], own_boxes[picture], their_scores[picture], their_boxes[picture], input_size)
        rows, columns = (torch.from_numpy(found).to(scores.device) for found in linear_sum_assignment(cost.cpu().numpy()))
        scores[picture, rows], boxes[picture, rows] = their_scores[picture, columns], their_boxes[picture, columns]
    return TeacherTargets(scores, None, scores.amax(-1), teacher.features, boxes)


def _cost(own_scores: Tensor, own_boxes: Tensor, their_scores: Tensor, their_boxes: Tensor, input_size: tuple[int, int]) -> Tensor:
    """(queries of the student, queries of the teacher)."""
    height_px, width_px = input_size
    px = torch.tensor([width_px, height_px] * 2, dtype=own_boxes.dtype, device=own_boxes.device)
    cost = SCORES * torch.cdist(own_scores, their_scores, p=1)
    cost = cost + SIDES * torch.cdist(own_boxes / px, their_boxes / px, p=1)
    cost = cost - OVERLAP * generalized_iou(own_boxes[:, None], their_boxes[None])
    return (cost - UNANSWERED) * their_scores.amax(-1)
