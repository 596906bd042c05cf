"""The networks below any trained detector: how many units of each channel group stay, and which blocks are left out.

A narrower network has the most important units of a group, whatever their number, so all networks of the space share weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from compressors.channels.groups import ChannelGroup, kept_spec, without
from compressors.channels.narrowable import narrowable
from detection.checkpoint import Detector, fresh
from detection.family import UnsetWeights, family_of
from detection.frozen import InputError
from detection.spec import Skipped, Spec
from detection.widths import width_options

WIDTH, BLOCK = "width_", "block_"
"""What the names of decisions begin with: a group by a layer whose outputs are in it, and a block; of a block 0 is to skip it."""


@dataclass(frozen=True)
class GroupSpace:
    """Every choice there is; the largest of each is the detector itself."""

    largest: Spec
    groups: tuple[ChannelGroup, ...]
    order: tuple[Tensor, ...]
    """Of each group its units, the most important first."""
    widths: Mapping[str, tuple[int, ...]]
    """Decision -> numbers of units that may stay, ascending; in the order of the groups."""
    blocks: tuple[str, ...]
    given: dict[str, dict[str, int]] = field(default_factory=dict)
    """Edits -> the choice that they were made for: which channels stay is not in them, but how many."""

    def options(self) -> dict[str, tuple[int, ...]]:
        """Name of each decision -> its options, ascending."""
        return {**self.widths, **dict.fromkeys((BLOCK + name for name in self.blocks), (0, 1))}

    def spec(self, choice: Mapping[str, int]) -> Spec:
        """The detector of one choice: blocks are left out of the narrower network."""
        spec = kept_spec(self._shapes, self.groups, self._kept(choice))
        if skipped := tuple(name for name in self.blocks if not choice[BLOCK + name]):
            spec = spec.edited(Skipped(blocks=skipped))
        self.given[_edits(spec)] = dict(choice)
        return spec

    def choice_of(self, spec: Spec) -> dict[str, int]:
        """The choice that gave this detector, which has to be one that `spec` gave."""
        return self.given[_edits(spec)]

    def weights(self, spec: Spec, of: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part of the largest network's weights that a detector of the space has; gradients reach the whole."""
        choice = self.choice_of(spec)
        skipped = tuple(f"{name}." for name in self.blocks if not choice[BLOCK + name])
        left = {name: tensor for name, tensor in of.items() if not name.startswith(skipped)} if skipped else of
        narrower = without(Detector(self.largest, of), self.groups, self._kept(choice)).weights
        return {name: narrower[name] for name in left}

    def ordered(self, scores: Sequence[Tensor]) -> GroupSpace:
        """The same, with the units of each group by their importance."""
        return replace(self, order=tuple(own.sort(descending=True, stable=True).indices for own in scores), given={})

    def nearest(self, kept: Sequence[int], keep_blocks: bool) -> dict[str, int]:
        """The choice with at most these numbers of units in the groups, or the least that there may be; with all blocks or none."""
        widths = {
            name: max((own for own in options if own <= units), default=options[0])
            for (name, options), units in zip(self.widths.items(), kept, strict=True)
        }
        return widths | dict.fromkeys((BLOCK + name for name in self.blocks), int(keep_blocks))

    @cached_property
    def _shapes(self) -> Detector:
        """The largest detector without numbers in its weights."""
        weights = fresh(self.largest, 0).weights
        return Detector(self.largest, MappingProxyType({name: tensor.to("meta") for name, tensor in weights.items()}))

    def _kept(self, choice: Mapping[str, int]) -> list[Tensor]:
        return [own[: choice[name]].sort().values for name, own in zip(self.widths, self.order, strict=True)]


def group_space(spec: Spec, width_shares: Sequence[float], round_to: int) -> GroupSpace:
    """The space below a detector: of every group these shares of its units, in multiples, or all of them.

    InputError where nothing can be narrowed and no block left out.
    """
    family, groups = family_of(spec), narrowable(spec).narrow
    with UnsetWeights():
        blocks = () if family.skippable is None else family.skippable(family.build(spec))
    widths = {WIDTH + _name(group): width_options(group.units, width_shares, round_to) for group in groups}
    if all(len(options) == 1 for options in widths.values()) and not blocks:
        raise InputError(
            "nas: no layer of this network can be narrowed and no block left out, so there is nothing to search. "
            "`sixfold inspect` says why; name blocks in `skippable`, or leave the method out."
        )
    order = tuple(torch.arange(group.units) for group in groups)
    return GroupSpace(spec, groups, order, MappingProxyType(widths), blocks)


def _name(group: ChannelGroup) -> str:
    """A layer that stands for a group: the first that makes its channels."""
    return min(side.layer for side in group.sides if side.end == "outputs")


def _edits(spec: Spec) -> str:
    """A digest of a detector's edits, in which alone those of a space differ."""
    return hashlib.sha256(json.dumps([edit.model_dump() for edit in spec.edits]).encode()).hexdigest()
