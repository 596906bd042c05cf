"""Which nodes of an exported detector stay float, in every runtime alike: the predictions and what follows them, a stem, or the
layers that int8 harms most."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compressors.quantization.float_tail import PRODUCTS, float_tail_of_graph
from detection.export import PREDICTIONS
from hardware_profiles.runtimes.onnxruntime.int8 import write_int8
from hardware_profiles.runtimes.ranges import Ranges
from hardware_profiles.runtimes.table import open_session

TRANSPOSES = frozenset({"Transpose", "Reshape"})
"""What brings channels to the end for a product over points."""
ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Add", "Sub", "Mul", "Div"})
"""Of which exporters build activations."""
RANKING_PICTURES = 8
"""Enough to rank layers: errors differ by orders of magnitude between them."""


def float_tail(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay float: the last predictions, transpositions of maps before them, and all that follows.

    Decoding multiplies small errors by the stride, and scores live in the last bits: int8 here is how detectors fall to 0 mAP. In
    a file of ours predictions are known by their names, in a user's own by the graph.
    """
    if not any(predicts(node) for node in model.graph.node):
        return list(float_tail_of_graph(model))
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting = [producers[output.name] for output in model.graph.output]
    tail: dict[str, onnx.NodeProto] = {}
    transposed: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node.name in tail:
            continue
        tail[node.name] = node
        before = [producers[name] for name in node.input if name in producers and node.op_type != "Conv"]
        if predicts(node) or node.name in transposed:
            before = [own for own in before if own.op_type in TRANSPOSES]
            transposed.update(own.name for own in before)
        waiting += before
    return list(tail)


def predicts(node: onnx.NodeProto) -> bool:
    """Whether the node is a product that predicts scores or boxes."""
    return node.op_type in ("MatMul", "Gemm") and node.name.startswith(PREDICTIONS)


def float_stem(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that read the picture and of their activations; of a max pooling behind them, and its readers.

    ONNX Runtime moves a rounding before a max pooling, and pools bytes slowly: FastestDet took 6.5 ms with an int8 pooling behind
    its float stem, 4.0 ms with the two convolutions behind the pooling float as well, 4.4 ms in float (one thread of a Zen 4).
    """
    picture = model.graph.input[0].name
    stem = with_activations(model, _convolutions_of(model, {picture}))
    written = {output for node in model.graph.node if node.name in set(stem) for output in node.output}
    pools = [node for node in model.graph.node if node.op_type == "MaxPool" and node.input[0] in written]
    readers = _convolutions_of(model, {pool.output[0] for pool in pools})
    return [*stem, *(pool.name for pool in pools), *with_activations(model, readers)]


def _convolutions_of(model: onnx.ModelProto, tensors: set[str]) -> list[str]:
    """Names of the convolutions that read one of the tensors."""
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[0] in tensors]


def stem_stride(model: onnx.ModelProto) -> int:
    """The step, in pixels, of the first convolution that reads the picture; of its two the greater, and 1 where there is none."""
    names = set(float_stem(model))
    strides = (
        max(attribute.ints)
        for node in model.graph.node
        if node.op_type == "Conv" and node.name in names
        for attribute in node.attribute
        if attribute.name == "strides"
    )
    return next(strides, 1)


def with_activations(model: onnx.ModelProto, layers: Iterable[str]) -> list[str]:
    """The layers, and behind each what is computed element by element from it alone: its ReLU, or the four nodes of a hard swish.

    Left float, both are one operation; rounded in between, an activation would undo what the float layer gains.
    """
    names = list(layers)
    wanted, constants = set(names), {tensor.name for tensor in model.graph.initializer} | {""}
    origin: dict[str, str] = {}  # tensor -> the layer that it comes from alone
    for node in model.graph.node:
        sources = {origin.get(name) for name in node.input if name not in constants}
        if node.name in wanted:
            origin |= dict.fromkeys(node.output, node.name)
        elif node.op_type in ELEMENTWISE and len(sources) == 1 and (source := sources.pop()) is not None:
            origin |= dict.fromkeys(node.output, source)
            names.append(node.name)
    return names


def layers_of(model: onnx.ModelProto) -> list[str]:
    """Names of the products with trained weights before the float tail, in order: what int8 is for."""
    tail, weights = set(float_tail(model)), {own.name for own in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in PRODUCTS and weights.intersection(node.input[:2])]
    return [node.name for node in products if node.name not in tail]


def activations_of(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors that may be quantized: the picture, and what the nodes before the float tail write.

    What only a ReLU reads is left out: it is never stored, and shares the range of what the ReLU writes.
    """
    tail, constants = set(float_tail(model)), {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    pictures = [value.name for value in model.graph.input]
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    written: list[str] = []
    for node in model.graph.node:
        if node.name in tail or node.op_type == "Constant" or all(name in constants for name in node.input if name):
            constants.update(() if node.name in tail else node.output)
            continue
        written += [name for name in node.output if set(readers.get(name, [])) != {"Relu"}]
    return pictures + written


def most_harmful(ready: Path, ranges: Ranges, layers: list[str], pictures: list[Any]) -> list[str]:
    """The layers, the one first whose rounding alone (weights, input and output) moves boxes and scores most.

    The ranking is made in ONNX Runtime for every runtime: rounding a layer is the same arithmetic everywhere.
    """
    shown = pictures[:RANKING_PICTURES]
    session = open_session("onnxruntime", ready, 1)
    exact = [session(picture) for picture in shown]
    alone, harm = ready.with_name("alone.onnx"), {}
    for layer in layers:
        write_int8(ready, ranges, alone, only=[layer], planes=True)
        rounded = open_session("onnxruntime", alone, 1)
        harm[layer] = float(np.mean([_moved(rounded(picture), own) for picture, own in zip(shown, exact, strict=True)]))
    return sorted(layers, key=lambda layer: -harm[layer])


def _moved(outputs: tuple[Any, ...], exact: tuple[Any, ...]) -> float:
    """Squared error of each output, boxes and scores, as a share of the squares of the exact ones, summed."""
    return sum(float(((own - right) ** 2).sum() / max(1e-12, (right**2).sum())) for own, right in zip(outputs, exact, strict=True))
