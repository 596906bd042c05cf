"""Channel groups found along the dependency graph (DepGraph, arXiv:2301.12900, section 3), as torch-pruning follows it."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressors.channels.groups import ChannelGroup, Groups, Members, Side
from detection.edits import is_frozen_norm, kind_of, why_whole
from detection.family import family_of
from detection.spec import Spec


def channel_groups(network: nn.Module, spec: Spec) -> Groups:
    """All groups of a detector's network; the outputs of the last prediction layers have a meaning and are in none."""
    family, graph = family_of(spec), _Graph()
    names = {module: name for name, module in network.named_modules()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parameters outside layers, which `whole` lists
            graph.build_dependency(
                network,
                torch.zeros(1, 3, *spec.input_size),
                output_transform=family.scalar,
                customized_pruners={type(module): _FrozenNorm() for module in network.modules() if is_frozen_norm(module)},
                verbose=False,
            )
    except Exception as error:  # of code that was not written for this network
        layers = (name for module, name in names.items() if kind_of(module) not in (None, "norm"))
        return Groups((), MappingProxyType(dict.fromkeys(layers, _cannot_follow(error))))
    parameters = {parameter: name for name, parameter in network.named_parameters()}
    protected = [network.get_submodule(name) for name in family.protected(network)]
    narrow: list[ChannelGroup] = []
    whole: dict[str, str] = {}
    for root in graph.get_all_groups(ignored_layers=protected):
        if not len(root):  # it could not be followed
            continue
        group = _group(graph, root, names, parameters)
        if isinstance(group, ChannelGroup):
            narrow.append(group)
        else:
            whole |= group
    whole |= {names[module]: reason for module, reason in graph.untraced.items()}
    return Groups(tuple(narrow), MappingProxyType(whole))


class _Graph(tp.DependencyGraph):  # type: ignore[misc]
    """Where torch-pruning fails to follow some channels, as through a split map read several times, it goes on with others."""

    def __init__(self) -> None:
        super().__init__()
        self.untraced: dict[nn.Module, str] = {}
        """Layers whose channels could not be followed, and why."""

    def get_pruning_group(self, module: nn.Module, pruning_fn: Any, idxs: Any) -> Any:
        """What goes with these channels; nothing where that is not found."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of long ways through the network
                return super().get_pruning_group(module, pruning_fn, idxs)
        except Exception as error:  # of code that was not written for this network
            self.untraced[module] = _cannot_follow(error)
            return ()


def _cannot_follow(error: Exception) -> str:
    return f"torch-pruning cannot follow its channels ({type(error).__name__}: {error})"


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


def _group(
    graph: _Graph, root: Any, names: dict[nn.Module, str], parameters: dict[nn.Parameter, str]
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
            if max(rows, default=0) >= cast(Tensor, module.weight).shape[side.axis]:
                reason = reason or f"{side.layer}: torch-pruning counts more channels than it has"
                continue
            found[side].update(dict.fromkeys(rows, units))
            if side.layer == own and side.end == "outputs":
                seen.update(rows)
        units += 1
    reason = reason or graph.untraced.get(dependency.target.module, "")
    if reason:
        return dict.fromkeys(sorted({own, *whole, *(side.layer for side in found if side.end == "outputs")}), reason)
    sides = {side: Members(torch.tensor(list(rows)), torch.tensor(list(rows.values()))) for side, rows in found.items()}
    return ChannelGroup(units, MappingProxyType(sides))
