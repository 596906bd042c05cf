"""What every family of adapted networks offers; a family adds how its specs are read and its networks built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from detection.adapted.costs import costs_of
from detection.adapted.light import NOTHING_TO_GAIN, light, light_layers, light_weights
from detection.adapted.matching import matched_targets
from detection.adapted.network import NETWORK, Adapted, AdaptedRaw, Deployed, as_float32, floats_of
from detection.checkpoint import Detector
from detection.family import (
    Augment,
    Batch,
    Capability,
    Family,
    Points,
    Reduction,
    Selection,
    TeacherTargets,
    family_of,
    random_start,
)  # fmt: skip
from detection.frozen import Frozen
from detection.spec import Spec
from detection.tracing import why_untraceable

LEAST_SCORE = 1e-6
"""Scores nearer to 0 or 1 have no logit in float32 worth comparing."""


def adapted_family(
    name: str,
    settings: type[Frozen],
    *,
    build: Callable[[Spec], Adapted],
    label: Callable[[Frozen], str],
    stride_px: Callable[[Frozen], int],
    select: Callable[[Frozen], Selection],
    refuse_teacher: Callable[[Frozen, Frozen, bool], None],
    read_spec: Callable[[Any, Path, tuple[int, int], tuple[str, ...]], Spec],
    read_trained: Callable[[Any, Path, tuple[int, int], tuple[str, ...] | None, int], Detector | None],
    about: Callable[[Spec], Iterator[str]],
    augment: Callable[[Spec], Augment | None] | None = None,
    reducible: Callable[[Spec, tuple[float, ...]], Mapping[str, Reduction]] | None = None,
) -> Family:
    """A family whose networks are `Adapted`: everything by the functions of their author, and defaults for what these leave out."""
    return Family(
        name=name,
        settings=settings,
        cannot=_cannot,
        label=label,
        stride_px=stride_px,
        build=build,
        start=partial(random_start, build),
        learn=_learn,
        raw=lambda network, images: network(images),
        decode=lambda network, raw: cast(Adapted, network).decode(raw),
        points=_points,
        targets=_targets,
        refuse_teacher=refuse_teacher,
        exported=lambda network, planes: Deployed(cast(Adapted, network), planes=planes).eval(),
        select=lambda spec: select(spec.settings),
        protected=_protected,
        skippable=lambda network: cast(Adapted, network).skippable(),
        scalar=lambda raw: cast(Tensor, sum(own.sum() for own in floats_of(raw.own))),
        costs=costs_of,
        costs_are_of_layers=True,
        read_spec=read_spec,
        read_trained=read_trained,
        learning_rates=lambda network: cast(Adapted, network).learning_rates(),
        augment=augment,
        reducible=reducible,
        unwrapped=lambda network: cast(Adapted, network).given_back(),
        about=about,
        light=partial(light, build, _protected),
        light_weights=light_weights,
    )


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
    spec = Spec.model_validate_json(spec_json)
    return bool(light_layers(family_of(spec).build, _protected, spec))


@lru_cache(maxsize=64)
def _why_untraceable(spec_json: str) -> str | None:
    """Why there is no graph of the network to put rounding into, in a sentence; it runs once for it."""
    spec = Spec.model_validate_json(spec_json)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return why_untraceable(family_of(spec).build(spec), torch.rand(1, 3, *spec.input_size), NETWORK)


def _protected(network: nn.Module) -> tuple[str, ...]:
    return cast(Adapted, network).protected()


def _learn(
    network: nn.Module, batch: Batch, *, half: bool, forward: Callable[[Tensor], AdaptedRaw] | None = None
) -> tuple[AdaptedRaw, Tensor]:
    adapted = cast(Adapted, network)
    with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=half):
        raw = adapted.of_batch(batch) if forward is None else forward(batch.images)
    return raw, adapted.loss(raw, batch)


def _points(network: nn.Module, raw: AdaptedRaw) -> Points:
    boxes, scores = cast(Adapted, network).decode(AdaptedRaw(as_float32(raw.own), raw.maps))
    return Points(torch.logit(scores, LEAST_SCORE), None, raw.maps, boxes)


def _targets(points: Points, own: Points, teacher: Spec, student: Spec) -> TeacherTargets:
    """What the teacher says: matched where they predict sets, else point by point, since the same code builds both."""
    if family_of(student).select(student) == "best":
        return matched_targets(points, own, student.input_size)
    scores = points.score_logits.sigmoid()
    return TeacherTargets(scores, None, scores.amax(-1), points.features, points.boxes_xyxy_px)
