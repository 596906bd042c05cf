"""A file's nodes before fusing: constants apart, quantizations joined, what costs nothing left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Form = Literal["onnx", "openvino"]
"""Whose fusions apply: ONNX Runtime's or OpenVINO's."""
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
FREE = frozenset({"Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Dropout", "Cast"})
"""Operators that only look at the same values in another way."""


@dataclass(frozen=True)
class Layer:
    """One node of a file, constants apart. Quantize and dequantize pairs have become one layer, QUANTIZE."""

    op_type: str
    """As ONNX calls it."""
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    constants: tuple[tuple[int, ...], ...] = ()
    """Shapes of what it reads besides, the weights first."""
    int8_weights: bool = False
    zero_point: bool = False
    """Of QUANTIZE: the real value 0 is not stored as 0."""
    groups: int = 1
    strides: tuple[int, ...] = ()
    axis: int | None = None
    """Of Concat."""
    to_channels_last: bool = False
    """A transposition that moves the channels behind the places."""
    source: tuple[int, ...] = ()
    """Shape of the first tensor it reads."""
    result: tuple[int, ...] = ()
    """Shape of the first tensor it writes."""


@dataclass(frozen=True)
class Layers:
    """A file as nodes, before fusing."""

    form: Form
    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameter_bytes: int
    int8_inputs: frozenset[str] = frozenset()
    """Inputs whose bytes are int8 activations as they are."""


def simplified(file: Layers) -> Layers:
    """The same without layers that cost nothing, and with x * sigmoid(x) as one layer."""
    return _without_free(_with_swish(file))


def moves_channels_last(axes: Sequence[int]) -> bool:
    """Whether a transposition brings axis 1 to the end and keeps the order of all others."""
    return len(axes) > 2 and list(axes) == [0, *range(2, len(axes)), 1]


def _with_swish(file: Layers) -> Layers:
    """x * sigmoid(x) as one layer."""
    readers: dict[str, list[int]] = {}
    for index, layer in enumerate(file.layers):
        for name in layer.reads:
            readers.setdefault(name, []).append(index)
    layers: list[Layer | None] = list(file.layers)
    for index, layer in enumerate(file.layers):
        after = readers.get(layer.writes[0], []) if layer.op_type == "Sigmoid" else []
        if len(after) == 1 and file.layers[after[0]].op_type == "Mul" and layer.reads[0] in file.layers[after[0]].reads:
            layers[index] = None
            layers[after[0]] = replace(layer, op_type="Swish", writes=file.layers[after[0]].writes)
    return replace(file, layers=tuple(layer for layer in layers if layer is not None))


def _without_free(file: Layers) -> Layers:
    """What costs nothing left out, its readers reading what it read."""
    same: dict[str, tuple[str, ...]] = {}

    def sources(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(source for name in names for source in same.get(name, (name,)))

    kept: list[Layer] = []
    for layer in file.layers:
        own = replace(layer, reads=sources(layer.reads))
        if _free(own, file):
            same[own.writes[0]] = own.reads
        else:
            kept.append(own)
    return replace(file, layers=tuple(kept), outputs=sources(file.outputs))


def _free(layer: Layer, file: Layers) -> bool:
    if layer.op_type in FREE:
        return True
    # Turning a picture's channels to the front: OpenVINO reads it as it lies, ONNX Runtime too in int8; in float it takes 40 us.
    if layer.op_type == "Transpose" and set(layer.reads) <= set(file.inputs):
        return True
    if layer.op_type == QUANTIZE and set(layer.reads) <= file.int8_inputs:
        return True
    if file.form != "openvino":
        return False
    # OpenVINO keeps activations channels-last, and lets the parts of a Concat be written side by side where nothing varies before.
    side_by_side = layer.op_type == "Concat" and layer.axis is not None and set(file.shapes[layer.writes[0]][: layer.axis]) <= {1}
    return layer.to_channels_last or side_by_side
