"""Which nodes of any detector's graph stay float: its last products and what follows them, found without names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from hardware_profiles.runtimes.writing import names_read

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
SHAPE_ONLY = frozenset({"Shape", "Size"})
"""Their results are sizes, whatever the picture holds."""
MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast", "Slice", "Split"})
SOFTMAX = frozenset({"Softmax", "Div"})
"""Some exporters write a softmax as Exp, ReduceSum and Div."""
SELECTS = "TopK"
"""By it a set predictor chooses the places that become its queries."""
SMALL_ELEMENTS = 4096
"""Products that decode boxes have fewer weights: 33 bins, 4x4 from centres to corners, or 4 x 33 x 8 for all sides at once."""
HALVES = 2
"""A matrix from centres and sizes to corners holds halves."""

Constants = dict[str, NDArray[Any] | None]
"""Tensors that no picture changes, with their values where they are few."""


def float_tail_of_graph(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes that stay float, in the order of the graph: on each way back from an output the last product with trained
    weights, and all between it and the output. Nodes need names.

    A product (Conv, ConvTranspose, Gemm, MatMul) has a constant operand; what multiplies two activations, as attention does, is
    passed through. Passed through too are products that only decode: their weights have no trained spread. Either all are whole or
    half numbers and not all equal, as in the ramp 0 .. bins-1 of distribution focal loss (DFL) and in the matrix that turns centres
    and sizes into corners; or, behind a softmax, all output channels have the same strictly rising or falling row, as in the uneven
    ramp of D-FINE. What follows from shapes or constants alone is left out.

    What follows from a selection (TopK) stays float too, however many products it has: the decoder of a set predictor, which looks
    at places of the maps (GridSample), moves boxes layer by layer and is small beside what came before.

    A stream of residual sums that is itself an output keeps the last product of every block: no graph says which of them refine a
    prediction and which make features.
    """
    graph = model.graph
    constants = _constants(graph)
    writers = {output: index for index, node in enumerate(graph.node) for output in node.output if output not in constants}
    waiting, tail = [value.name for value in graph.output], set[int]()
    while waiting:
        index = writers.get(waiting.pop())
        if index is None or index in tail:
            continue
        tail.add(index)
        node = graph.node[index]
        weights = [name for name in node.input[:2] if name in constants] if node.op_type in PRODUCTS else []
        if not weights or _only_decodes(graph, writers, node, constants[weights[0]]):
            waiting += names_read(node)
    selected = set[str]()
    for index, node in enumerate(graph.node):
        if not constants.keys() >= set(node.output) and (node.op_type == SELECTS or names_read(node) & selected):
            selected.update(node.output)
            tail.add(index)
    return tuple(graph.node[index].name for index in sorted(tail))


def _only_decodes(graph: onnx.GraphProto, writers: dict[str, int], node: onnx.NodeProto, weights: NDArray[Any] | None) -> bool:
    if weights is None or np.all(weights == weights.flat[0]):
        return False
    if np.array_equal(weights * HALVES, np.round(weights * HALVES)):
        return True
    rows = np.atleast_2d(np.squeeze(weights))
    steps = np.diff(rows.astype(np.float64), axis=1)
    return bool(np.all(rows == rows[0]) and (np.all(steps > 0) or np.all(steps < 0))) and any(
        _follows_softmax(graph, writers, name) for name in node.input
    )


def _follows_softmax(graph: onnx.GraphProto, writers: dict[str, int], name: str) -> bool:
    while name in writers and (node := graph.node[writers[name]]).op_type in MOVES:
        name = node.input[0]
    return name in writers and graph.node[writers[name]].op_type in SOFTMAX


def _constants(graph: onnx.GraphProto) -> Constants:
    """Initializers, and what nodes compute from constants and shapes alone."""
    found: Constants = {
        own.name: numpy_helper.to_array(own) if 0 < math.prod(own.dims) <= SMALL_ELEMENTS else None for own in graph.initializer
    }
    for node in graph.node:
        if node.op_type in SHAPE_ONLY:
            found.update(dict.fromkeys(node.output))
        elif names_read(node) <= found.keys() and not node.op_type.startswith("Random"):
            found.update(dict.fromkeys(node.output) | {node.output[0]: _value(node, found)})
    return found


def _value(node: onnx.NodeProto, known: Constants) -> NDArray[Any] | None:
    """What the node computes first, where that is little and follows from little."""
    inputs = {name: value for name in names_read(node) if (value := known[name]) is not None}
    if len(inputs) < len(names_read(node)):
        return None
    try:
        result = np.asarray(ReferenceEvaluator(node).run(None, inputs)[0])
    except Exception:  # what the evaluator does not know, or only within its graph, counts as trained
        return None
    return result if 0 < result.size <= SMALL_ELEMENTS and result.dtype.kind in "fiu" else None
