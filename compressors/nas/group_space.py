"""The networks below any trained detector: how many units of each channel group stay, which blocks are left out, and what numbers
of the family's settings are smaller.

A narrower network has the most important units of a group, whatever their number, so all networks of the space share weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType

import torch
from torch import Tensor

from compressors.channels.groups import ChannelGroup, kept_spec, without
from compressors.channels.narrowable import narrowable
from detection.checkpoint import Detector, fresh
from detection.family import Reduction, UnsetWeights, family_of
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
    reductions: Mapping[str, Reduction] = field(default_factory=dict)
    """Decision -> a number of the settings."""
    given: dict[str, dict[str, int]] = field(default_factory=dict)
    """Digest of a spec -> the choice that it was made for: which channels stay is not in it, but how many."""

    def options(self) -> dict[str, tuple[int, ...]]:
        """Name of each decision -> its options, ascending."""
        blocks = dict.fromkeys((BLOCK + name for name in self.blocks), (0, 1))
        return {**self.widths, **blocks, **{name: own.options for name, own in self.reductions.items()}}

    def spec(self, choice: Mapping[str, int]) -> Spec:
        """The detector of one choice: blocks are left out of the narrower network, and what a smaller number leaves out."""
        spec = kept_spec(self._shapes, self.groups, self._kept(choice))
        if skipped := tuple(name for name in self.blocks if not choice[BLOCK + name]):
            spec = spec.edited(Skipped(blocks=skipped))
        spec = self.reduced(spec, choice)
        self.given[_digest(spec)] = dict(choice)
        return spec

    def reduced(self, spec: Spec, choice: Mapping[str, int]) -> Spec:
        """A spec, widths as they are, with the smaller numbers of a choice."""
        for name, own in self.reductions.items():
            number = choice[name]
            if number != own.options[-1]:
                spec = own.having(spec.only(partial(_has, own, number)), number)
        return spec

    def choice_of(self, spec: Spec) -> dict[str, int]:
        """The choice that gave this detector, which has to be the largest or one that `spec` gave."""
        if spec == self.largest:
            return {name: options[-1] for name, options in self.options().items()}
        return self.given[_digest(spec)]

    def numbers_of(self, spec: Spec) -> dict[str, int]:
        """The numbers of settings in the choice that gave this detector."""
        choice = self.choice_of(spec)
        return {name: choice[name] for name in self.reductions}

    def weights(self, spec: Spec, of: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part of the largest network's weights that a detector of the space has; gradients reach the whole."""
        choice = self.choice_of(spec)
        skipped = tuple(f"{name}." for name in self.blocks if not choice[BLOCK + name])
        left = {name: tensor for name, tensor in of.items() if not name.startswith(skipped)} if skipped else of
        narrower = without(Detector(self.largest, of), self.groups, self._kept(choice)).weights
        return {name: narrower[name] for name in left if all(own.has(name, choice[what]) for what, own in self.reductions.items())}

    def ordered(self, scores: Sequence[Tensor]) -> GroupSpace:
        """The same, with the units of each group by their importance."""
        return replace(self, order=tuple(own.sort(descending=True, stable=True).indices for own in scores), given={})

    def nearest(self, kept: Sequence[int], keep_blocks: bool) -> dict[str, int]:
        """The choice with at most these numbers of units in the groups, or the least that there may be; with all blocks or
        none, and no other number smaller."""
        widths = {
            name: max((own for own in options if own <= units), default=options[0])
            for (name, options), units in zip(self.widths.items(), kept, strict=True)
        }
        blocks = dict.fromkeys((BLOCK + name for name in self.blocks), int(keep_blocks))
        return widths | blocks | {name: own.options[-1] for name, own in self.reductions.items()}

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
    reductions = {} if family.reducible is None else dict(family.reducible(spec, tuple(width_shares)))
    if all(len(options) == 1 for options in (*widths.values(), *(own.options for own in reductions.values()))) and not blocks:
        raise InputError(
            "nas: no layer of this network can be narrowed and no block left out, so there is nothing to search. "
            "`sixfold inspect` says why; name blocks in `skippable`, or leave the method out."
        )
    order = tuple(torch.arange(group.units) for group in groups)
    return GroupSpace(spec, groups, order, MappingProxyType(widths), blocks, reductions)


def _name(group: ChannelGroup) -> str:
    """A layer that stands for a group: the first that makes its channels."""
    return min(side.layer for side in group.sides if side.end == "outputs")


def _has(reduction: Reduction, number: int, weight: str) -> bool:
    return reduction.has(weight, number)


def _digest(spec: Spec) -> str:
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
