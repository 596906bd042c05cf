"""distillation: a training learns from the teacher's scores, box distributions and features as well as from the labels."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from compressors.contract import Phase, Settings
from compressors.distillation.features import FEATURE_WEIGHTS, FeaturesBy, FeatureTerm
from compressors.distillation.soft_labels import SoftLabelLoss
from compressors.distillation.teacher_outputs import CachedOutputs, Computed, flip_states
from detection.boxes import generalized_iou
from detection.brought import Brought, CheckpointDetector, OnnxDetector, parse_brought
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.family import Batch, Points, Raw, TeacherTargets, family_named
from detection.frozen import Frozen
from detection.spec import Spec, parse_settings
from detection.training import Recipe

Weight = Annotated[float, Field(ge=0.0)]
ITS_POINTS = "with a teacher of our own family; of an ONNX file no more than its boxes are known"
"""The condition of all that compares more than detections."""
TEACHER_FAMILY = "compact"
"""Of a teacher that is named by its settings alone and trained for the purpose."""


def _parse_teacher(family: str, given: Any) -> Frozen | None:
    """A detector that the user brings, or settings of one that the sweep trains."""
    return None if given is None else parse_brought(given) or parse_settings(family, given)


class Distillation(Settings):
    """How strongly the student follows the teacher in each respect; the weights work from the first epoch on."""

    phase: ClassVar[Phase] = "objective"
    method: Literal["distillation"] = "distillation"
    scores: Weight = 1.5
    """Cross entropy to the teacher's class scores (soft labels, arXiv:1503.02531, of a sigmoid per class), normalised by the sum of
    its best scores. With this weight and the two below, and no features, a student of 0.69 M parameters went from 0.530 to 0.557
    mAP on blood cells, taught by one of 2.84 M (one seed)."""
    boxes: Weight = 3.0
    """Localization distillation: divergence of the box distributions (LD, arXiv:2102.12252), where the teacher is sure; of boxes
    that are numbers, 1 - GIoU (arXiv:1902.09630). LD's own configurations have 0.25 at temperature 10, of a mean over 17 bins where
    this is a sum."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens the box distributions."""
    features_by: FeaturesBy = "pkd"
    """How the features that the heads see are compared: by their correlation (`pkd`, arXiv:2207.02039), by where each channel
    looks (`cwd`, arXiv:2011.13256), by whether the teacher's can be guessed from parts of the student's (`mgd`,
    arXiv:2205.01529), or not at all."""
    features: Weight = Field(default_factory=lambda given: FEATURE_WEIGHTS[given["features_by"]])
    """Of that comparison; each has its own default, in `FEATURE_WEIGHTS`."""
    teacher: Annotated[
        CheckpointDetector | OnnxDetector | SerializeAsAny[Frozen] | None, BeforeValidator(partial(_parse_teacher, TEACHER_FAMILY))
    ] = None
    """A detector to learn from: settings of one that is trained for this purpose by the sweep's schedule, a trained one of ours
    (`checkpoint`), or any ONNX file (`onnx`), whose boxes become soft labels; none: the sweep's teacher."""
    cache: bool = False
    """Ask the teacher once about every picture and way of flipping it, and remember. Only where flips are the whole
    augmentation; saves time where a training has more epochs than a picture has such views."""

    @model_validator(mode="after")
    def _weighs_what_is_compared(self) -> Distillation:
        if self.features_by == "none" and self.features:
            raise ValueError(f"features {self.features:g}: with features_by none there is nothing to weigh; leave it out or at 0")
        if self.gives_boxes and self.features != FEATURE_WEIGHTS[self.features_by]:
            raise ValueError(f"features {self.features:g}: counts only {ITS_POINTS}. Leave it out, or change the other")
        return self

    @property
    def brought(self) -> Brought | None:
        """The teacher where it is a detector that the user brings."""
        return self.teacher if isinstance(self.teacher, CheckpointDetector | OnnxDetector) else None

    @property
    def gives_boxes(self) -> bool:
        """Whether all that is known of the teacher are its detections."""
        return isinstance(self.teacher, OnnxDetector)

    def _without_effect(self) -> dict[str, str]:
        if self.gives_boxes:
            unused = dict.fromkeys(("boxes", "temperature", "features_by", "cache"), ITS_POINTS)
            return unused if self.scores else unused | {"teacher": "with scores above 0"}
        unused = {} if self.boxes else {"temperature": "with boxes above 0"}
        if not (self.scores or self.boxes or self.features):
            unused |= dict.fromkeys(("teacher", "cache"), "with scores, boxes or features above 0")
        return unused

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params; what is not the default is in it."""
        usual = Distillation(features_by=self.features_by)
        terms = [
            (self.scores, usual.scores, "scores"),
            (self.boxes, usual.boxes, "LD"),
            (self.features, usual.features, self.features_by.upper()),
        ]
        terms = [(self.scores, usual.scores, "soft-labels")] if self.gives_boxes else terms
        words = [name if weight == default else f"{name}{weight:g}" for weight, default, name in terms if weight]
        words += [f"T{self.temperature:g}"] if self.boxes and self.temperature != usual.temperature else []
        if self.teacher is not None:
            words += [f"teacher-{self.brought.label() if self.brought else family_named(TEACHER_FAMILY).label(self.teacher)}"]
        words += ["cached"] if self.cache else []
        return "+".join(words) or "labels"

    def apart_from_place(self) -> dict[str, Any]:
        """The settings as data, without where a brought teacher lies: what it is decides, by its digest."""
        return self.model_dump(mode="json") | ({} if self.brought is None else {"teacher": None})

    def teacher_forwards(self, recipe: Recipe, pictures: int) -> int:
        """Pictures that a training sends through the teacher; ValueError where it cannot remember but should."""
        return pictures * min(recipe.epochs, len(flip_states(recipe.augmentation)) if self.cache else recipe.epochs)


def refuse_teacher(config: Distillation, teacher: Frozen, student: Spec) -> None:
    """ValueError where a teacher with these settings cannot teach this student."""
    family_named(student.family).refuse_teacher(teacher, student.settings, config.boxes > 0)


class DistillationLoss:
    """What a distilled training lowers: the loss against the labels, and the distances to the teacher's outputs."""

    def __init__(self, config: Distillation, specs: tuple[Spec, Spec], outputs: Computed, features: FeatureTerm | None) -> None:
        """The specs are those of teacher and student."""
        self.config, self.outputs, self.features = config, outputs, features
        self.teacher, self.student = specs
        self.family = family_named(self.student.family)

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        """One number to lower, in float32."""
        own, theirs = self.family.points(network, raw), self.outputs(batch, half)
        targets = self.family.targets(_as_float32(theirs), own, self.teacher, self.student)
        loss = loss + self.config.scores * _score_term(own.score_logits.float(), targets.scores)
        if self.config.boxes:
            loss = loss + self.config.boxes * self._box_distance(own, targets)
        if self.features is not None:
            loss = loss + self.config.features * self.features(own.features, targets.features, half)
        return loss

    def _box_distance(self, own: Points, targets: TeacherTargets) -> Tensor:
        """Between distributions of sides where both have them, else between boxes."""
        if own.side_logits is not None and targets.side_logits is not None:
            return _box_term(own.side_logits.float(), targets.side_logits, targets.confidence, self.config.temperature)
        assert own.boxes_xyxy_px is not None, "points have distributions of sides, or boxes"
        assert targets.boxes_xyxy_px is not None, "points have distributions of sides, or boxes"
        apart = 1 - generalized_iou(own.boxes_xyxy_px.float(), targets.boxes_xyxy_px)
        return (apart * targets.confidence).sum() / targets.confidence.sum().clamp(min=1.0)

    def parameters(self) -> list[nn.Parameter]:
        """Of what compares features, which is thrown away after training."""
        return [] if self.features is None else list(self.features.parameters())

    @property
    def teacher_forwards(self) -> int:
        """Pictures that went through the teacher so far."""
        return self.outputs.forwards


