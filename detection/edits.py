"""Edits of any torch network: narrower layers, layers as rows of thinner or lighter ones, blocks left out. All of it is data.

Weights are loaded afterwards, so a layer is replaced by a new one of the right shape. What of a weight belongs to a layer's inputs
and outputs is said here once, for all that slice weights.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from detection.frozen import InputError
from detection.spec import Edit, Factored, KeptChannels, Ranks, Separated, Skipped, refuse_above_full

LayerKind = Literal["conv", "depthwise", "transposed", "linear", "norm"]
End = Literal["inputs", "outputs"]
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
"""Of a normalisation, one number a channel each."""


def kind_of(module: nn.Module) -> LayerKind | None:
    """What a layer is to whoever narrows it; None where it cannot be narrowed, which `why_whole` explains."""
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d() if module.groups > 1:
            return "depthwise" if module.groups == module.in_channels == module.out_channels else None
        case nn.Conv2d():
            return "conv"
        case nn.ConvTranspose2d():
            return "transposed"
        case nn.Linear():
            return "linear"
        case nn.BatchNorm2d() | nn.GroupNorm(num_groups=1) | nn.LayerNorm() if _has_a_number_a_channel(module):
            return "norm"
        case _:
            return "norm" if is_frozen_norm(module) else None


def why_whole(module: nn.Module) -> str:
    """Why a layer cannot be narrowed, for whoever reads the record."""
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            return f"a convolution in {module.groups} groups would have to lose the same channels in each"
        case nn.GroupNorm() if module.num_groups > 1:
            return f"a normalisation in {module.num_groups} groups would normalise other channels together"
        case _:
            return f"{type(module).__name__} layers cannot be narrowed"


def is_frozen_norm(module: nn.Module) -> bool:
    """Whether it is a batch normalisation whose numbers are buffers, as torchvision's and transformers' are."""
    return type(module).__name__.endswith("FrozenBatchNorm2d")


def _has_a_number_a_channel(norm: nn.Module) -> bool:
    weight = cast(Tensor | None, norm.weight)
    return weight is not None and weight.ndim == 1


def axis_of(kind: LayerKind, end: End) -> int:
    """The dimension of a layer's weight that belongs to its inputs or its outputs."""
    if kind in ("norm", "depthwise"):
        return 0
    first: End = "inputs" if kind == "transposed" else "outputs"
    return 0 if end == first else 1


def why_not_separated(layer: nn.Module | None) -> str | None:
    """Why a layer cannot become a depthwise convolution and a 1x1, as what it is; None where it can.

    Classes derived from Conv2d compute something else with their weights (standardised kernels, padding of their own).
    """
    if layer is None:
        return "the network has no such layer"
    if type(layer) is not nn.Conv2d or not isinstance(layer.weight, nn.Parameter):
        return f"{type(layer).__name__} is no plain convolution of torch's"
    if layer.groups > 1:
        return f"a convolution in {layer.groups} groups is not dense"
    return "a 1x1 convolution has no spatial kernel" if math.prod(layer.kernel_size) == 1 else None


def apply_edit(network: nn.Module, edit: Edit) -> None:
    """Change the freshly built network in place, layer by layer; weights are loaded afterwards."""
    match edit:
        case KeptChannels():
            for name, width in edit.layers.items():
                _replace(network, name, _resized(network.get_submodule(name), width.inputs, width.outputs))
        case Factored():
            for name, ranks in edit.layers.items():
                layer = network.get_submodule(name)
                refuse_above_full(name, ranks, cast(Any, layer).weight.shape)
                _replace(network, name, factored(layer, ranks))
        case Separated():
            layers = dict(network.named_modules(remove_duplicate=False))
            for name in edit.layers:
                if reason := why_not_separated(layers.get(name)):
                    raise InputError(
                        f"edits.layers: {name}: {reason}; only dense convolutions wider than 1x1 become depthwise pairs. "
                        f"Leave it out."
                    )
                _replace(network, name, separated(cast(nn.Conv2d, layers[name])))
        case Skipped():
            for name in edit.blocks:
                _replace(network, name, nn.Identity())


