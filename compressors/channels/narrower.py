"""The same network with every width at a share of its own, for families that offer no such networks themselves."""

from __future__ import annotations

from types import MappingProxyType

import torch

from compressors.channels.groups import kept_spec
from compressors.channels.narrowable import narrowable
from detection.checkpoint import Detector, fresh
from detection.spec import Spec
from detection.widths import narrower_width


def group_widths(spec: Spec) -> tuple[int, ...]:
    """Units of every channel group that can be narrowed."""
    return tuple(group.units for group in narrowable(spec).narrow)


def narrowed_groups(spec: Spec, share: float) -> Spec:
    """The detector with this share of every group's units, rounded down to multiples of 8, at least 8; groups below 8 stay."""
    groups = narrowable(spec).narrow
    shapes = {name: tensor.to("meta") for name, tensor in fresh(spec, 0).weights.items()}
    kept = [torch.arange(narrower_width(group.units, share)) for group in groups]
    return kept_spec(Detector(spec, MappingProxyType(shapes)), groups, kept)
