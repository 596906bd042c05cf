"""ONNX files with one operator many times over: what a micro-benchmark times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.runtimes.table import INPUT, OUTPUTS

OPSET = 18
ROW = 8
"""Elements of a softmax's row: the bins of a box side."""
ACTIVATION_SCALE, WEIGHT_SCALE = 0.02, 0.01
LEVEL = 1.00001
"""Of a picture's bytes. Exported files have 1, which OpenVINO's reader of ONNX files takes for no scale at all, and then computes
in float; this near to it, nothing is rounded."""
CHANNELS_FIRST = (0, 3, 1, 2)
COLOURS = 3
PIXELS_PER_PLACE = 4
"""Of a first convolution that reads rows."""


@dataclass(frozen=True)
class Chain:
    """A picture, a first convolution, one over patches of 2x2 that thins the map out, and then the operator again and again.

    The picture is bytes (1, height, width, 3), as exported files take it; in quantized chains a byte is an int8 activation. The
    first convolution is 3x3 and steps by 2. ONNX Runtime's files keep that one in float; in its quantized chains it is the int8
    one that they do have, over four pixels of a row as one place, which steps by 4.
    """

    operator: Literal["pointwise", "dense", "depthwise", "softmax", "patch", "resize"]
    """`dense`: 3x3; `patch`: 2x2; `resize` is two, a Resize to twice the sides and the work of `patch` at every other place."""
    channels: int
    input_size: tuple[int, int]
    """(height, width) of the picture."""
    map_size: tuple[int, int]
    """(height, width) of what the operator works on."""
    quantized: bool
    zero_point: int = 0
    """Of the activations of quantized chains."""


def write_chain(chain: Chain, length: int, folder: Path, runtime: str) -> Path:
    """The chain as an ONNX file in folder, with the inputs and outputs of a detector; quantized ones in QDQ form.

    The runtime decides how the picture becomes int8: each takes what its exported files do for what it is.
    """
    height, width = chain.input_size
    type_name = f"int8-{chain.zero_point}" if chain.quantized else "float"
    path = folder / f"{chain.operator}-{chain.channels}x{height}x{width}-{chain.map_size[0]}-{type_name}-{length}-{runtime}.onnx"
    if not path.is_file():
        onnx.save(_Writer(chain, runtime).model(length), str(path))
    return path