def factored(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    """Thinner layers, freshly initialised, in place of a dense one: 1x1, kxk, 1x1 by Tucker-2, kx1, 1xk by SVD, and of a fully
    connected one two."""
    assert isinstance(layer, nn.Conv2d | nn.Linear), f"{type(layer).__name__}: only convolutions and linear layers are factored"
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        last_half = nn.Linear(ranks.outputs, layer.out_features, bias=has_bias)
        return nn.Sequential(nn.Linear(layer.in_features, ranks.outputs, bias=False), last_half)
    kernel, stride, padding = (cast(tuple[int, int], pair) for pair in (layer.kernel_size, layer.stride, layer.padding))
    if ranks.inputs is None:
        first = nn.Conv2d(layer.in_channels, ranks.outputs, (kernel[0], 1), (stride[0], 1), (padding[0], 0), bias=False)
        second = nn.Conv2d(ranks.outputs, layer.out_channels, (1, kernel[1]), (1, stride[1]), (0, padding[1]), bias=has_bias)
        return nn.Sequential(first, second)
    core = nn.Conv2d(ranks.inputs, ranks.outputs, kernel, stride, padding, bias=False)
    last = nn.Conv2d(ranks.outputs, layer.out_channels, 1, bias=has_bias)
    return nn.Sequential(nn.Conv2d(layer.in_channels, ranks.inputs, 1, bias=False), core, last)


def separated(layer: nn.Conv2d) -> nn.Sequential:
    """A depthwise convolution and a 1x1 in place of a dense one, freshly initialised: as random as its weights are, with its bias.

    The outputs of the pair have the variance of the layer's, which torch's own initialisation of two layers would shrink.
    """
    inputs, outputs, has_bias = layer.in_channels, layer.out_channels, layer.bias is not None
    depthwise = nn.Conv2d(
        inputs, inputs, cast(Any, layer.kernel_size), cast(Any, layer.stride), cast(Any, layer.padding), cast(Any, layer.dilation),
        groups=inputs, bias=False, padding_mode=cast(Any, layer.padding_mode), device=layer.weight.device, dtype=layer.weight.dtype,
    )  # fmt: skip
    pointwise = nn.Conv2d(inputs, outputs, 1, bias=has_bias, device=layer.weight.device, dtype=layer.weight.dtype)
    places = math.prod(layer.kernel_size)
    with torch.no_grad():
        nn.init.normal_(depthwise.weight, std=places**-0.5)
        nn.init.normal_(pointwise.weight).mul_(layer.weight.std() * places**0.5)
        if layer.bias is not None and pointwise.bias is not None:
            pointwise.bias.copy_(layer.bias)
    return nn.Sequential(depthwise, pointwise)


def _resized(layer: nn.Module, inputs: int, outputs: int) -> nn.Module:
    """The layer with other widths and all else as it is, whatever class it is; its numbers are as new, to be loaded."""
    kind = kind_of(layer)
    assert kind is not None, f"{type(layer).__name__} layers cannot be narrowed, so no edit names one"
    resized = copy.deepcopy(layer)
    widths: dict[str, Any] = {
        "in_channels": inputs, "out_channels": outputs, "in_features": inputs, "out_features": outputs,
        "num_features": outputs, "num_channels": outputs, "normalized_shape": (outputs,),
    }  # fmt: skip
    if kind == "depthwise":
        widths["groups"] = outputs
    for name in widths.keys() & vars(layer).keys():
        setattr(resized, name, widths[name])
    for name, numbers in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if numbers.ndim == 0:  # a counter
            continue
        shape = list(numbers.shape)
        if name == "weight":
            shape[axis_of(kind, "inputs")], shape[axis_of(kind, "outputs")] = inputs, outputs
        else:
            shape[0] = outputs
        empty = numbers.new_zeros(shape)
        setattr(resized, name, nn.Parameter(empty, numbers.requires_grad) if isinstance(numbers, nn.Parameter) else empty)
    if callable(reset := getattr(resized, "reset_parameters", None)):
        reset()
    return resized


def _replace(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Wherever it stands: a layer that several parts of a network share is one object with several names."""
    before = root.get_submodule(name)
    for parent in list(root.modules()):
        for child in [own for own, module in parent._modules.items() if module is before]:
            setattr(parent, child, layer)
