"""Which channels of which layers have to go together, found along the dependency graph (DepGraph, arXiv:2301.12900, section 3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
import torch_pruning as tp
from torch import Tensor, nn

from detection.checkpoint import Detector
from detection.compact.blueprint import KeptChannels, LayerWidth
from detection.compact.network import Network

LayerKind = Literal["conv", "depthwise", "norm"]


class Side(NamedTuple):
    """The inputs or the outputs of a layer; of a normalisation and a depthwise convolution, which have as many, the outputs."""

    layer: str
    kind: LayerKind
    end: Literal["inputs", "outputs"]


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

    def readers(self) -> dict[str, Members]:
        """Convolution -> the group's members among its inputs; depthwise ones hand a channel on and are in the group themselves."""
        return {side.layer: members for side, members in self.sides.items() if side.end == "inputs"}


def channel_groups(network: Network) -> tuple[ChannelGroup, ...]:
    """All groups of the network; the outputs of the last prediction convolutions have a meaning and are in none."""
    graph = tp.DependencyGraph().build_dependency(
        network,
        torch.zeros(1, 3, *network.blueprint.input_size),
        output_transform=lambda out: out.score_logits.sum() + out.box_logits.sum(),
    )
    names = {module: name for name, module in network.named_modules()}
    protected = [network.get_submodule(name) for name in network.protected_layers()]
    return tuple(_group(graph, root, names) for root in graph.get_all_groups(ignored_layers=protected))


def without(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> Detector:
    """The detector with only the kept units of each group, weights inherited. kept: numbers of units, ascending, group by group."""
    edit = kept_channels(detector, groups, kept)
    if not edit.layers:
        return detector
    weights = dict(detector.weights)
    for side, rows in kept_of_sides(detector, groups, kept).items():
        if side.end == "inputs":
            weights[f"{side.layer}.weight"] = weights[f"{side.layer}.weight"][:, rows]
            continue
        for part in ("weight", "bias", "running_mean", "running_var"):
            if (name := f"{side.layer}.{part}") in weights:
                weights[name] = weights[name][rows]
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    return Detector(detector.blueprint.edited(edit), MappingProxyType(contiguous))


def kept_channels(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> KeptChannels:
    """The edit that leaves only the kept units: the widths of every layer that becomes narrower."""
    before: dict[str, LayerWidth] = {}
    after: dict[str, LayerWidth] = {}
    for side, rows in kept_of_sides(detector, groups, kept).items():
        outputs, inputs, *_ = (*detector.weights[f"{side.layer}.weight"].shape, 1)  # a normalisation's weight has outputs alone
        whole = LayerWidth(inputs=inputs if side.kind == "conv" else outputs, outputs=outputs)
        ends = (side.end,) if side.kind == "conv" else ("inputs", "outputs")
        before[side.layer] = whole
        after[side.layer] = after.get(side.layer, whole).model_copy(update=dict.fromkeys(ends, len(rows)))
    return KeptChannels(layers={name: width for name, width in after.items() if width != before[name]})


def kept_of_sides(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> dict[Side, Tensor]:
    """For every side of every group the channels that stay, ascending."""
    stays: dict[Side, Tensor] = {}
    for group, units in zip(groups, kept, strict=True):
        unit_stays = torch.zeros(group.units, dtype=torch.bool)
        unit_stays[units] = True
        for side, members in group.sides.items():
            kernel = detector.weights[f"{side.layer}.weight"]
            whole = torch.ones(kernel.shape[1 if side.end == "inputs" else 0], dtype=torch.bool)
            stays.setdefault(side, whole)[members.channels] = unit_stays[members.units]
    return {side: rows.nonzero().flatten() for side, rows in stays.items()}


def _group(graph: Any, root: Any, names: dict[nn.Module, str]) -> ChannelGroup:
    """Unit by unit: what goes with one channel of the root, and so on with the next that has not gone yet.

    Torch-pruning's own group of all channels keeps, of a channel that is reached twice, only the first way to it.
    """
    (dependency, channels), *_ = root
    own = names[dependency.target.module]
    found: dict[Side, dict[int, int]] = defaultdict(dict)
    units, seen = 0, set[int]()
    for channel in channels:
        if channel in seen:
            continue
        for reached, rows in graph.get_pruning_group(dependency.target.module, dependency.handler, [channel]):
            module = reached.target.module
            if module not in names:
                continue  # additions, concatenations and such: nothing of them is narrowed
            side = _side(names[module], module, graph.is_out_channel_pruning_fn(reached.handler))
            found[side].update(dict.fromkeys(rows, units))
            if side.layer == own and side.end == "outputs":
                seen.update(rows)
        units += 1
    sides = {side: Members(torch.tensor(list(rows)), torch.tensor(list(rows.values()))) for side, rows in found.items()}
    return ChannelGroup(units, MappingProxyType(sides))


def _side(name: str, module: nn.Module, outputs: bool) -> Side:
    if isinstance(module, nn.BatchNorm2d):
        return Side(name, "norm", "outputs")
    assert isinstance(module, nn.Conv2d), f"{name}: only convolutions and normalisations are narrowed, not {type(module).__name__}"
    if module.groups > 1:
        return Side(name, "depthwise", "outputs")
    return Side(name, "conv", "outputs" if outputs else "inputs")