class _Writer:
    def __init__(self, chain: Chain, runtime: str) -> None:
        self.chain = chain
        self.reads_rows = chain.quantized and runtime == "onnxruntime"
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def model(self, length: int) -> onnx.ModelProto:
        chain, (height, width) = self.chain, self.chain.input_size
        last = self._first()
        step_px = PIXELS_PER_PLACE if self.reads_rows else 2
        # Not 1x1: there OpenVINO picks the places before it, in float.
        last = self._conv(last, chain.channels, chain.channels, kernel=2, stride=height // step_px // chain.map_size[0])
        if chain.operator == "softmax":
            last = self._node("Reshape", last, self._constant("rows", np.array([1, -1, 4, ROW], np.int64)))
        for _ in range(length):
            last = self._once_more(last)
        places = math.prod(chain.map_size)
        for name, side in zip(OUTPUTS, (4, chain.channels), strict=True):
            shape = self._constant(f"shape of {name}", np.array([1, -1, side], np.int64))
            self.nodes.append(helper.make_node("Reshape", [last, shape], [name]))
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, places * chain.channels // side, side))
            for name, side in zip(OUTPUTS, (4, chain.channels), strict=True)
        ]
        picture = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, (1, height, width, 3))
        graph = helper.make_graph(self.nodes, "chain", [picture], outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def _first(self) -> str:
        """The first convolution's result."""
        if not self.reads_rows:
            return self._conv(self._planes(INPUT), COLOURS, self.chain.channels, kernel=3, stride=2)
        height, width = self.chain.input_size
        sizes = np.array([1, height, width // PIXELS_PER_PLACE, COLOURS * PIXELS_PER_PLACE], np.int64)
        rows = self._node("Reshape", INPUT, self._constant("places", sizes))
        column = {"kernel_shape": [PIXELS_PER_PLACE, 1], "strides": [PIXELS_PER_PLACE, 1]}
        weights = self._weights(self.chain.channels, COLOURS * PIXELS_PER_PLACE, *column["kernel_shape"])
        return self._activated(self._node("Conv", self._planes(rows), weights, **column))

    def _planes(self, pixels: str) -> str:
        """The picture with its channels in front: as numbers in [0, 255], or as int8 activations with a level of 1."""
        turned = self._node("Transpose", pixels, perm=CHANNELS_FIRST)
        level, zero = self._constant("level", np.float32(LEVEL)), self._constant("zero of bytes", np.uint8(0))
        if self.reads_rows:
            return self._node("DequantizeLinear", turned, level, zero)
        numbers = self._node("Cast", turned, to=TensorProto.FLOAT)
        if not self.chain.quantized:
            return numbers
        # OpenVINO multiplies bytes in int8 where something rounds them.
        return self._node("DequantizeLinear", self._node("QuantizeLinear", numbers, level, zero), level, zero)

    def _once_more(self, last: str) -> str:
        channels = self.chain.channels
        if self.chain.operator == "softmax":
            return self._node("Softmax", last, axis=-1)
        if self.chain.operator == "resize":
            sides = self._constant("twice the sides", np.array([1, 1, 2, 2], np.float32))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            larger = self._quantized(self._node("Resize", last, "", sides, **how))
            return self._conv(larger, channels, channels, kernel=2, stride=2)
        if self.chain.operator == "patch":
            return self._conv(last, channels, channels, kernel=2)
        if self.chain.operator == "dense":
            return self._conv(last, channels, channels, kernel=3)
        if self.chain.operator == "depthwise":
            return self._conv(last, channels, channels, kernel=3, groups=channels)
        return self._conv(last, channels, channels, kernel=1)

    def _conv(self, last: str, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        border = kernel - 1 if stride < kernel else 0  # patches that touch without overlapping fill the map
        pads = [border // 2] * 2 + [border - border // 2] * 2
        sides = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
        weights = self._weights(outputs, inputs // groups, kernel, kernel)
        return self._activated(self._node("Conv", last, weights, group=groups, **sides))

    def _weights(self, *shape: int) -> str:
        """Weights (outputs, inputs per group, height, width)."""
        weights = self.random.integers(-127, 128, shape).astype(np.int8)
        name = f"weights {len(self.nodes)}"
        if not self.chain.quantized:
            return self._constant(name, weights.astype(np.float32) * WEIGHT_SCALE)
        scales = self._constant(f"{name} scales", np.full(shape[0], WEIGHT_SCALE, np.float32))
        zeros = self._constant(f"{name} zeros", np.zeros(shape[0], np.int8))
        return self._node("DequantizeLinear", self._constant(name, weights), scales, zeros, axis=0)

    def _activated(self, summed: str) -> str:
        """A ReLU, whose range begins at 0; where activations have a zero point there is none."""
        return self._quantized(summed if self.chain.zero_point else self._node("Relu", summed))

    def _quantized(self, last: str) -> str:
        """The tensor through uint8 and back, where the chain is quantized."""
        if not self.chain.quantized:
            return last
        scale = self._constant("scale", np.float32(ACTIVATION_SCALE))
        zero = self._constant("zero", np.uint8(self.chain.zero_point))
        return self._node("DequantizeLinear", self._node("QuantizeLinear", last, scale, zero), scale, zero)

    def _node(self, op_type: str, *reads: str, **attributes: Any) -> str:
        name = f"{op_type} {len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(reads), [name], name, **attributes))
        return name

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        if all(tensor.name != name for tensor in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name
