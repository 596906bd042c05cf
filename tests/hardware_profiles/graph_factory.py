"""Small ONNX and OpenVINO files, node by node, for the tests of reading graphs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.runtimes.openvino.runtime import import_openvino

Node = tuple[str, list[str], str | list[str], dict[str, Any]]
"""Operator, inputs, output or outputs, attributes."""
SHAPE = (1, 16, 8, 12)
"""Of the input `x` unless said otherwise."""
PICTURE = (1, 8, 12, 3)
"""Shape of a picture as it is stored."""


def weights(*shape: int) -> NDArray[np.float32]:
    """Any numbers but zeros."""
    return np.random.default_rng(0).uniform(0.5, 1.0, shape).astype(np.float32)


def write_onnx(
    path: Path,
    nodes: Sequence[Node],
    constants: dict[str, NDArray[Any]],
    outputs: dict[str, Sequence[int | None]],
    shape: Sequence[Any] = SHAPE,
    taken: int = TensorProto.FLOAT,
) -> Path:
    """A graph from `x`, of the type that is taken, to float32 outputs."""
    made = []
    for kind, reads, written, attributes in nodes:
        outputs_of = [written] if isinstance(written, str) else written
        made.append(helper.make_node(kind, reads, outputs_of, outputs_of[0], **attributes))
    graph = helper.make_graph(
        made,
        "small",
        [helper.make_tensor_value_info("x", taken, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(sides)) for name, sides in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_int8(path: Path, zero: int = 0, kernel: int = 1) -> Path:
    """A picture quantized, two int8 convolutions of 16 channels, and a float one behind them."""
    nodes: list[Node] = [("QuantizeLinear", ["x", "s", "z"], "q0", {}), ("DequantizeLinear", ["q0", "s", "z"], "d0", {})]
    for index in (1, 2):
        nodes += [
            ("DequantizeLinear", [f"w{index}", "ws", "wz"], f"dw{index}", {"axis": 0}),
            ("Conv", [f"d{index - 1}", f"dw{index}", "b"], f"c{index}", {"pads": [kernel // 2] * 4}),
            ("Relu", [f"c{index}"], f"r{index}", {}),
            ("QuantizeLinear", [f"r{index}", "s", "z"], f"q{index}", {}),
            ("DequantizeLinear", [f"q{index}", "s", "z"], f"d{index}", {}),
        ]
    nodes.append(("Conv", ["d2", "wf", "b"], "y", {}))
    constants: dict[str, NDArray[Any]] = {
        "s": np.array(0.02, np.float32),
        "z": np.array(zero, np.uint8),
        "ws": np.full(16, 0.01, np.float32),
        "wz": np.zeros(16, np.int8),
        "w1": np.full((16, 16, kernel, kernel), 3, np.int8),
        "w2": np.full((16, 16, kernel, kernel), 5, np.int8),
        "b": weights(16),
        "wf": weights(16, 16, 1, 1),
    }
    return write_onnx(path, nodes, constants, {"y": SHAPE})


def write_int8_openvino(path: Path, low: float = 0.0, kernel: int = 1) -> Path:
    """The same network as NNCF leaves it: ranges from `low` to 5.1 before each convolution, int8 weights turned to float."""
    openvino = import_openvino()
    ops = importlib.import_module("openvino.opset13")

    def ranged(node: Any) -> Any:
        return ops.fake_quantize(node, np.float32(low), np.float32(5.1), np.float32(low), np.float32(5.1), 256)

    def convolution(node: Any, own: Any, side: int) -> Any:
        summed = ops.convolution(node, own, [1, 1], [side // 2] * 2, [side // 2] * 2, [1, 1])
        return ops.relu(ops.add(summed, ops.constant(weights(1, 16, 1, 1))))

    last = parameter = ops.parameter(list(SHAPE), np.float32, "x")
    for value in (3, 5):
        stored = ops.constant(np.full((16, 16, kernel, kernel), value, np.int8))
        scaled = ops.multiply(ops.convert(stored, np.float32), ops.constant(np.full((16, 1, 1, 1), 0.01, np.float32)))
        last = convolution(ranged(last), scaled, kernel)
    last = convolution(last, ops.constant(weights(16, 16, 1, 1)), 1)
    openvino.save_model(openvino.Model([last], [parameter]), path, compress_to_fp16=False)
    return path


def write_picture(path: Path) -> Path:
    """A picture as it is stored, turned, made float, and a convolution of 16 channels with its activation."""
    nodes: list[Node] = [
        ("Transpose", ["x"], "turned", {"perm": [0, 3, 1, 2]}),
        ("Cast", ["turned"], "planes", {"to": TensorProto.FLOAT}),
        ("Conv", ["planes", "w", "b"], "c", {"pads": [1] * 4}),
        ("Relu", ["c"], "y", {}),
    ]
    constants = {"w": weights(16, 3, 3, 3), "b": weights(16)}
    return write_onnx(path, nodes, constants, {"y": SHAPE}, PICTURE, TensorProto.UINT8)


def write_int8_picture(path: Path, float_stem: bool = False) -> Path:
    """A picture whose bytes are int8 activations by a scale of 1, and two int8 convolutions; or the first of them in float."""
    nodes: list[Node] = [("Transpose", ["x"], "turned", {"perm": [0, 3, 1, 2]})]
    nodes.append(
        ("Cast", ["turned"], "d0", {"to": TensorProto.FLOAT})
        if float_stem
        else ("DequantizeLinear", ["turned", "one", "z"], "d0", {})
    )
    for index in (1, 2):
        nodes += [
            ("DequantizeLinear", [f"w{index}", "ws", "wz"], f"dw{index}", {"axis": 0}),
            ("Conv", [f"d{index - 1}", "wf" if float_stem and index == 1 else f"dw{index}", "b"], f"c{index}", {}),
            ("Relu", [f"c{index}"], f"r{index}", {}),
            ("QuantizeLinear", [f"r{index}", "s", "z"], f"q{index}", {}),
            ("DequantizeLinear", [f"q{index}", "s", "z"], f"d{index}", {}),
        ]
    constants: dict[str, NDArray[Any]] = {
        "one": np.array(1, np.float32),
        "s": np.array(0.02, np.float32),
        "z": np.array(0, np.uint8),
        "ws": np.full(16, 0.01, np.float32),
        "wz": np.zeros(16, np.int8),
        "w1": np.full((16, 3, 1, 1), 3, np.int8),
        "w2": np.full((16, 16, 1, 1), 5, np.int8),
        "b": weights(16),
        "wf": weights(16, 3, 1, 1),
    }
    return write_onnx(path, nodes, constants, {"d2": SHAPE}, PICTURE, TensorProto.UINT8)


def write_int8_picture_openvino(
    path: Path, low: float = 0.0, high: float = 255.0, taken: type[np.generic] = np.uint8, ends_in: type[np.generic] = np.float32
) -> Path:
    """As NNCF and OpenVINO's preprocessing leave it: Convert, Transpose, a range of 256 levels, an int8 convolution."""
    openvino = import_openvino()
    ops = importlib.import_module("openvino.opset13")
    parameter = ops.parameter(list(PICTURE), taken, "x")
    planes = ops.transpose(ops.convert(parameter, np.float32), ops.constant(np.array([0, 3, 1, 2])))
    stored_ends = [ops.constant(np.full((1, 1, 1, 1), end, ends_in)) for end in (low, high, low, high)]
    ends = stored_ends if ends_in is np.float32 else [ops.convert(end, np.float32) for end in stored_ends]
    stored = ops.constant(np.full((16, 3, 1, 1), 3, np.int8))
    scaled = ops.multiply(ops.convert(stored, np.float32), ops.constant(np.full((16, 1, 1, 1), 0.01, np.float32)))
    summed = ops.convolution(ops.fake_quantize(planes, *ends, 256), scaled, [1, 1], [0, 0], [0, 0], [1, 1])
    last = ops.relu(ops.add(summed, ops.constant(weights(1, 16, 1, 1))))
    openvino.save_model(openvino.Model([last], [parameter]), path, compress_to_fp16=False)
    return path


def as_openvino(source: Path) -> Path:
    """The same network as OpenVINO's own files."""
    openvino = import_openvino()
    target = source.with_suffix(".xml")
    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)
    return target
