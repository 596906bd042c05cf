"""An ONNX file as layers: constants folded, shapes inferred, quantize and dequantize pairs joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from hardware_profiles.estimate.graph import layers
from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.graph.layers import DEQUANTIZE, QUANTIZE, WEIGHTED, Layer, Layers
from hardware_profiles.runtimes.interface import first_line
from hardware_profiles.runtimes.writing import constants_as_initializers, replace_nodes

SHAPE_ONLY = frozenset({"Shape", "Size"})
"""Their results are known as soon as the shape of what they look at is."""
SMALL_ELEMENTS = 64
"""Constants of up to this many elements are computed: they hold sizes. Greater ones are only known to be constant."""


def read_onnx(path: Path) -> Layers:
    """The file's layers; GraphError where it is no ONNX file, or its sizes are not fixed."""
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        model = onnx.inliner.inline_local_functions(model) if model.functions else model
        constants_as_initializers(model.graph)
        model.ir_version = max(model.ir_version, 4)  # before, every initializer had to be an input as well
        stored_bytes = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
        model = _with_sizes(model)
    except Exception as error:  # protobuf, the checker and shape inference have no common base
        raise GraphError(f"{path}: not a readable ONNX file: {first_line(error)}") from error
    return _Reader(path, model.graph).layers(stored_bytes)


class _Reader:
    def __init__(self, path: Path, graph: onnx.GraphProto) -> None:
        self.path, self.graph = path, graph
        self.shapes = _shapes(graph)
        self.constants = {tensor.name for tensor in graph.initializer}
        self.int8_constants: set[str] = set()
        self.zero_points = {
            tensor.name for tensor in graph.initializer if not tensor.dims and onnx.numpy_helper.to_array(tensor).any()
        }
        self.dequantized: dict[str, str] = {}

    def layers(self, parameter_bytes: int) -> Layers:
        """All that an output depends on; the rest is not run."""
        inputs = tuple(value.name for value in self.graph.input if value.name not in self.constants)
        nodes = list(self.graph.node)
        live = _live(nodes, [value.name for value in self.graph.output])
        run = tuple(layer for index in live if (layer := self._layer(nodes[index])) is not None)
        for name in (*inputs, *(name for layer in run for name in (*layer.reads, *layer.writes))):
            self._shape(name)
        outputs = tuple(self.dequantized.get(value.name, value.name) for value in self.graph.output)
        return Layers(run, self.shapes, inputs, outputs, parameter_bytes, self._int8_inputs(inputs))

    def _layer(self, node: onnx.NodeProto) -> Layer | None:
        """The node as a layer, or None where it is folded into a constant or into its neighbours."""
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(f"{self.path}: {node.op_type} is an operator of {node.domain}, not of ONNX: what it does is not known")
        is_constant = node.op_type in ("Constant", *SHAPE_ONLY) or all(name in self.constants for name in node.input if name)
        layers.refuse_uncounted(self.path, node.op_type, is_constant=is_constant)
        if is_constant:
            self.constants.update(node.output)
            self.int8_constants.update(node.output if node.op_type == DEQUANTIZE or set(node.input) & self.int8_constants else ())
            return None
        if node.op_type == DEQUANTIZE:
            self.dequantized[node.output[0]] = node.input[0]
            return None
        reads = tuple(self.dequantized.get(name, name) for name in node.input if name and name not in self.constants)
        weighted = node.op_type in WEIGHTED
        attributes: dict[str, Any] = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        writes = tuple(name for name in node.output if name)
        result = self._shape(writes[0], node.op_type)
        operands = [self._shape(name) for name in node.input[:2]] if weighted else []
        return Layer(
            op_type=node.op_type,
            reads=reads,
            writes=writes,
            constants=() if node.op_type == QUANTIZE else tuple(self._shape(name) for name in node.input if name in self.constants),
            macs=layers.product_macs(node.op_type, operands, result, bool(attributes.get("transA"))) if weighted else 0,
            kernel=operands[1] if node.op_type in ("Conv", "ConvTranspose") else (),
            int8_weights=weighted and (node.input[1] in self.int8_constants or node.input[1] not in self.constants),
            zero_point=node.op_type == QUANTIZE and len(node.input) > 2 and node.input[2] in self.zero_points,
            groups=attributes.get("group", 1),
            strides=tuple(attributes.get("strides", ())),
            axis=attributes.get("axis") if node.op_type == "Concat" else None,
            to_channels_last=node.op_type == "Transpose" and layers.moves_channels_last(attributes.get("perm", ())),
            source=operands[0] if weighted else self._shape(reads[0]),
            result=result,
        )

    def _int8_inputs(self, inputs: tuple[str, ...]) -> frozenset[str]:
        """Inputs that are read as quantized numbers, though nothing quantizes them."""
        moved = {node.output[0]: node.input[0] for node in self.graph.node if node.op_type in ("Reshape", "Transpose")}
        sources = set(self.dequantized.values())
        while behind := sources & set(moved):
            sources = (sources - behind) | {moved[name] for name in behind}
        return frozenset(sources & set(inputs))

    def _shape(self, name: str, op_type: str | None = None) -> tuple[int, ...]:
        if name not in self.shapes:
            raise layers.open_size(self.path, name, op_type)
        return self.shapes[name]


def _with_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its tensors; small constants, of which new shapes are made, are computed on the way."""
    while True:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        if not _fold(model):
            return model


def _fold(model: onnx.ModelProto) -> bool:
    """Turn nodes whose result is known into small initializers, in place; whether there were any."""
    shapes, values = _shapes(model.graph), {own.name: onnx.numpy_helper.to_array(own) for own in model.graph.initializer}
    known = {name: value for name, value in values.items() if value.size <= SMALL_ELEMENTS}
    left: list[onnx.NodeProto] = []
    folded: list[onnx.TensorProto] = []
    for node in model.graph.node:
        result = _result(node, known, shapes)
        if result is None:
            left.append(node)
        else:
            known[node.output[0]] = result
            folded.append(onnx.numpy_helper.from_array(result, node.output[0]))
    replace_nodes(model.graph, left)
    model.graph.initializer.extend(folded)
    return bool(folded)


def _result(node: onnx.NodeProto, known: dict[str, NDArray[Any]], shapes: dict[str, tuple[int, ...]]) -> NDArray[Any] | None:
    """What the node computes, where that is small and already known."""
    if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
        return np.array(shapes[node.input[0]], np.int64)
    inputs = [name for name in node.input if name]
    if not inputs or node.op_type in (QUANTIZE, DEQUANTIZE) or len(node.output) != 1 or not all(name in known for name in inputs):
        return None
    try:
        result = np.asarray(ReferenceEvaluator(node).run(None, {name: known[name] for name in inputs})[0])
    except Exception:  # what the evaluator does not know, or only within its graph, stays a node
        return None
    return result if result.size <= SMALL_ELEMENTS else None


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sides = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(side.HasField("dim_value") for side in sides):
            shapes[value.name] = tuple(side.dim_value for side in sides)
    return shapes


def _live(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[int]:
    """Indices of the nodes that an output depends on, in order."""
    writer = {name: index for index, node in enumerate(nodes) for name in node.output}
    waiting, live = list(outputs), set[int]()
    while waiting:
        index = writer.get(waiting.pop())
        if index is not None and index not in live:
            live.add(index)
            waiting += list(nodes[index].input)
    return sorted(live)
