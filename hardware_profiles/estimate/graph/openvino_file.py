"""An OpenVINO IR (.xml and .bin) as layers, its operators under their ONNX names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.graph.layers import QUANTIZE, WEIGHTED, Layer, Layers, moves_channels_last
from hardware_profiles.runtimes.table import import_openvino

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


def read_openvino(path: Path) -> Layers:
    """The file's layers; GraphError where it is no IR, or its sizes are not fixed."""
    try:
        model = import_openvino().Core().read_model(path)
    except RuntimeError as error:
        raise GraphError(f"{path}: not a readable OpenVINO file: {str(error).strip().splitlines()[0]}") from error
    return _Reader(path, model).layers()


class _Reader:
    def __init__(self, path: Path, model: Any) -> None:
        self.path, self.model = path, model
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.constants: set[str] = set()
        self.int8_constants: set[str] = set()

    def layers(self) -> Layers:
        layers, outputs, parameter_bytes = [], [], 0
        for node in self.model.get_ordered_ops():
            kind, names = node.get_type_name(), [_name(port) for port in node.outputs()]
            self.shapes |= {name: self._shape(port) for name, port in zip(names, node.outputs(), strict=True)}
            sources = [_name(port.get_source_output()) for port in node.inputs()]
            if kind == "Result":
                outputs += sources
            elif kind in CONSTANT or (sources and all(name in self.constants for name in sources)):
                self.constants.update(names)
                if kind == "Constant":
                    parameter_bytes += math.prod(self.shapes[names[0]]) * max(1, node.get_element_type().size)
                if str(node.output(0).get_element_type().get_type_name()) in ("i8", "u8") or set(sources) & self.int8_constants:
                    self.int8_constants.update(names)
            elif kind != "Parameter":
                layers.append(self._layer(node, sources, names))
        inputs = tuple(_name(node.output(0)) for node in self.model.get_parameters())
        int8_inputs = frozenset(_name(port) for node in self.model.get_ops() if (port := _rounded_bytes(node)) is not None)
        return Layers("openvino", tuple(layers), self.shapes, inputs, tuple(outputs), parameter_bytes, int8_inputs)

    def _layer(self, node: Any, sources: list[str], names: list[str]) -> Layer:
        op_type = ONNX_NAMES.get(node.get_type_name(), node.get_type_name())
        attributes = node.get_attributes()
        reads = tuple(name for name in sources if name not in self.constants)
        shapes = [self.shapes[name] for name in sources if name in self.constants]
        groups = 1
        if node.get_type_name().startswith("GroupConvolution"):  # weights are (groups, outputs per group, inputs per group, ...)
            groups, outputs, inputs, *kernel = shapes[0]
            shapes[0] = (groups * outputs, inputs, *kernel)
        return Layer(
            op_type=op_type,
            reads=reads,
            writes=tuple(names),
            constants=() if op_type == QUANTIZE else tuple(shapes),
            int8_weights=op_type in WEIGHTED and bool(set(sources[1:]) & self.int8_constants),
            zero_point=op_type == QUANTIZE and _has_zero_point(node),
            groups=groups,
            strides=tuple(attributes.get("strides", ())),
            axis=attributes.get("axis") if op_type == "Concat" else None,
            to_channels_last=op_type == "Transpose" and _moves_channels_last(node),
            source=self.shapes[reads[0]],
            result=self.shapes[names[0]],
        )

    def _shape(self, port: Any) -> tuple[int, ...]:
        shape = port.get_partial_shape()
        if not shape.is_static:
            raise GraphError(f"{self.path}: {port} has no fixed size; export the detector with a fixed input size")
        return tuple(shape.to_shape())


def _name(port: Any) -> str:
    return f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def _rounded_bytes(node: Any) -> Any | None:
    """The byte input that this node rounds in levels of 1 from 0 on, which changes nothing; None for any other node."""
    if node.get_type_name() != "FakeQuantize":
        return None
    low, high = (_constant_values(node.input_value(port).get_node()) for port in (1, 2))
    if low is None or high is None or np.any(low != 0) or not np.allclose(high, node.get_attributes()["levels"] - 1):
        return None
    port = node.input_value(0)
    while port.get_node().get_type_name() in ("Convert", "Reshape", "Transpose"):
        port = port.get_node().input_value(0)
    is_bytes = port.get_node().get_type_name() == "Parameter" and port.get_element_type().get_type_name() == "u8"
    return port if is_bytes else None


def _moves_channels_last(transpose: Any) -> bool:
    order = transpose.input_value(1).get_node()
    if order.get_type_name() != "Constant":
        return False
    return moves_channels_last([int(axis) for axis in order.data])


def _has_zero_point(fake_quantize: Any) -> bool:
    """Whether the range begins neither at 0 nor as far below it as it ends above (one step of 256 more)."""
    low, high = (_constant_values(fake_quantize.input_value(port).get_node()) for port in (1, 2))
    if low is None or high is None:
        return False
    least, greatest = float(np.min(low)), float(np.max(high))
    return least != 0 and not math.isclose(least, -greatest, rel_tol=0.01)


def _constant_values(node: Any) -> Any:
    """What a constant holds, also one that is stored in a narrower type and widened by a Convert; None for anything computed."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node.data if node.get_type_name() == "Constant" else None
