"""Users' own torch modules as a detector family: what its author wrote, and the defaults for all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor, nn

from detection.family import Batch, Capability, Family, Points, TeacherTargets, random_start
from detection.frozen import Frozen, InputError
from detection.module.adapter import NETWORK, Adapted, Deployed, ModuleRaw, as_float32, floats_of, user_of
from detection.module.costs import costs_of
from detection.module.light import NOTHING_TO_GAIN, light, light_layers, light_weights
from detection.module.reading import about, spec_of, weights_of
from detection.module.settings import ModuleSettings
from detection.spec import Spec
from detection.tracing import why_untraceable

LEAST_SCORE = 1e-6
"""Scores nearer to 0 or 1 have no logit in float32 worth comparing."""


def _cannot(spec: Spec) -> Mapping[Capability, str]:
    spec_json, found = spec.model_dump_json(by_alias=True), dict[Capability, str]()
    if not _has_light_layers(spec_json):
        found["lightweight"] = NOTHING_TO_GAIN
    if reason := _why_untraceable(spec_json):
        found["qat"] = reason
    return found


@lru_cache(maxsize=64)
def _has_light_layers(spec_json: str) -> bool:
    """Whether light blocks can be had; the network is built for it, and planning asks for every cell."""
    return bool(light_layers(Adapted, _protected, Spec.model_validate_json(spec_json)))


@lru_cache(maxsize=64)
def _why_untraceable(spec_json: str) -> str | None:
    """Why there is no graph of the network to put rounding into, in a sentence; it runs once for it."""
    spec = Spec.model_validate_json(spec_json)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return why_untraceable(Adapted(spec), torch.rand(1, 3, *spec.input_size), NETWORK)


def _protected(network: nn.Module) -> tuple[str, ...]:
    return cast(Adapted, network).protected()


def _learn(
    network: nn.Module, batch: Batch, *, half: bool, forward: Callable[[Tensor], ModuleRaw] | None = None
) -> tuple[ModuleRaw, Tensor]:
    with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=half):
        raw: ModuleRaw = (forward or network)(batch.images)
    adapted = cast(Adapted, network)
    loss = adapted.shared.user.loss(adapted.network, as_float32(raw.own), batch)
    return raw, loss.float()


def _points(network: nn.Module, raw: ModuleRaw) -> Points:
    boxes, scores = cast(Adapted, network).decode(ModuleRaw(as_float32(raw.own), raw.maps))
    return Points(torch.logit(scores, LEAST_SCORE), None, raw.maps, boxes)


def _targets(points: Points, teacher: Spec, student: Spec) -> TeacherTargets:
    """What the teacher says, point by point: both are built by the same code, so they predict at the same points."""
    scores = points.score_logits.sigmoid()
    return TeacherTargets(scores, None, scores.amax(-1), points.features, points.boxes_xyxy_px)


def _refuse_teacher(teacher: Frozen, student: Frozen, compares_boxes: bool) -> None:
    own, theirs = cast(ModuleSettings, student), teacher
    if not isinstance(theirs, ModuleSettings):
        raise InputError("teacher: settings of our own networks are named, which predict at other points than a module of yours.")
    if (theirs.code.reference, theirs.code.files) != (own.code.reference, own.code.files):
        raise InputError(
            f"teacher: {theirs.code.reference} is other code than {own.code.reference}, so it predicts at other points. Export it "
            f"as an ONNX file, whose boxes teach any detector."
        )


FAMILY = Family(
    name="module",
    settings=ModuleSettings,
    cannot=_cannot,
    label=lambda settings: cast(ModuleSettings, settings).code.reference.partition(":")[2],
    stride_px=lambda settings: cast(ModuleSettings, settings).stride_px,
    build=Adapted,
    start=partial(random_start, Adapted),
    learn=_learn,
    raw=lambda network, images: network(images),
    decode=lambda network, raw: cast(Adapted, network).decode(raw),
    points=_points,
    targets=_targets,
    refuse_teacher=_refuse_teacher,
    exported=lambda network, planes: Deployed(cast(Adapted, network), planes=planes).eval(),
    select=lambda spec: cast(ModuleSettings, spec.settings).select,
    protected=_protected,
    skippable=lambda network: cast(Adapted, network).skippable(),
    scalar=lambda raw: cast(Tensor, sum(own.sum() for own in floats_of(raw.own))),
    costs=costs_of,
    costs_are_of_layers=True,
    read_spec=spec_of,
    read_weights=weights_of,
    learning_rates=lambda network: cast(Adapted, network).learning_rates(),
    augment=lambda spec: getattr(user_of(cast(ModuleSettings, spec.settings)), "augment", None),
    unwrapped=lambda network: cast(Adapted, network).given_back(),
    about=about,
    light=partial(light, Adapted, _protected),
    light_weights=light_weights,
)
