"""What a network costs, counted on its graph: parameters, multiply-adds, and the operators a latency model wants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from detection.blueprint import Blueprint
from detection.network import Network

OperatorKind = Literal["conv3x3s1", "conv1x1", "conv_other", "depthwise", "other"]


@dataclass(frozen=True)
class OperatorCost:
    """One operator as a runtime would execute it; convolutions carry their folded normalisation and ReLU."""

    name: str
    kind: OperatorKind
    macs: int
    input_elements: int
    output_elements: int
    weight_elements: int
    input_channels: int
    output_channels: int


def count_params(blueprint: Blueprint) -> int:
    """Parameters of the deployed network: normalisations are folded into their convolutions, as every runtime does."""
    return sum(cost.weight_elements for cost in operator_costs(blueprint))


def count_macs(blueprint: Blueprint) -> int:
    """Multiply-adds of one picture; FLOPs are twice as many."""
    return sum(cost.macs for cost in operator_costs(blueprint))


def operator_costs(blueprint: Blueprint) -> tuple[OperatorCost, ...]:
    """Every convolution, and every addition and resize between them, for one picture; nothing is computed (meta tensors)."""
    with torch.device("meta"):
        network = Network(blueprint).eval()
    costs: list[OperatorCost] = []
    folded = _convolutions_before_normalisation(network)

    def record(name: str, conv: nn.Conv2d, inputs: Tensor, output: Tensor) -> None:
        costs.append(_convolution(name, conv, inputs, output, name in folded))

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda conv, x, output, name=name: record(name, cast(nn.Conv2d, conv), x[0], output))
    with torch.no_grad():
        network(torch.zeros(1, 3, *blueprint.input_size, device="meta"))
    return (*costs, *_elementwise(blueprint, costs))


def _convolution(name: str, conv: nn.Conv2d, inputs: Tensor, output: Tensor, folded: bool) -> OperatorCost:
    bias = conv.out_channels if folded or conv.bias is not None else 0
    return OperatorCost(
        name=name,
        kind=_kind(conv),
        macs=conv.weight.numel() * output.shape[2] * output.shape[3],
        input_elements=inputs[0].numel(),
        output_elements=output[0].numel(),
        weight_elements=conv.weight.numel() + bias,
        input_channels=conv.in_channels,
        output_channels=conv.out_channels,
    )


def _kind(conv: nn.Conv2d) -> OperatorKind:
    if conv.groups > 1:
        return "depthwise"
    if conv.kernel_size == (1, 1):
        return "conv1x1"
    return "conv3x3s1" if conv.kernel_size == (3, 3) and conv.stride == (1, 1) else "conv_other"


def _convolutions_before_normalisation(network: Network) -> set[str]:
    """Names of convolutions (or the last of a factored row) whose next sibling is a normalisation."""
    names: set[str] = set()
    for parent_name, parent in network.named_modules():
        children = list(parent.named_children())
        for (name, child), (_, following) in itertools.pairwise(children):
            if isinstance(following, nn.BatchNorm2d):
                last = "" if isinstance(child, nn.Conv2d) else f".{len(list(child.children())) - 1}"
                names.add(f"{parent_name}.{name}{last}" if parent_name else f"{name}{last}")
    return names


def _elementwise(blueprint: Blueprint, convolutions: list[OperatorCost]) -> list[OperatorCost]:
    """Additions, fused into their convolution or not, depending on the runtime; they are counted as moving memory."""
    by_name = {cost.name: cost for cost in convolutions}
    added: list[OperatorCost] = []
    for name, cost in by_name.items():
        if ".expand." in name or name.startswith(("neck.top_down", "neck.bottom_up")):
            size = cost.output_elements if ".expand." in name else cost.input_elements
            added.append(OperatorCost(f"{name}:add", "other", 0, 2 * size, size, 0, cost.output_channels, cost.output_channels))
    return added
