"""Our own family as others see it: one table of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from detection.batch import Batch
from detection.compact.architecture import Architecture
from detection.compact.costs import costs_of
from detection.compact.deployed import Deployed
from detection.compact.light_weights import light_weights
from detection.compact.losses import detection_loss
from detection.compact.network import Network, Outputs
from detection.compact.space import light_spec, narrowed, space_of, widths_of
from detection.compact.teaching import refuse_teacher, targets_of
from detection.family import Capability, Exported, Family, Points, random_start
from detection.frozen import Frozen
from detection.spec import Spec


def _learn(
    network: nn.Module, batch: Batch, *, half: bool, forward: Callable[[Tensor], Outputs] | None = None
) -> tuple[Outputs, Tensor]:
    with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=half):
        outputs: Outputs = (forward or network)(batch.images)
    return outputs, detection_loss(cast(Network, network), outputs, batch)


def _raw(network: nn.Module, images: Tensor) -> Outputs:
    return cast(Outputs, network(images))


def _decode(network: nn.Module, outputs: Outputs) -> tuple[Tensor, Tensor]:
    return cast(Network, network).decode(outputs)


def _points(_network: nn.Module, outputs: Outputs) -> Points:
    return Points(outputs.score_logits, outputs.box_logits, outputs.features)


def _scalar(outputs: Outputs) -> Tensor:
    return outputs.score_logits.sum() + outputs.box_logits.sum()


def _exported(network: nn.Module, planes: bool) -> Exported:
    return Deployed(cast(Network, network), planes=planes).eval()


def _protected(network: nn.Module) -> tuple[str, ...]:
    return cast(Network, network).protected_layers()


def _label(settings: Frozen) -> str:
    return cast(Architecture, settings).label()


def _stride_px(settings: Frozen) -> int:
    return cast(Architecture, settings).levels[-1]


def _cannot(_spec: Spec) -> Mapping[Capability, str]:
    return {}


FAMILY = Family(
    name="compact",
    settings=Architecture,
    cannot=_cannot,
    label=_label,
    stride_px=_stride_px,
    build=Network,
    start=partial(random_start, Network),
    learn=_learn,
    raw=_raw,
    decode=_decode,
    points=_points,
    targets=targets_of,
    refuse_teacher=refuse_teacher,
    exported=_exported,
    select="nms",
    protected=_protected,
    scalar=_scalar,
    costs=costs_of,
    light=light_spec,
    light_weights=light_weights,
    space=space_of,
    narrowed=narrowed,
    widths=widths_of,
)
