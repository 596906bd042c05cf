"""distillation: a training learns from the teacher's scores, box distributions and features as well as from the labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.contract import Phase, Settings
from compressors.distillation.features import FEATURE_WEIGHTS, FeaturesBy, FeatureTerm
from compressors.distillation.teacher_outputs import Computed, Remembered, TeacherOutputs, flip_states
from compressors.unused_settings import refuse_idle
from detection.checkpoint import Detector
from detection.compact.blueprint import Architecture, Blueprint
from detection.compact.losses import Batch, DetectionLoss, as_float32
from detection.compact.network import Network, Outputs
from detection.data.dataset import Images
from detection.training import Recipe

Weight = Annotated[float, Field(ge=0.0)]


class Distillation(Settings):
    """How strongly the student follows the teacher in each respect; the weights work from the first epoch on."""

    phase: ClassVar[Phase] = "objective"
    method: Literal["distillation"] = "distillation"
    scores: Weight = 1.5
    """Cross entropy to the teacher's class scores (soft labels, arXiv:1503.02531, of a sigmoid per class), normalised by the sum of
    its best scores. With this weight and the two below, and no features, a student of 0.69 M parameters went from 0.530 to 0.557
    mAP on blood cells, taught by one of 2.84 M (one seed)."""
    boxes: Weight = 3.0
    """Localization distillation: divergence of the box distributions (LD, arXiv:2102.12252), where the teacher is sure. LD's own
    configurations have 0.25 at temperature 10, of a mean over 17 bins where this is a sum."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens the box distributions."""
    features_by: FeaturesBy = "pkd"
    """How the features that the heads see are compared: by their correlation (`pkd`, arXiv:2207.02039), by where each channel
    looks (`cwd`, arXiv:2011.13256), by whether the teacher's can be guessed from parts of the student's (`mgd`,
    arXiv:2205.01529), or not at all."""
    features: Weight = Field(default_factory=lambda given: FEATURE_WEIGHTS[given["features_by"]])
    """Of that comparison; each has its own default, in `FEATURE_WEIGHTS`."""
    teacher: Architecture | None = None
    """A detector to learn from, trained for this purpose by the sweep's schedule; none: the sweep's teacher."""
    cache: bool = False
    """Ask the teacher once about every picture and way of flipping it, and remember. Only where flips are the whole
    augmentation; saves time where a training has more epochs than a picture has such views."""

    @model_validator(mode="after")
    def _weighs_what_is_compared(self) -> Distillation:
        if self.features_by == "none" and self.features:
            raise ValueError(f"features {self.features:g}: with features_by none there is nothing to weigh; leave it out or at 0")
        return self

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> Distillation:
        idle = {} if self.boxes else {"temperature": "with boxes above 0"}
        if not (self.scores or self.boxes or self.features):
            idle |= dict.fromkeys(("teacher", "cache"), "with scores, boxes or features above 0")
        refuse_idle(self, idle)
        return self

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params; what is not the default is in it."""
        usual = Distillation(features_by=self.features_by)
        terms = [
            (self.scores, usual.scores, "scores"),
            (self.boxes, usual.boxes, "LD"),
            (self.features, usual.features, self.features_by.upper()),
        ]
        words = [name if weight == default else f"{name}{weight:g}" for weight, default, name in terms if weight]
        words += [f"T{self.temperature:g}"] if self.boxes and self.temperature != usual.temperature else []
        words += [f"teacher-{_named(self.teacher)}"] if self.teacher else []
        words += ["cached"] if self.cache else []
        return "+".join(words) or "labels"

    def teacher_forwards(self, recipe: Recipe, pictures: int) -> int:
        """Pictures that a training sends through the teacher; ValueError where it cannot remember but should."""
        return pictures * min(recipe.epochs, len(flip_states(recipe.augmentation)) if self.cache else recipe.epochs)


def _named(teacher: Architecture) -> str:
    """Its stage widths, and what else is not the default."""
    usual, own = Architecture().model_dump(), teacher.model_dump()
    words = [own.pop("stage_widths"), *(word for name, value in own.items() if value != usual[name] for word in (name, value))]
    return "-".join("-".join(map(str, word)) if isinstance(word, tuple) else str(word) for word in words)


def refuse_strangers(config: Distillation, teacher: Architecture, student: Architecture) -> None:
    """ValueError where this teacher cannot teach this student: its predictions stand at other points, or in other bins."""
    missing = [level for level in student.levels if level not in teacher.levels]
    if missing:
        raise ValueError(f"teacher.levels {teacher.levels}: the student's {student.levels} must be among them")
    if config.boxes and teacher.box_bins != student.box_bins:
        raise ValueError(
            f"teacher.box_bins {teacher.box_bins}: the student has {student.box_bins}; make them equal, or set boxes to 0"
        )


class DistillationLoss:
    """The detection loss and, beside it, what the teacher would have said of the same pictures."""

    def __init__(self, config: Distillation, teacher: Network, outputs: TeacherOutputs, features: FeatureTerm | None) -> None:
        self.config, self.labels, self.teacher, self.taught, self.features = config, DetectionLoss(), teacher, outputs, features

    def __call__(self, network: Network, outputs: Outputs, batch: Batch) -> Tensor:
        """One number to lower, in float32."""
        half = outputs.score_logits.dtype == torch.bfloat16
        own, taught = as_float32(outputs), as_float32(self.taught(batch, half))
        lesson = on_levels(taught, self.teacher.blueprint, network.blueprint.architecture.levels)
        loss = self.labels(network, outputs, batch) + self.config.scores * _score_term(own.score_logits, lesson.scores)
        if self.config.boxes:
            loss = loss + self.config.boxes * _box_term(own.box_logits, lesson.box_logits, lesson.sure, self.config.temperature)
        if self.features is not None:
            loss = loss + self.config.features * self.features(own.features, lesson.features, half)
        return loss

    def parameters(self) -> list[nn.Parameter]:
        """Of what compares features, which is thrown away after training."""
        return [] if self.features is None else list(self.features.parameters())

    @property
    def teacher_forwards(self) -> int:
        """Pictures that went through the teacher so far."""
        return self.taught.forwards


def teach(
    config: Distillation,
    teacher: Detector,
    student: Detector,
    device: torch.device,
    *,
    seed: int = 0,
    train: Images | None = None,
    recipe: Recipe | None = None,
) -> DistillationLoss:
    """A loss that follows the teacher while the student trains.

    The seed decides adapters and masks. The pictures and the recipe of the training are needed where `cache` is chosen.
    """
    refuse_strangers(config, teacher.blueprint.architecture, student.blueprint.architecture)
    # Both see the same pictures: a teacher at another input size would predict at other points.
    seen = teacher.at(student.blueprint.input_size)
    network = seen.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    outputs: TeacherOutputs = Computed(network)
    if config.cache:
        if train is None or recipe is None:
            raise ValueError("cache: needs the pictures and the recipe of the training")
        if config.teacher_forwards(recipe, 1) < recipe.epochs:  # otherwise looking ahead would cost more than it saves
            outputs = Remembered(network, train, recipe)
    features = FeatureTerm(config.features_by, seen, student, seed).to(device) if config.features else None
    return DistillationLoss(config, network, outputs, features)


class Lesson(NamedTuple):
    """What the teacher says at the student's points. B images, N points of the student, C classes, K bins."""

    scores: Tensor  # (B, N, C) in [0, 1]
    box_logits: Tensor  # (B, N, 4 * K)
    sure: Tensor  # (B, N): the teacher's best score for a box at this very point
    features: tuple[Tensor, ...]  # of the student's levels


