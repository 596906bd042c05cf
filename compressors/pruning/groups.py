"""Which channels of which layers have to go together, found along the dependency graph (DepGraph, arXiv:2301.12900, section 3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
import torch_pruning as tp
from torch import Tensor, nn

from detection.checkpoint import Detector
from detection.edits import NORM_PARTS, End, LayerKind, axis_of, is_frozen_norm, kind_of, why_whole
from detection.family import family_of
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


def channel_groups(network: nn.Module, spec: Spec) -> Groups:
    """All groups of a detector's network; the outputs of the last prediction layers have a meaning and are in none."""
    family = family_of(spec)
    graph = tp.DependencyGraph().build_dependency(
        network,
        torch.zeros(1, 3, *spec.input_size),
        output_transform=family.scalar,
        customized_pruners={type(module): _FrozenNorm() for module in network.modules() if is_frozen_norm(module)},
        verbose=False,  # it warns of parameters outside layers, which `whole` lists
    )
    names = {module: name for name, module in network.named_modules()}
    parameters = {parameter: name for name, parameter in network.named_parameters()}
    protected = [network.get_submodule(name) for name in family.protected(network)]
    narrow: list[ChannelGroup] = []
    whole: dict[str, str] = {}
    for root in graph.get_all_groups(ignored_layers=protected):
        group = _group(graph, root, names, parameters)
        if isinstance(group, ChannelGroup):
            narrow.append(group)
        else:
            whole |= group
    return Groups(tuple(narrow), MappingProxyType(whole))


class _FrozenNorm(tp.function.BasePruningFunc):  # type: ignore[misc]
    """Tells torch-pruning, which knows no such layers, how wide a normalisation of buffers is; it prunes nothing here."""

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        """Never called."""
        raise AssertionError("the graph is read, and nothing of it pruned")

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        """As many numbers as there are."""
        return len(cast(Tensor, layer.weight))

    get_in_channels = get_out_channels


def without(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> Detector:
    """The detector with only the kept units of each group, weights inherited. kept: numbers of units, ascending, group by group."""
    spec = kept_spec(detector, groups, kept)
    if spec is detector.spec:
        return detector
    weights = dict(detector.weights)
    for side, rows in kept_of_sides(detector, groups, kept).items():
        for part in NORM_PARTS if side.end == "outputs" else NORM_PARTS[:1]:
            if (name := f"{side.layer}.{part}") in weights:
                weights[name] = weights[name].index_select(side.axis if part == "weight" else 0, rows)
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


def _group(
    graph: Any, root: Any, names: dict[nn.Module, str], parameters: dict[nn.Parameter, str]
) -> ChannelGroup | dict[str, str]:
    """Unit by unit: what goes with one channel of the root, and so on with the next that has not gone yet. Where a layer of it
    cannot be narrowed, the layers that stay whole for that, and why.

    Torch-pruning's own group of all channels keeps, of a channel that is reached twice, only the first way to it.
    """
    (dependency, channels), *_ = root
    own = names[dependency.target.module]
    found: dict[Side, dict[int, int]] = defaultdict(dict)
    units, seen, whole, reason = 0, set[int](), set[str](), ""
    for channel in channels:
        if channel in seen:
            continue
        for reached, rows in graph.get_pruning_group(dependency.target.module, dependency.handler, [channel]):
            module = reached.target.module
            if isinstance(module, nn.Parameter):
                reason = reason or f"{parameters[module]}: a parameter outside a layer cannot be narrowed"
                continue
            if module not in names:
                continue  # additions, concatenations and such: nothing of them is narrowed
            kind = kind_of(module)
            if kind is None:
                reason = reason or f"{names[module]}: {why_whole(module)}"
                whole |= {names[module]} if graph.is_out_channel_pruning_fn(reached.handler) else set()
                continue
            outputs = kind in ("norm", "depthwise") or graph.is_out_channel_pruning_fn(reached.handler)
            side = Side(names[module], kind, "outputs" if outputs else "inputs")
            found[side].update(dict.fromkeys(rows, units))
            if side.layer == own and side.end == "outputs":
                seen.update(rows)
        units += 1
    if reason:
        return dict.fromkeys(sorted({own, *whole, *(side.layer for side in found if side.end == "outputs")}), reason)
    sides = {side: Members(torch.tensor(list(rows)), torch.tensor(list(rows.values()))) for side, rows in found.items()}
    return ChannelGroup(units, MappingProxyType(sides))
