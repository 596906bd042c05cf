"""distillation: a training learns from the teacher's scores, box distributions and features as well as from the labels."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from detection.checkpoint import Detector
from detection.frozen import Frozen
from detection.losses import Batch, DetectionLoss, as_float32
from detection.network import Network, Outputs

Weight = Annotated[float, Field(ge=0.0)]


class Distillation(Frozen):
    """How strongly the student follows the teacher in each respect; the weights work from the first epoch on."""

    method: Literal["distillation"] = "distillation"
    scores: Weight = 1.5
    """Cross entropy to the teacher's class scores, normalised by the sum of its best scores."""
    boxes: Weight = 3.0
    """Localization distillation: divergence of the box distributions (LD, arXiv:2102.12252), where the teacher is sure."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens the box distributions."""
    features: Weight = 1.0
    """Pearson distance of the features that the heads see (PKD, arXiv:2207.02039)."""

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        return "scores+LD+PKD" if self.features else "scores+LD"


class DistillationLoss:
    """The detection loss and, beside it, what the teacher would have said of the same pictures."""

    def __init__(self, config: Distillation, teacher: Detector, student: Detector, device: torch.device) -> None:
        self.config, self.labels = config, DetectionLoss()
        self.teacher = teacher.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher_forwards = 0
        self.adapters = _adapters(teacher, student).to(device)

    def __call__(self, network: Network, outputs: Outputs, batch: Batch) -> Tensor:
        """One number to lower, in float32."""
        with torch.no_grad(), torch.autocast(batch.images.device.type, torch.bfloat16, enabled=_is_half(outputs)):
            taught = as_float32(self.teacher(batch.images))
        self.teacher_forwards += len(batch.images)
        own = as_float32(outputs)
        return (
            self.labels(network, outputs, batch)
            + self.config.scores * _score_term(own.score_logits, taught.score_logits)
            + self.config.boxes * _box_term(own.box_logits, taught.box_logits, taught.score_logits, self.config.temperature)
            + self.config.features * self._feature_term(own.features, taught.features)
        )

    def parameters(self) -> list[nn.Parameter]:
        """Of the adapters, which are thrown away after training."""
        return list(self.adapters.parameters())

    def _feature_term(self, own: tuple[Tensor, ...], taught: tuple[Tensor, ...]) -> Tensor:
        """Mean over the levels of half the squared distance of standardised maps, which is one minus their correlation."""
        terms = [
            F.mse_loss(_standardised(adapter(mine.float())), _standardised(theirs.float())) / 2
            for adapter, mine, theirs in zip(self.adapters, own, taught, strict=True)
        ]
        return torch.stack(terms).mean()


def teach(config: Distillation, teacher: Detector, student: Detector, device: torch.device) -> DistillationLoss:
    """A loss that follows the teacher while the student trains."""
    return DistillationLoss(config, teacher, student, device)


def feature_widths(detector: Detector) -> tuple[int, ...]:
    """Channels of the features that the heads see, level by level."""
    with torch.device("meta"):
        network = Network(detector.blueprint).eval()
        features = network(torch.zeros(1, 3, *detector.blueprint.input_size)).features
    return tuple(feature.shape[1] for feature in features)


def _adapters(teacher: Detector, student: Detector) -> nn.ModuleList:
    """A 1x1 convolution per level where widths differ; seeded, so that a training repeats."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.ModuleList(
            nn.Identity() if mine == theirs else nn.Conv2d(mine, theirs, 1)
            for mine, theirs in zip(feature_widths(student), feature_widths(teacher), strict=True)
        )


def _score_term(own: Tensor, taught: Tensor) -> Tensor:
    """(B, N, C) logits of both -> cross entropy per unit of teacher confidence."""
    goal = taught.sigmoid()
    scale = goal.amax(-1).sum().clamp(min=1.0)
    return F.binary_cross_entropy_with_logits(own, goal, reduction="sum") / scale


def _box_term(own: Tensor, taught: Tensor, taught_scores: Tensor, temperature: float) -> Tensor:
    """(B, N, 4 * K) logits of both -> divergence of the side distributions, weighted by the teacher's best score."""
    sure = taught_scores.sigmoid().amax(-1)  # (B, N)
    # The number of bins is not needed: four sides of equal length lie behind one another.
    mine, theirs = (torch.unflatten(logits, -1, (4, -1)) / temperature for logits in (own, taught))
    divergence = F.kl_div(mine.log_softmax(-1), theirs.log_softmax(-1), reduction="none", log_target=True).sum(-1).mean(-1)
    return (divergence * sure).sum() / sure.sum().clamp(min=1.0) * temperature**2


def _standardised(maps: Tensor) -> Tensor:
    """Each channel with mean 0 and deviation 1 over the batch, (B, width, height, width)."""
    mean = maps.mean((0, 2, 3), keepdim=True)
    deviation = maps.std((0, 2, 3), keepdim=True, correction=0)
    return (maps - mean) / (deviation + 1e-6)


def _is_half(outputs: Outputs) -> bool:
    return outputs.score_logits.dtype == torch.bfloat16