def teach(
    config: Distillation,
    teacher: Detector,
    student: Detector,
    device: torch.device,
    *,
    seed: int = 0,
    train: Images | None = None,
    recipe: Recipe | None = None,
) -> DistillationLoss | SoftLabelLoss:
    """A loss that follows the teacher while the student trains.

    The seed decides adapters and masks. The pictures and the recipe of the training are needed where `cache` is chosen.
    """
    if config.gives_boxes:
        return SoftLabelLoss(config.scores, teacher, student.spec)
    refuse_teacher(config, teacher.spec.settings, student.spec)
    # Both see the same pictures: a teacher at another input size would predict at other points.
    seen = teacher.at(student.spec.input_size)
    network = seen.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    outputs = Computed(seen.family, network)
    if config.cache:
        if train is None or recipe is None:
            raise ValueError("cache: needs the pictures and the recipe of the training")
        if config.teacher_forwards(recipe, 1) < recipe.epochs:  # otherwise looking ahead would cost more than it saves
            outputs = CachedOutputs(seen.family, network, train, recipe)
    features = None
    if config.features and all(widths := feature_widths(seen, student)):  # a family may name no maps to compare
        features = FeatureTerm(config.features_by, *widths, seed).to(device)
    return DistillationLoss(config, (seen.spec, student.spec), outputs, features)


@torch.no_grad()
def feature_widths(teacher: Detector, student: Detector) -> tuple[list[int], list[int]]:
    """Channels of each of the teacher's maps that are compared, and of the student's; both see pictures of one size."""
    blank, points = torch.zeros(1, 3, *student.spec.input_size), []
    for own in (teacher, student):
        network = own.network()
        points.append(own.family.points(network, own.family.raw(network, blank)))
    targets = teacher.family.targets(points[0], points[1], teacher.spec, student.spec)
    return [maps.shape[1] for maps in targets.features], [maps.shape[1] for maps in points[1].features]


def _as_float32(points: Points) -> Points:
    """The same logits and boxes in float32; they leave autocast in bfloat16."""
    sides, boxes = (None if own is None else own.float() for own in (points.side_logits, points.boxes_xyxy_px))
    return Points(points.score_logits.float(), sides, points.features, boxes)


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
