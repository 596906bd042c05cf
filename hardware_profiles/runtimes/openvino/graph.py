"""What OpenVINO executes of a file: its fusions, and its own format as layers, the operators under their ONNX names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from hardware_profiles.estimate.graph import layers
from hardware_profiles.estimate.graph.fusion import fused
from hardware_profiles.estimate.graph.graph import Graph, GraphError
from hardware_profiles.estimate.graph.layers import QUANTIZE, WEIGHTED, Fusions, Layer, Layers
from hardware_profiles.estimate.graph.onnx_file import read_onnx
from hardware_profiles.runtimes.interface import first_line
from hardware_profiles.runtimes.openvino.runtime import import_openvino

FUSIONS = Fusions(
    activations=frozenset(
        {"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "Swish", "HardSwish", "Mish", "Gelu", "Elu"}
    ),
    int8_adds=True,
    int8_moves=True,
    channels_last=True,
)
ONNX_NAMES = {
    "Convolution": "Conv",
    "GroupConvolution": "Conv",
    "ConvolutionBackpropData": "ConvTranspose",
    "GroupConvolutionBackpropData": "ConvTranspose",
    "FakeQuantize": QUANTIZE,
    "Interpolate": "Resize",
    "Multiply": "Mul",
    "Subtract": "Sub",
    "Divide": "Div",
    "VariadicSplit": "Split",
    "StridedSlice": "Slice",
    "AvgPool": "AveragePool",
    "Clamp": "Clip",
    "HSwish": "HardSwish",
    "PReLU": "PRelu",
    "Convert": "Cast",
}
"""Other operators have the same name in both."""
CONSTANT = ("Constant", "ShapeOf")


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX file or of an IR (.xml with .bin), float or int8."""
    return fused(read_onnx(path) if path.suffix == ".onnx" else read_ir(path), FUSIONS)


def read_ir(path: Path) -> Layers:
    """The file's layers; GraphError where it is no IR, or its sizes are not fixed."""
    try:
        model = import_openvino().Core().read_model(path)
    except RuntimeError as error:
        raise GraphError(f"{path}: not a readable OpenVINO file: {first_line(error)}") from error
    return _Reader(path, model).layers()


class _Reader:
    def __init__(self, path: Path, model: Any) -> None:
        self.path, self.model = path, model
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.constants: set[str] = set()
        self.int8_constants: set[str] = set()

    def layers(self) -> Layers:
        run, outputs, parameter_bytes = [], [], 0
        for node in self.model.get_ordered_ops():
            kind, names = node.get_type_name(), [_name(port) for port in node.outputs()]
            self.shapes |= {name: self._shape(port) for name, port in zip(names, node.outputs(), strict=True)}
            sources = [_name(port.get_source_output()) for port in node.inputs()]
            is_constant = kind in CONSTANT or (bool(sources) and all(name in self.constants for name in sources))
            layers.refuse_uncounted(self.path, kind, is_constant=is_constant)
            if kind == "Result":
                outputs += sources
            elif is_constant:
                self.constants.update(names)
                if kind == "Constant":
                    parameter_bytes += math.prod(self.shapes[names[0]]) * max(1, node.get_element_type().size)
                if str(node.output(0).get_element_type().get_type_name()) in ("i8", "u8") or set(sources) & self.int8_constants:
                    self.int8_constants.update(names)
            elif kind != "Parameter":
                run.append(self._layer(node, sources, names))
        inputs = tuple(_name(node.output(0)) for node in self.model.get_parameters())
        int8_inputs = frozenset(_name(port) for node in self.model.get_ops() if (port := _rounded_bytes(node)) is not None)
        return Layers(tuple(run), self.shapes, inputs, tuple(outputs), parameter_bytes, int8_inputs)

    def _layer(self, node: Any, sources: list[str], names: list[str]) -> Layer:
        op_type = ONNX_NAMES.get(node.get_type_name(), node.get_type_name())
        attributes = node.get_attributes()
        reads = tuple(name for name in sources if name not in self.constants)
        weighted, groups, result = op_type in WEIGHTED, 1, self.shapes[names[0]]
        operands = [self.shapes[name] for name in sources[:2]] if weighted else []
        if node.get_type_name().startswith("GroupConvolution"):  # weights are (groups, outputs per group, inputs per group, ...)
            groups, outputs, inputs, *kernel = operands[1]
            operands[1] = (groups * outputs, inputs, *kernel)
        return Layer(
            op_type=op_type,
            reads=reads,
            writes=tuple(names),
            constants=() if op_type == QUANTIZE else tuple(self.shapes[name] for name in sources if name in self.constants),
            macs=layers.product_macs(op_type, operands, result, bool(attributes.get("transpose_a"))) if weighted else 0,
            kernel=operands[1] if op_type in ("Conv", "ConvTranspose") else (),
            int8_weights=weighted and (sources[1] in self.int8_constants or sources[1] not in self.constants),
            zero_point=op_type == QUANTIZE and _has_zero_point(node),
            groups=groups,
            strides=tuple(attributes.get("strides", ())),
            axis=attributes.get("axis") if op_type == "Concat" else None,
            to_channels_last=op_type == "Transpose" and _moves_channels_last(node),
            source=operands[0] if weighted else self.shapes[reads[0]],
            result=result,
        )

    def _shape(self, port: Any) -> tuple[int, ...]:
        shape = port.get_partial_shape()
        if not shape.is_static:
            raise layers.open_size(self.path, _name(port), port.get_node().get_type_name())
        return tuple(shape.to_shape())


def _name(port: Any) -> str:
    return f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def _rounded_bytes(node: Any) -> Any | None:
    """The byte input that this node rounds in levels of 1 from 0 on, which changes nothing; None for any other node."""
    if node.get_type_name() != "FakeQuantize":
        return None
    low, high = _ends(node)
    if low is None or high is None or np.any(low != 0) or not np.allclose(high, node.get_attributes()["levels"] - 1):
        return None
    port = node.input_value(0)
    while port.get_node().get_type_name() in ("Convert", "Reshape", "Transpose"):
        port = port.get_node().input_value(0)
    is_bytes = port.get_node().get_type_name() == "Parameter" and port.get_element_type().get_type_name() == "u8"
    return port if is_bytes else None


def _moves_channels_last(transpose: Any) -> bool:
    order = transpose.input_value(1).get_node()
    return order.get_type_name() == "Constant" and layers.moves_channels_last([int(axis) for axis in order.data])


def _has_zero_point(fake_quantize: Any) -> bool:
    """Whether the range begins neither at 0 nor as far below it as it ends above (one step of 256 more)."""
    low, high = _ends(fake_quantize)
    if low is None or high is None:
        return False
    least, greatest = float(np.min(low)), float(np.max(high))
    return least != 0 and not math.isclose(least, -greatest, rel_tol=0.01)


def _ends(fake_quantize: Any) -> list[Any | None]:
    """Least and greatest values of its range, stored as they are or in a narrower type that a Convert widens; None if computed."""
    ends = [fake_quantize.input_value(port).get_node() for port in (1, 2)]
    stored = [node.input_value(0).get_node() if node.get_type_name() == "Convert" else node for node in ends]
    return [node.data if node.get_type_name() == "Constant" else None for node in stored]
