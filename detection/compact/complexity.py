"""What a network costs, counted on its graph: parameters, multiply-adds, and the operators a latency model wants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detection.compact.blueprint import Blueprint
from detection.compact.deployed import PATCH_PX, first_convolution, reads_rows
from detection.compact.network import GhostUnit, Head, Network, ResidualBlock

DECODING = "decode"
"""What the names of the operators after the last convolutions begin with."""
OperatorKind = Literal["conv3x3s1", "conv1x1", "conv_other", "depthwise", "other"]


@dataclass(frozen=True)
class OperatorCost:
    """One operator as a runtime would execute it; convolutions carry their folded normalisation and ReLU."""

    name: str
    """Of the layer, or of where it happens and what: `neck.top_down.0:add`."""
    kind: OperatorKind
    macs: int
    input_elements: int
    output_elements: int
    weight_elements: int
    input_channels: int
    output_channels: int
    predicts: bool = False
    """Whether it is one of the last predictions or comes after them: what stays float."""


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
    folded, protected, first = (
        _convolutions_before_normalisation(network),
        set(network.protected_layers()),
        first_convolution(network),
    )

    def record(name: str, module: nn.Module, inputs: Tensor, output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            own = _convolution(name, module, inputs, output, name in folded)
            if module is first and reads_rows(first):
                own = replace(own, input_channels=own.input_channels * PATCH_PX)
            costs.extend(() if name in protected else (own,))
        elif isinstance(module, Head):
            costs.extend(_predictions(name, module, output))
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


def _predictions(name: str, head: Head, output: tuple[Tensor, Tensor]) -> list[OperatorCost]:
    """The products that predict scores and boxes of one level, one where both read the same maps, and the turning before each."""
    points = output[0].shape[2]
    products = (
        {"score": (head.score,), "box": (head.box,)} if head.box_branch is not None else {"score+box": (head.score, head.box)}
    )
    costs = []
    for own, convolutions in products.items():
        inputs, outputs = convolutions[0].in_channels, sum(conv.out_channels for conv in convolutions)
        costs += [
            OperatorCost(f"{name}.{own}:transpose", "other", 0, inputs * points, inputs * points, 0, inputs, inputs),
            OperatorCost(
                name=f"{name}.{own}:matmul",
                kind="conv1x1",
                macs=inputs * outputs * points,
                input_elements=inputs * points,
                output_elements=outputs * points,
                weight_elements=(inputs + 1) * outputs,
                input_channels=inputs,
                output_channels=outputs,
                predicts=True,
            ),
        ]
    return costs


def _decoding(blueprint: Blueprint) -> tuple[OperatorCost, ...]:
    """From the levels' predictions to boxes and scores: N points, C classes, K bins for each of the four sides of a box."""
    height, width = blueprint.input_size
    levels = [(height // stride_px) * (width // stride_px) for stride_px in blueprint.architecture.levels]
    points, bins, classes = sum(levels), blueprint.architecture.box_bins, len(blueprint.classes)
    logits, scores, sides = points * 4 * bins, points * classes, points * 4
    if blueprint.architecture.head_branches == "shared":
        joined = [("concat", scores + logits, scores + logits), ("split", scores + logits, scores + logits)]
    else:
        joined = [("concat", size, size) for size in (scores, logits)]
    elements = [  # operator, elements that it reads, elements that it writes
        *joined,
        ("clip", logits, logits),
        ("exp", logits, logits),
        ("matmul", logits, 2 * sides),
        ("split", 2 * sides, 2 * sides),
        ("div", 2 * sides, sides),
        ("mul", sides, sides),
        ("add", sides, sides),
        ("sigmoid", scores, scores),
    ]
    product = OperatorCost(f"{DECODING}:matmul", "conv1x1", logits * 8, logits, 2 * sides, 0, 4 * bins, 8, predicts=True)
    return tuple(
        product if name == "matmul" else OperatorCost(f"{DECODING}:{name}", "other", 0, read, written, 0, 1, 1, predicts=True)
        for name, read, written in elements
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
