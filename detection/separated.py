"""Dense convolutions of any network as depthwise pairs: which of them gain, and weights for the pairs, fitted to the dense ones.

Layer by layer, in the order in which the network computes them, each pair is fitted to what the dense convolution makes of training
pictures, from what reaches the pair in the light network so far: a later pair mends what earlier ones lost, as in channel pruning
(arXiv:1707.06168, section 3.2).
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from detection.edits import why_not_separated
from detection.family import LightWeights
from detection.separable_fit import (
    RIDGE,
    Moments,
    Sums,
    as_computed,
    decoupled,
    mean_square,
    on_the_diagonal,
    patches_of,
    products_for,
    seen,
    set_weights,
)

PICTURE_CHANNELS = 3
MOST_PLACES = 1024
"""Of one picture's maps that a fit looks at, spread evenly over them: large maps have many times more than there are weights. On 48
pictures 200 of 768 places cost 0.002 of val mAP before any training, where kernels have up to 1,152 weights an output."""
ROUNDING = 1e-10
"""Share of the mean square added to normal equations in float64 that anchors have made solvable but for channels nobody reads."""


def separable_layers(network: nn.Module, protected: Collection[str]) -> tuple[str, ...]:
    """Names of the dense convolutions that need fewer weights as a depthwise one and a 1x1.

    Protected layers are not among them, nor those that read the picture: its three channels leave nothing to gain.
    """
    return tuple(
        name
        for name, layer in network.named_modules()
        if name not in protected and why_not_separated(layer) is None and _gains(cast(nn.Conv2d, layer))
    )


def _gains(layer: nn.Conv2d) -> bool:
    places, inputs, outputs = math.prod(layer.kernel_size), layer.in_channels, layer.out_channels
    return inputs > PICTURE_CHANNELS and places * inputs + inputs * outputs < places * inputs * outputs


def separated_weights(dense: nn.Module, light: nn.Module, layers: Sequence[str], batches: Sequence[Tensor]) -> LightWeights:
    """Weights for the pairs that stand in the light network for these dense layers, fitted on images; both networks stay.

    Images are (B, 3, height, width), where the networks are; the light network has the dense one's weights where both are alike.
    A layer that runs several times, as heads shared by levels do, is fitted to all its calls. One that no prediction reaches
    becomes the nearest pair to its kernel. Where the maps of both networks do not correspond, as when they are cut out where each
    predicted boxes, a pair is fitted to what reaches the dense layer.
    """
    light = copy.deepcopy(light)
    convs = {name: cast(nn.Conv2d, dense.get_submodule(name)) for name in layers}
    pairs = {name: cast(nn.Sequential, light.get_submodule(name)) for name in layers}
    for name, conv in convs.items():
        _give(pairs[name], *decoupled(conv.weight), conv.bias)
    calls = Counter(as_computed(dense, convs, batches[0]))
    for name, count in calls.items():  # in the order of the first call
        sums = Sums()
        for images in batches:
            made, reaching = seen(dense, images, convs[name], count), seen(light, images, pairs[name], count)
            for (x, _), (_, maps) in zip(reaching if _correspond(reaching, made, len(images)) else made, made, strict=True):
                _look(sums, convs[name], x, maps)
        _give(pairs[name], *_fitted(sums, convs[name]))
    fitted = {id(pair) for pair in pairs.values()}
    names = [name for name, module in light.named_modules(remove_duplicate=False) if id(module) in fitted]
    return LightWeights(
        {f"{name}.{part}": own for name in names for part, own in light.get_submodule(name).state_dict().items()}, list(calls)
    )


def _correspond(reaching: list[tuple[Tensor, Tensor]], made: list[tuple[Tensor, Tensor]], pictures: int) -> bool:
    """Whether calls in both networks are about the same places: one map a picture, and equal shapes."""
    shapes = [x.shape for x, _ in made]
    return [x.shape for x, _ in reaching] == shapes and all(shape[0] == pictures for shape in shapes)


def _look(sums: Sums, conv: nn.Conv2d, x: Tensor, maps: Tensor) -> None:
    """Add up what a fit needs of one call, picture by picture: patches take nine times the memory of maps."""
    for own, goal in zip(x.reshape(-1, *x.shape[-3:]), maps.reshape(-1, *maps.shape[-3:]), strict=True):
        patches, goals = patches_of(conv, own), goal.flatten(1)
        if (count := goals.shape[1]) > MOST_PLACES:
            chosen = torch.linspace(0, count - 1, MOST_PLACES, device=goals.device, dtype=torch.float64).long()
            patches, goals = patches[:, chosen], goals[:, chosen]
        sums.add(patches, goals)


def _fitted(sums: Sums, conv: nn.Conv2d) -> tuple[Tensor, Tensor, Tensor | None]:
    """Spatial kernels, 1x1 weights and, where the dense layer has one, the bias."""
    moments = _anchored(sums.moments(centred=conv.bias is not None), conv.weight)
    spatial, mixing = products_for(moments, decoupled(conv.weight)[0], ROUNDING)
    bias = None if conv.bias is None else moments.goal_mean - mixing @ on_the_diagonal(spatial) @ moments.mean
    return spatial, mixing, bias


def _anchored(moments: Moments, kernel: Tensor) -> Moments:
    """With a little white noise among what the layer sees, of which it makes what its own kernel makes: where pictures say nothing,
    the pair comes nearest to the kernel."""
    noise = RIDGE * mean_square(moments.covariance)
    own = torch.eye(len(moments.covariance), dtype=moments.covariance.dtype, device=moments.covariance.device)
    return moments._replace(
        covariance=moments.covariance + noise * own,
        with_goal=moments.with_goal + noise * kernel.detach().double().flatten(1).T,
    )


def _give(pair: nn.Sequential, spatial: Tensor, mixing: Tensor, bias: Tensor | None) -> None:
    depthwise, pointwise = cast(nn.Conv2d, pair[0]), cast(nn.Conv2d, pair[1])
    set_weights(depthwise, spatial)
    set_weights(pointwise, mixing)
    if bias is not None and pointwise.bias is not None:
        with torch.no_grad():
            pointwise.bias.copy_(bias)
