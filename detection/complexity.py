"""What a network costs, counted on its graph: parameters, multiply-adds, and the operators a latency model wants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from detection.blueprint import Blueprint
from detection.network import GhostUnit, Network, ResidualBlock

DECODING = "decode"
"""What the names of the operators after the last convolutions begin with."""
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
    """Multiply-adds of one picture in its convolutions; FLOPs are twice as many. Decoding adds less than a thousandth."""
    return sum(cost.macs for cost in operator_costs(blueprint) if not cost.name.startswith(DECODING))


def operator_costs(blueprint: Blueprint) -> tuple[OperatorCost, ...]:
    """Every operator for one picture, decoding included, as the exported file has them; nothing is computed (meta tensors)."""
    return _operator_costs(blueprint.model_dump_json(by_alias=True))


@lru_cache(maxsize=256)
def _operator_costs(blueprint_json: str) -> tuple[OperatorCost, ...]:
    """Counted once: building a network takes a tenth of a second, and the same one is asked for again and again."""
    blueprint = Blueprint.model_validate_json(blueprint_json)
    with torch.device("meta"):
        network = Network(blueprint).eval()
    costs: list[OperatorCost] = []
    folded = _convolutions_before_normalisation(network)

    def record(name: str, module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            costs.append(_convolution(name, module, inputs, output, name in folded))
        elif isinstance(module, ResidualBlock):
            costs.append(_moving(f"{name}:add", 2, output))
        elif isinstance(module, GhostUnit):
            costs.append(_moving(f"{name}:concat", 1, output))
        if name in fusions:  # what came before the unit: the sum of two levels, one of them resized on the way down
            costs.append(_moving(f"{name}:add", 2, inputs))
            if name.startswith("neck.top_down"):
                costs.append(_moving(f"{name}:resize", 0.25, inputs))

    fusions = {f"neck.{part}.{level}" for part in ("top_down", "bottom_up") for level in range(len(network.neck.top_down))}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda own, x, output, name=name: record(name, own, x[0], output))
    with torch.no_grad():
        network(torch.zeros(1, 3, *blueprint.input_size, device="meta"))
    return (*costs, *_decoding(blueprint))


def _decoding(blueprint: Blueprint) -> tuple[OperatorCost, ...]:
    """From the levels' predictions to boxes and scores: N points, C classes, K bins for each of the four sides of a box."""
    height, width = blueprint.input_size
    levels = [(height // stride_px) * (width // stride_px) for stride_px in blueprint.architecture.levels]
    points, bins, classes = sum(levels), blueprint.architecture.box_bins, len(blueprint.classes)
    logits, sides = points * 4 * bins, points * 4
    elements = [  # operator, multiply-adds, elements that it reads, elements that it writes
        *(("concat", 0, size, size) for size in (points * classes, logits)),
        ("clip", 0, logits, logits),
        ("exp", 0, logits, logits),
        *(("matmul", logits * 4, logits, sides) for _ in ("bins times weights", "weights")),
        ("div", 0, 2 * sides, sides),
        ("mul", 0, sides, sides),
        ("add", 0, sides, sides),
        ("transpose", 0, sides, sides),
        ("sigmoid", 0, points * classes, points * classes),
        ("transpose", 0, points * classes, points * classes),
    ]
    return tuple(
        OperatorCost(f"{DECODING}:{name}", "conv1x1" if macs else "other", macs, read, written, 0, 1, 1)
        for name, macs, read, written in elements
    )


def _moving(name: str, inputs_per_output: float, output: Tensor) -> OperatorCost:
    """An operator without arithmetic worth counting: it reads and writes."""
    size, channels = output[0].numel(), output.shape[1]
    return OperatorCost(name, "other", 0, round(inputs_per_output * size), size, 0, channels, channels)


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