def on_levels(taught: Outputs, teacher: Blueprint, levels: tuple[int, ...]) -> Lesson:
    """The teacher's outputs at the points of fewer levels.

    What the teacher sees on a coarser level than the student has, the student has to see on its coarsest: those scores are
    enlarged and the greater of both counts. Boxes cannot be carried over, their bins end too early; labels alone teach them.
    """
    own_levels = teacher.architecture.levels
    counts = [(teacher.input_size[0] // level) * (teacher.input_size[1] // level) for level in own_levels]
    scores = dict(zip(own_levels, torch.split(taught.score_logits.sigmoid(), counts, 1), strict=True))
    boxes = dict(zip(own_levels, torch.split(taught.box_logits, counts, 1), strict=True))
    features = dict(zip(own_levels, taught.features, strict=True))
    sure = torch.cat([scores[level].amax(-1) for level in levels], 1)
    for level in own_levels:
        if level > levels[-1]:
            height, width = teacher.input_size[0] // level, teacher.input_size[1] // level
            maps = torch.unflatten(scores[level].transpose(1, 2), 2, (height, width))  # (B, C, height, width)
            larger = F.interpolate(maps, scale_factor=level // levels[-1], mode="bilinear").flatten(2).transpose(1, 2)
            scores[levels[-1]] = torch.maximum(scores[levels[-1]], larger)
    return Lesson(
        scores=torch.cat([scores[level] for level in levels], 1),
        box_logits=torch.cat([boxes[level] for level in levels], 1),
        sure=sure,
        features=tuple(features[level] for level in levels),
    )


def _score_term(own: Tensor, goal: Tensor) -> Tensor:
    """(B, N, C) logits and the teacher's scores -> cross entropy per unit of teacher confidence."""
    scale = goal.amax(-1).sum().clamp(min=1.0)
    return F.binary_cross_entropy_with_logits(own, goal, reduction="sum") / scale


def _box_term(own: Tensor, taught: Tensor, sure: Tensor, temperature: float) -> Tensor:
    """(B, N, 4 * K) logits of both -> divergence of the side distributions, weighted by the teacher's best score (B, N)."""
    # The number of bins is not needed: four sides of equal length lie behind one another.
    mine, theirs = (torch.unflatten(logits, -1, (4, -1)) / temperature for logits in (own, taught))
    divergence = F.kl_div(mine.log_softmax(-1), theirs.log_softmax(-1), reduction="none", log_target=True).sum(-1).mean(-1)
    return (divergence * sure).sum() / sure.sum().clamp(min=1.0) * temperature**2
