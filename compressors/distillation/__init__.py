"""distillation: a training that follows a teacher as well as the labels."""

from __future__ import annotations

from compressors.distillation.method import Distillation, DistillationLoss, refuse_teacher, teach

__all__ = ["Distillation", "DistillationLoss", "refuse_teacher", "teach"]
