"""How much each unit of a channel group matters: six measures, from chance to gradients on training pictures.

Comparable within a group by nature, between groups by what the measure says: l2, bn_scale and fpgm are divided by their mean over
the group, as torch-pruning does, lamp by what is left in it, and taylor needs no division, for it is an error in the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from compressors.channels.groups import ChannelGroup
from compressors.contract import Workbench
from detection.data.augmentation import batches

TINY = torch.finfo(torch.float32).tiny
"""In place of a sum of weights that are all zero."""
EXACT = "donot_use_mm_for_euclid_dist"
"""Of torch.cdist: its fast way by matrix products loses the small distances, which are the ones asked for."""
Importance = Literal["random", "l2", "bn_scale", "lamp", "taylor", "fpgm"]
"""What decides which channels go first.

`random`: chance, a reference; `l2`: squared weights (arXiv:2301.12900); `bn_scale`: scales of the normalisations
(arXiv:1708.06519); `lamp`: squared weights over what is left (arXiv:2010.07611); `taylor`: change of the loss on training
pictures (arXiv:1906.10771); `fpgm`: distance to the layer's other filters (arXiv:1811.00250).
"""
CHANCE: Importance = "random"
"""What knows nothing, and is the reference for all that know something."""
BY_GRADIENTS: frozenset[Importance] = frozenset({"taylor"})
"""Measures that look at training pictures."""


def unit_importance(
    importance: Importance, groups: Sequence[ChannelGroup], network: nn.Module, workbench: Workbench, gradient_pictures: int
) -> tuple[Tensor, ...]:
    """For each group the importance of its units, (units,); infinite where a measure does not apply."""
    if importance == CHANCE:
        generator = torch.Generator().manual_seed(workbench.seed)
        return tuple(torch.rand(group.units, generator=generator) for group in groups)
    if importance in BY_GRADIENTS:
        return taylor(groups, network, workbench, gradient_pictures)
    return tuple(BY_WEIGHTS[importance](group, network) for group in groups)


@torch.no_grad()
def l2(group: ChannelGroup, network: nn.Module) -> Tensor:
    """Squared weights of all that goes with a unit (DepGraph, arXiv:2301.12900, section 3.3), relative to the group's mean."""
    return _relative(_squared_weights(group, network))


@torch.no_grad()
def lamp(group: ChannelGroup, network: nn.Module) -> Tensor:
    """Squared weights over those of the units that are at least as large (LAMP, arXiv:2010.07611, section 2)."""
    squares, order = _squared_weights(group, network).sort(stable=True)
    left = squares.flip(0).cumsum(0).flip(0)  # what would be left if all smaller ones had gone
    scores = torch.empty_like(squares)
    scores[order] = squares / left.clamp(min=TINY)
    return scores


@torch.no_grad()
def bn_scale(group: ChannelGroup, network: nn.Module) -> Tensor:
    """Absolute scales of a unit's normalisations (Network Slimming, arXiv:1708.06519, section 3), relative to the group's mean."""
    norms = group.outputs("norm")
    if not norms:  # the inner channels of a factored convolution
        return torch.full((group.units,), torch.inf)
    scores = torch.zeros(group.units)
    for name, members in norms.items():
        scores.index_add_(0, members.units, _weight(network, name).abs()[members.channels])
    return _relative(scores)


@torch.no_grad()
def fpgm(group: ChannelGroup, network: nn.Module) -> Tensor:
    """Distances of a unit's filters to the layer's others: small means replaceable (FPGM, arXiv:1811.00250, section 3.4).

    Relative to the group's mean. On the filters themselves, as in the paper; torch-pruning squares their weights first.
    """
    scores = torch.zeros(group.units)
    for side, members in group.sides.items():
        if side.end == "inputs" or side.kind == "norm":
            continue
        filters = _weight(network, side.layer).transpose(0, side.axis)[members.channels].flatten(1)
        scores.index_add_(0, members.units, torch.cdist(filters, filters, compute_mode=EXACT).sum(1))
    return _relative(scores)


def taylor(groups: Sequence[ChannelGroup], network: nn.Module, workbench: Workbench, pictures: int) -> tuple[Tensor, ...]:
    """What the loss would change without a unit, to first order, squared; mean over batches of training pictures.

    Molchanov et al. 2019 (arXiv:1906.10771), equation 8, for a gate on what other layers read of the unit: the gate's gradient is
    the sum of weight times gradient over the weights that read it. Where one normalisation feeds the readers through ReLUs alone,
    as in dense blocks, that is the gate behind the normalisation of its section 4.1 (Taylor-FO-BN). Where a depthwise convolution
    stands between, it hands the unit on, and its own gate would count the same loss once more.
    """
    rng = np.random.default_rng(workbench.seed)
    rows = rng.permutation(len(workbench.train))[:pictures]
    scores = tuple(torch.zeros(group.units) for group in groups)
    learn = workbench.teacher.family.learn
    network.to(workbench.device).eval()  # the statistics the network will be folded with, and which must not move here
    for drawn in batches(workbench.train, rows, workbench.recipe.batch_size, None, rng):
        batch = drawn.on(workbench.device)
        network.zero_grad()
        _, loss = learn(network, batch, half=False)
        loss.backward()  # type: ignore[no-untyped-call]
        for group, score in zip(groups, scores, strict=True):
            score.add_(_read_gradients(group, network).square(), alpha=len(batch.images) / len(rows))
    network.zero_grad()
    network.to("cpu")
    return scores


@torch.no_grad()
def _read_gradients(group: ChannelGroup, network: nn.Module) -> Tensor:
    """Gradient of the loss for closing each unit of the group to all layers that read it; they close together."""
    gradients = torch.zeros(group.units)
    for side, members in group.readers().items():
        kernel = _weight(network, side.layer)
        others = [axis for axis in range(kernel.ndim) if axis != side.axis]
        of_channels = (kernel * cast(Tensor, kernel.grad)).sum(others).cpu()
        gradients.index_add_(0, members.units, of_channels[members.channels])
    return gradients


def _squared_weights(group: ChannelGroup, network: nn.Module) -> Tensor:
    """Per unit, over all sides of the group: rows of outputs, columns of inputs, scales of normalisations."""
    scores = torch.zeros(group.units)
    for side, members in group.sides.items():
        weight = _weight(network, side.layer).square()
        if side.kind != "norm":
            weight = weight.transpose(0, side.axis).flatten(1).sum(1)
        scores.index_add_(0, members.units, weight[members.channels])
    return scores


def _weight(network: nn.Module, name: str) -> Tensor:
    return cast(Tensor, network.get_submodule(name).weight)


def _relative(scores: Tensor) -> Tensor:
    return scores / scores.mean().clamp(min=TINY)


BY_WEIGHTS: dict[Importance, Callable[[ChannelGroup, nn.Module], Tensor]] = {
    "l2": l2,
    "lamp": lamp,
    "bn_scale": bn_scale,
    "fpgm": fpgm,
}
