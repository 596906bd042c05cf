"""distillation: a training that follows a teacher as well as the labels."""

from __future__ import annotations

from compressors.distillation.method import Distillation, DistillationLoss, refuse_teacher, teach
from compressors.distillation.soft_labels import SoftLabelLoss

__all__ = ["Distillation", "DistillationLoss", "SoftLabelLoss", "refuse_teacher", "teach"]
