"""ONNX files with one operator many times over: what a micro-benchmark times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.runtimes import INPUT, OUTPUTS

OPSET = 18
ROW = 8
"""Elements of a softmax's row: the bins of a box side."""
ACTIVATION_SCALE, WEIGHT_SCALE = 0.02, 0.01


@dataclass(frozen=True)
class Chain:
    """A picture, a first convolution that halves it, a thinning 1x1 convolution, and then the operator again and again."""

    operator: Literal["pointwise", "dense", "depthwise", "softmax"]
    channels: int
    input_size: tuple[int, int]
    """(height, width) of the picture."""
    thinning: int
    """Stride of the 1x1 convolution after the first: the chain works on a map of input_size / 2 / thinning."""
    quantized: bool
    zero_point: int = 0
    """Of the activations of quantized chains."""


def write_chain(chain: Chain, length: int, folder: Path) -> Path:
    """The chain as an ONNX file in folder, with the inputs and outputs of a detector; quantized ones in QDQ form."""
    height, width = chain.input_size
    type_name = f"int8-{chain.zero_point}" if chain.quantized else "float"
    path = folder / f"{chain.operator}-{chain.channels}x{height}x{width}-{chain.thinning}-{type_name}-{length}.onnx"
    if not path.is_file():
        onnx.save(_Writer(chain).model(length), str(path))
    return path


class _Writer:
    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def model(self, length: int) -> onnx.ModelProto:
        chain, (height, width) = self.chain, self.chain.input_size
        last = self._quantized(INPUT)
        last = self._conv(last, 3, chain.channels, kernel=3, stride=2)
        last = self._conv(last, chain.channels, chain.channels, kernel=1, stride=chain.thinning)
        if chain.operator == "softmax":
            last = self._node("Reshape", last, self._constant("rows", np.array([1, -1, 4, ROW], np.int64)))
        for _ in range(length):
            last = self._once_more(last)
        places = (height // 2 // chain.thinning) * (width // 2 // chain.thinning)
        for name, side in zip(OUTPUTS, (4, chain.channels), strict=True):
            shape = self._constant(f"shape of {name}", np.array([1, -1, side], np.int64))
            self.nodes.append(helper.make_node("Reshape", [last, shape], [name]))
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, places * chain.channels // side, side))
            for name, side in zip(OUTPUTS, (4, chain.channels), strict=True)
        ]
        picture = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, (1, 3, height, width))
        graph = helper.make_graph(self.nodes, "chain", [picture], outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def _once_more(self, last: str) -> str:
        channels = self.chain.channels
        if self.chain.operator == "softmax":
            return self._node("Softmax", last, axis=-1)
        if self.chain.operator == "dense":
            return self._conv(last, channels, channels, kernel=3)
        if self.chain.operator == "depthwise":
            return self._conv(last, channels, channels, kernel=3, groups=channels)
        return self._conv(last, channels, channels, kernel=1)

    def _conv(self, last: str, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        weights = self.random.integers(-127, 128, (outputs, inputs // groups, kernel, kernel)).astype(np.int8)
        name = f"weights {len(self.nodes)}"
        if self.chain.quantized:
            scales = self._constant(f"{name} scales", np.full(outputs, WEIGHT_SCALE, np.float32))
            zeros = self._constant(f"{name} zeros", np.zeros(outputs, np.int8))
            stored = self._node("DequantizeLinear", self._constant(name, weights), scales, zeros, axis=0)
        else:
            stored = self._constant(name, weights.astype(np.float32) * WEIGHT_SCALE)
        sides = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        summed = self._node("Conv", last, stored, group=groups, **sides)
        return self._quantized(summed if self.chain.zero_point else self._node("Relu", summed))  # a ReLU's range begins at 0

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
