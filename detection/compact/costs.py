"""What our own network costs, counted on its graph: the operators a latency model wants, as the exported file has them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import cast

from torch import nn

from detection.compact.architecture import architecture_of
from detection.compact.deployed import PATCH_PX, first_convolution, reads_rows
from detection.compact.network import GhostUnit, Head, Neck, Network, ResidualBlock
from detection.family import UnsetWeights
from detection.operators import OperatorCost, OperatorKind
from detection.spec import Spec

Size = tuple[int, int, int]
"""Channels, height and width of maps."""
DECODING = "decode"
"""What the names of the operators after the last predictions begin with."""


def costs_of(spec: Spec) -> tuple[OperatorCost, ...]:
    """Every operator for one picture, decoding included, as the exported file has them, in the order in which they run.

    Nothing is computed: the sizes of all maps follow from the modules.
    """
    with UnsetWeights():
        network = Network(spec)
    costs: list[OperatorCost] = []
    size, levels = _through(costs, "stem", network.stem, (3, *spec.input_size)), list[Size]()
    if reads_rows(first_convolution(network)):
        costs[0] = replace(costs[0], input_channels=costs[0].input_channels * PATCH_PX)
    for number, stage in enumerate(network.stages):
        size = _through(costs, f"stages.{number}", stage, size)
        levels.append(size)
    for number, fused in enumerate(_through_neck(costs, network.neck, levels[-len(network.heads) :])):
        _through_head(costs, f"heads.{number}", cast(Head, network.heads[number]), fused)
    return (*costs, *_decoding(spec))


def _through(costs: list[OperatorCost], name: str, module: nn.Module, size: Size, folds: bool = False) -> Size:
    """The size of the maps after a module, whose operators are added to the costs; into its last convolution a normalisation
    may be folded."""
    match module:
        case nn.Conv2d():
            costs.append(_convolution(name, module, size, folds))
            return _size_after(module, size)
        case nn.Sequential():
            children = list(module.named_children())
            for (own, child), following in itertools.zip_longest(children, [child for _, child in children[1:]]):
                folds_here = isinstance(following, nn.BatchNorm2d) or (folds and following is None)
                size = _through(costs, f"{name}.{own}", child, size, folds_here)
        case ResidualBlock():
            size = _through(costs, f"{name}.reduce", module.reduce, size)
            size = _through(costs, f"{name}.expand", module.expand, size)
            costs.append(_moving(f"{name}:add", 2, size))
        case GhostUnit():
            primary = _through(costs, f"{name}.primary", module.primary, size)
            cheap = _through(costs, f"{name}.cheap", module.cheap, primary)
            size = (primary[0] + cheap[0], *primary[1:])
            costs.append(_moving(f"{name}:concat", 1, size))
        case nn.BatchNorm2d() | nn.ReLU() | nn.Identity():
            pass  # part of the convolution before it
        case _:
            raise AssertionError(f"{name}: what a {type(module).__name__} costs is not known")
    return size


def _through_neck(costs: list[OperatorCost], neck: Neck, levels: list[Size]) -> list[Size]:
    """The sizes of the maps that the heads see. Before each unit two levels are added, one of them resized on the way down."""
    fused = [_through(costs, f"neck.laterals.{i}", neck.laterals[i], level) for i, level in enumerate(levels)]
    for i in reversed(range(len(fused) - 1)):
        before, fused[i] = fused[i], _through(costs, f"neck.top_down.{i}", neck.top_down[i], fused[i])
        costs += [_moving(f"neck.top_down.{i}:add", 2, before), _moving(f"neck.top_down.{i}:resize", 0.25, before)]
    for i in range(len(fused) - 1):
        before = _through(costs, f"neck.downs.{i}", neck.downs[i], fused[i])
        fused[i + 1] = _through(costs, f"neck.bottom_up.{i}", neck.bottom_up[i], before)
        costs.append(_moving(f"neck.bottom_up.{i}:add", 2, before))
    return fused


def _through_head(costs: list[OperatorCost], name: str, head: Head, size: Size) -> None:
    """Its branches, and the products that predict scores and boxes of one level, one where both read the same maps; what turns
    the maps before each."""
    products: dict[str, tuple[nn.Conv2d, ...]] = {"score+box": (head.score, head.box)}
    after = _through(costs, f"{name}.score_branch", head.score_branch, size)
    if head.box_branch is not None:
        products = {"score": (head.score,), "box": (head.box,)}
        _through(costs, f"{name}.box_branch", head.box_branch, size)
    points = after[1] * after[2]
    for own, convolutions in products.items():
        inputs, outputs = convolutions[0].in_channels, sum(conv.out_channels for conv in convolutions)
        costs += [
            _unweighted(f"{name}.{own}:transpose", inputs * points, inputs * points, inputs),
            _product(f"{name}.{own}:matmul", inputs, outputs, points, weights=(inputs + 1) * outputs, predicts=True),
        ]


def _decoding(spec: Spec) -> tuple[OperatorCost, ...]:
    """From the levels' predictions to boxes and scores: N points, C classes, K bins for each of the four sides of a box."""
    (height, width), arch = spec.input_size, architecture_of(spec)
    levels = [(height // stride_px) * (width // stride_px) for stride_px in arch.levels]
    points, bins, classes = sum(levels), arch.box_bins, len(spec.classes)
    logits, scores, sides = points * 4 * bins, points * classes, points * 4
    joined = [("concat", size, size) for size in (scores, logits)]
    if arch.head_branches == "shared":
        joined = [("concat", scores + logits, scores + logits), ("split", scores + logits, scores + logits)]
    before = [*joined, ("clip", logits, logits), ("exp", logits, logits)]  # operator, elements that it reads, that it writes
    after = [("split", 2 * sides, 2 * sides), ("div", 2 * sides, sides), ("mul", sides, sides), ("add", sides, sides)]
    operators = (*before, *after, ("sigmoid", scores, scores))
    costs = [_unweighted(f"{DECODING}:{own}", read, written, 1) for own, read, written in operators]
    costs.insert(len(before), _product(f"{DECODING}:matmul", 4 * bins, 8, points, weights=0))
    return tuple(replace(cost, predicts=True, decodes=True) for cost in costs)


def _moving(name: str, inputs_per_output: float, size: Size) -> OperatorCost:
    """An operator without arithmetic worth counting: it reads and writes."""
    return _unweighted(name, round(inputs_per_output * math.prod(size)), math.prod(size), size[0])


def _unweighted(name: str, read: int, written: int, channels: int) -> OperatorCost:
    op_type = name.rpartition(":")[2].capitalize()  # what ONNX calls it
    return OperatorCost(name, "other", op_type, 0, read, written, 0, channels, channels)


def _product(name: str, inputs: int, outputs: int, points: int, weights: int, predicts: bool = False) -> OperatorCost:
    macs = inputs * outputs * points
    return OperatorCost(name, "conv1x1", "MatMul", macs, inputs * points, outputs * points, weights, inputs, outputs, predicts)


def _convolution(name: str, conv: nn.Conv2d, size: Size, folds: bool) -> OperatorCost:
    after = _size_after(conv, size)
    return OperatorCost(
        name=name,
        kind=_kind(conv),
        op_type="Conv",
        macs=conv.weight.numel() * after[1] * after[2],
        input_elements=math.prod(size),
        output_elements=math.prod(after),
        weight_elements=conv.weight.numel() + (conv.out_channels if folds or conv.bias is not None else 0),
        input_channels=conv.in_channels,
        output_channels=conv.out_channels,
    )


def _size_after(conv: nn.Conv2d, size: Size) -> Size:
    height, width = (
        (side + 2 * cast(int, conv.padding[axis]) - conv.kernel_size[axis]) // conv.stride[axis] + 1
        for axis, side in enumerate(size[1:])
    )
    return conv.out_channels, height, width


def _kind(conv: nn.Conv2d) -> OperatorKind:
    if conv.groups > 1:
        return "depthwise"
    if conv.kernel_size == (1, 1):
        return "conv1x1"
    return "conv3x3s1" if conv.kernel_size == (3, 3) and conv.stride == (1, 1) else "conv_other"
