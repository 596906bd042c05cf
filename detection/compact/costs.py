"""What our own network costs, counted on its graph: the operators a latency model wants, as the exported file has them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from detection.compact.architecture import architecture_of
from detection.compact.deployed import PATCH_PX, first_convolution, reads_rows
from detection.compact.network import GhostUnit, Head, Network, ResidualBlock
from detection.costs import OperatorCost, OperatorKind
from detection.spec import Spec

DECODING = "decode"
"""What the names of the operators after the last predictions begin with."""
OP_TYPES = {
    "add": "Add",
    "resize": "Resize",
    "concat": "Concat",
    "clip": "Clip",
    "exp": "Exp",
    "matmul": "MatMul",
    "div": "Div",
    "mul": "Mul",
    "split": "Split",
    "transpose": "Transpose",
    "sigmoid": "Sigmoid",
}
"""The end of an operator's name -> what ONNX calls it."""


def costs_of(spec: Spec) -> tuple[OperatorCost, ...]:
    """Every operator for one picture, decoding included, as the exported file has them; nothing is computed (meta tensors)."""
    with torch.random.fork_rng(devices=[]):  # what is drawn here is thrown away; building on meta takes three times as long
        network = Network(spec).eval().to("meta")
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
        network(torch.zeros(1, 3, *spec.input_size, device="meta"))
    return (*costs, *_decoding(spec))


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
            _unweighted(f"{name}.{own}:transpose", inputs * points, inputs * points, inputs),
            OperatorCost(
                name=f"{name}.{own}:matmul",
                kind="conv1x1",
                op_type="MatMul",
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


def _decoding(spec: Spec) -> tuple[OperatorCost, ...]:
    """From the levels' predictions to boxes and scores: N points, C classes, K bins for each of the four sides of a box."""
    (height, width), arch = spec.input_size, architecture_of(spec)
    levels = [(height // stride_px) * (width // stride_px) for stride_px in arch.levels]
    points, bins, classes = sum(levels), arch.box_bins, len(spec.classes)
    logits, scores, sides = points * 4 * bins, points * classes, points * 4
    if arch.head_branches == "shared":
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
    product = OperatorCost(
        name=f"{DECODING}:matmul",
        kind="conv1x1",
        op_type="MatMul",
        macs=logits * 8,
        input_elements=logits,
        output_elements=2 * sides,
        weight_elements=0,
        input_channels=4 * bins,
        output_channels=8,
    )
    costs = (product if own == "matmul" else _unweighted(f"{DECODING}:{own}", read, written, 1) for own, read, written in elements)
    return tuple(replace(cost, predicts=True, decodes=True) for cost in costs)


def _moving(name: str, inputs_per_output: float, output: Tensor) -> OperatorCost:
    """An operator without arithmetic worth counting: it reads and writes."""
    size, channels = output[0].numel(), output.shape[1]
    return _unweighted(name, round(inputs_per_output * size), size, channels)


def _unweighted(name: str, read: int, written: int, channels: int) -> OperatorCost:
    op_type = OP_TYPES[name.rpartition(":")[2]]
    return OperatorCost(name, "other", op_type, 0, read, written, 0, channels, channels)


def _convolution(name: str, conv: nn.Conv2d, inputs: Tensor, output: Tensor, folded: bool) -> OperatorCost:
    bias = conv.out_channels if folded or conv.bias is not None else 0
    return OperatorCost(
        name=name,
        kind=_kind(conv),
        op_type="Conv",
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
