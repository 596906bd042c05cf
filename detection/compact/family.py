"""Our own family as others see it: one table of functions, and how its detectors learn, from labels and from a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.compact.architecture import Architecture, architecture_of
from detection.compact.costs import costs_of
from detection.compact.deployed import Deployed
from detection.compact.light_weights import light_weights
from detection.compact.losses import detection_loss
from detection.compact.network import Network, Outputs, ResidualBlock
from detection.compact.space import light_spec, narrowed, space_of, widths_of
from detection.family import Batch, Capability, Family, Points, TeacherTargets, random_start
from detection.frozen import Frozen
from detection.spec import Spec


def _learn(
    network: nn.Module, batch: Batch, *, half: bool, forward: Callable[[Tensor], Outputs] | None = None
) -> tuple[Outputs, Tensor]:
    with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=half):
        outputs: Outputs = (forward or network)(batch.images)
    return outputs, detection_loss(cast(Network, network), outputs, batch)


def refuse_teacher(teacher: Frozen, student: Frozen, compares_boxes: bool) -> None:
    """ValueError where this teacher cannot teach this student: its predictions stand at other points, or in other bins."""
    theirs, own = cast(Architecture, teacher), cast(Architecture, student)
    if any(level not in theirs.levels for level in own.levels):
        raise ValueError(f"teacher.levels {theirs.levels}: the student's {own.levels} must be among them")
    if compares_boxes and theirs.box_bins != own.box_bins:
        raise ValueError(f"teacher.box_bins {theirs.box_bins}: the student has {own.box_bins}; make them equal, or set boxes to 0")


def targets_of(points: Points, _own: Points, teacher: Spec, student: Spec) -> TeacherTargets:
    """The teacher's outputs at the points of the student, who may have fewer levels.

    What the teacher sees on a coarser level than the student has, the student has to see on its coarsest: those scores are
    enlarged and the greater of both counts. Boxes cannot be carried over, their bins end too early; labels alone teach them.
    """
    own_levels, levels = architecture_of(teacher).levels, architecture_of(student).levels
    counts = [(teacher.input_size[0] // level) * (teacher.input_size[1] // level) for level in own_levels]
    scores = dict(zip(own_levels, torch.split(points.score_logits.sigmoid(), counts, 1), strict=True))
    boxes = dict(zip(own_levels, torch.split(cast(Tensor, points.side_logits), counts, 1), strict=True))
    features = dict(zip(own_levels, points.features, strict=True))
    confidence = torch.cat([scores[level].amax(-1) for level in levels], 1)
    for level in own_levels:
        if level > levels[-1]:
            height, width = teacher.input_size[0] // level, teacher.input_size[1] // level
            maps = torch.unflatten(scores[level].transpose(1, 2), 2, (height, width))  # (B, C, height, width)
            larger = F.interpolate(maps, scale_factor=level // levels[-1], mode="bilinear").flatten(2).transpose(1, 2)
            scores[levels[-1]] = torch.maximum(scores[levels[-1]], larger)
    return TeacherTargets(
        scores=torch.cat([scores[level] for level in levels], 1),
        side_logits=torch.cat([boxes[level] for level in levels], 1),
        confidence=confidence,
        features=tuple(features[level] for level in levels),
    )


def _cannot(spec: Spec) -> Mapping[Capability, str]:
    rebuilding: tuple[Capability, ...] = ("lightweight", "narrow")
    why = "The network is pruned or factored already, and this would build it anew with other blocks or widths."
    return dict.fromkeys(rebuilding, why) if spec.edits else {}


FAMILY = Family(
    name="compact",
    settings=Architecture,
    cannot=_cannot,
    label=lambda settings: cast(Architecture, settings).label(),
    stride_px=lambda settings: cast(Architecture, settings).levels[-1],
    build=Network,
    start=partial(random_start, Network),
    learn=_learn,
    raw=lambda network, images: network(images),
    decode=lambda network, outputs: cast(Network, network).decode(outputs),
    points=lambda _network, outputs: Points(outputs.score_logits, outputs.box_logits, outputs.features),
    targets=targets_of,
    refuse_teacher=refuse_teacher,
    exported=lambda network, planes: Deployed(cast(Network, network), planes=planes).eval(),
    select=lambda _spec: "nms",
    protected=lambda network: cast(Network, network).protected_layers(),
    skippable=lambda network: tuple(name for name, own in network.named_modules() if isinstance(own, ResidualBlock)),
    scalar=lambda outputs: outputs.score_logits.sum() + outputs.box_logits.sum(),
    costs=costs_of,
    light=light_spec,
    light_weights=light_weights,
    space=space_of,
    narrowed=narrowed,
    widths=widths_of,
)
