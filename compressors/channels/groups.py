"""Channels of layers that go together, and a detector with only some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from detection.checkpoint import Detector
from detection.edits import NORM_PARTS, End, LayerKind, axis_of
from detection.spec import KeptChannels, LayerWidth, Spec


class Side(NamedTuple):
    """The inputs or the outputs of a layer; of a normalisation and a depthwise convolution, which have as many, the outputs."""

    layer: str
    kind: LayerKind
    end: End

    @property
    def axis(self) -> int:
        """The dimension of the layer's weight that belongs to it."""
        return axis_of(self.kind, self.end)


class Members(NamedTuple):
    """Channels of one side, and for each of them the unit that it goes with. Each channel stands here once."""

    channels: Tensor  # (N,)
    units: Tensor  # (N,)


@dataclass(frozen=True)
class ChannelGroup:
    """Layers that are narrowed together, unit by unit: a unit is a channel with all that it drags along.

    Mostly a unit has one channel in each of its layers. Where halves are concatenated (ghost blocks) it has two after the seam.
    """

    units: int
    sides: Mapping[Side, Members]

    @property
    def pattern(self) -> str:
        """What the group is made of: those with the same pattern count as isomorphic (arXiv:2407.04616, section 3)."""
        parts = Counter(f"{side.kind} {side.end}" for side in self.sides)
        return ", ".join(f"{count} {part}" for part, count in sorted(parts.items()))

    def outputs(self, *kinds: LayerKind) -> dict[str, Members]:
        """Layer -> the group's members among its outputs, for layers of these kinds."""
        return {side.layer: members for side, members in self.sides.items() if side.end == "outputs" and side.kind in kinds}

    def readers(self) -> dict[Side, Members]:
        """Inputs of layers -> the group's members among them; depthwise ones hand a channel on and are in the group themselves."""
        return {side: members for side, members in self.sides.items() if side.end == "inputs"}


@dataclass(frozen=True)
class Groups:
    """What of a network can be narrowed, and what cannot."""

    narrow: tuple[ChannelGroup, ...]
    whole: Mapping[str, str]
    """Layer whose outputs stay -> why: a layer of its group, itself or another, cannot be narrowed."""


def without(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> Detector:
    """The detector with only the kept units of each group, weights inherited. kept: numbers of units, ascending, group by group."""
    spec = kept_spec(detector, groups, kept)
    if spec is detector.spec:
        return detector
    weights = dict(detector.weights)
    for side, rows in kept_of_sides(detector, groups, kept).items():
        for part in NORM_PARTS if side.end == "outputs" else NORM_PARTS[:1]:
            if (name := f"{side.layer}.{part}") in weights:
                whole = weights[name]
                weights[name] = whole.index_select(side.axis if part == "weight" else 0, rows.to(whole.device))
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    return Detector(spec, MappingProxyType(contiguous))


def kept_spec(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> Spec:
    """The spec with only the kept units: one edit more, with the widths of every layer that becomes narrower, if any does."""
    before: dict[str, LayerWidth] = {}
    after: dict[str, LayerWidth] = {}
    for side, rows in kept_of_sides(detector, groups, kept).items():
        alone = side.kind in ("norm", "depthwise")  # with as many inputs as outputs
        shape, ends = detector.weights[f"{side.layer}.weight"].shape, ("inputs", "outputs") if alone else (side.end,)
        whole = LayerWidth(inputs=shape[axis_of(side.kind, "inputs")], outputs=shape[axis_of(side.kind, "outputs")])
        before[side.layer] = whole
        after[side.layer] = after.get(side.layer, whole).model_copy(update=dict.fromkeys(ends, len(rows)))
    narrower = {name: width for name, width in after.items() if width != before[name]}
    return detector.spec.edited(KeptChannels(layers=narrower)) if narrower else detector.spec


def kept_of_sides(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> dict[Side, Tensor]:
    """For every side of every group the channels that stay, ascending."""
    stays: dict[Side, Tensor] = {}
    for group, units in zip(groups, kept, strict=True):
        unit_stays = torch.zeros(group.units, dtype=torch.bool)
        unit_stays[units] = True
        for side, members in group.sides.items():
            kernel = detector.weights[f"{side.layer}.weight"]
            whole = torch.ones(kernel.shape[side.axis], dtype=torch.bool)
            stays.setdefault(side, whole)[members.channels] = unit_stays[members.units]
    return {side: rows.nonzero().flatten() for side, rows in stays.items()}
