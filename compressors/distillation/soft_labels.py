"""A teacher of which only detections are known, such as an ONNX file: its boxes are labels that are not sure. Part of distillation.

B images, M labelled boxes, K boxes of the teacher (padded).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.boxes import pairwise_iou, select
from detection.checkpoint import Detector
from detection.family import Batch, Raw, family_of
from detection.spec import Spec

LEAST_SCORE, IOU_THRESHOLD, MOST_BOXES = 0.25, 0.6, 100
"""Of the teacher's final detections: what applications show, not the tail that mAP counts, since every box that is not there is
learned as one. Of 1495 boxes of FastestDet above 0.05 on 20 pictures of COCO 4 % matched a label below a score of 0.3, 14 % up to
0.6, 54 % above."""
SAME_OBJECT_IOU = 0.5
"""From this overlap on with a label of its class a teacher's box is the label's object (the match of mAP 50)."""
LEAST_SIDE_PX = 1.0
"""Thinner boxes have no point inside, at any stride."""


class SoftLabelLoss:
    """What a training lowers: the loss against the labels, plus `weight` times that against labels and teacher's boxes together.

    Not against the teacher's boxes alone: that would call background what only a label names, and undo what the first term does.
    Both are the family's own loss of one forward pass, so a family needs nothing for it but to read `Batch.confidence`.
    """

    def __init__(self, weight: float, teacher: Detector, student: Spec) -> None:
        """The teacher's classes are among the student's; what it does not know is learned from labels."""
        self.weight, self.teacher, self.family = weight, teacher, family_of(student)
        self.network = teacher.network()  # on the CPU, where a file runs
        self.labels = torch.tensor([student.classes.index(name) for name in teacher.spec.classes])
        self.iou_threshold = IOU_THRESHOLD if teacher.family.select(teacher.spec) == "nms" else None
        self.teacher_forwards = 0
        """Pictures that went through the teacher so far."""

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        """One number to lower, in float32."""
        _, joined = self.family.learn(network, self.joined(batch), half=half, forward=lambda _images: raw)
        return loss + self.weight * joined

    def parameters(self) -> list[nn.Parameter]:
        """None: nothing is compared but boxes."""
        return []

    @torch.no_grad()
    def joined(self, batch: Batch) -> Batch:
        """The batch with the teacher's boxes behind the labels, but for those of objects that have a label of the same class."""
        found = [self._detected(image[None]) for image in batch.images]
        self.teacher_forwards += len(found)
        boxes, scores, labels = (nn.utils.rnn.pad_sequence(list(own), batch_first=True) for own in zip(*found, strict=True))
        boxes, scores, labels = (own.to(batch.images.device) for own in (boxes, scores, labels))  # (B, K, 4), (B, K), (B, K)
        same = (pairwise_iou(boxes, batch.boxes_xyxy_px) >= SAME_OBJECT_IOU) & (labels[..., None] == batch.labels[:, None])
        is_labelled = (same & batch.present[:, None]).any(-1)  # (B, K)
        return Batch(
            batch.images,
            torch.cat([batch.boxes_xyxy_px, boxes], 1),
            torch.cat([batch.labels, labels], 1),
            torch.cat([batch.present, (scores > 0) & ~is_labelled], 1),
            torch.cat([batch.present.float(), scores], 1),
        )

    def _detected(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Final boxes (K, 4) in pixels of the image (1, 3, height, width), scores (K,) and the student's labels (K,)."""
        own, size = (int(image.shape[2]), int(image.shape[3])), self.teacher.spec.input_size
        how = "area" if size[0] < own[0] or size[1] < own[1] else "bilinear"  # as pictures are fitted into inputs
        seen = image if size == own else F.interpolate(image.float(), size, mode=how)
        boxes, scores = self.teacher.family.decode(self.network, self.teacher.family.raw(self.network, seen.cpu()))
        final = select(boxes[0].numpy(), scores[0].numpy(), LEAST_SCORE, self.iou_threshold, MOST_BOXES)
        limits = np.array([own[1], own[0]] * 2, np.float32)
        inside = (final.boxes_xyxy_px * (limits / np.array([size[1], size[0]] * 2, np.float32))).clip(0, limits)
        kept = ((inside[:, 2:] - inside[:, :2]) >= LEAST_SIDE_PX).all(1)  # what is not a number is not kept either
        return torch.from_numpy(inside[kept]), torch.from_numpy(final.scores[kept]), self.labels[final.labels[kept]]
