"""A file's nodes before fusing: constants apart, quantizations joined, what costs nothing left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardware_profiles.estimate.graph.graph import GraphError

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
FREE = frozenset({"Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Dropout", "Cast"})
"""Operators that only look at the same values in another way."""
BRANCHING = frozenset({"If", "Loop", "Scan", "SequenceMap", "TensorIterator"})
UNCOUNTED = frozenset(
    {"Attention", "ScaledDotProductAttention", "Einsum", "DeformConv", "DeformableConvolution", "QLinearConv", "QLinearMatMul"}
    | {"ConvInteger", "MatMulInteger", "LSTM", "GRU", "RNN", "LSTMSequence", "GRUSequence", "RNNSequence"}
)
"""Products that no detector read so far has had. Counting none of their multiply-adds would be a wrong number."""


@dataclass(frozen=True)
class Layer:
    """One node of a file, constants apart. Quantize and dequantize pairs have become one layer, QUANTIZE."""

    op_type: str
    """As ONNX calls it."""
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    constants: tuple[tuple[int, ...], ...] = ()
    """Shapes of the constants that it reads besides."""
    macs: int = 0
    """Multiply-adds of a product; see `product_macs`."""
    kernel: tuple[int, ...] = ()
    """Of a convolution: (outputs, inputs of a group, *sides), transposed ones (inputs, outputs of a group, *sides)."""
    int8_weights: bool = False
    """Of a product: its second operand is int8 where it is constant; where it is computed, `reads` say that."""
    zero_point: bool = False
    """Of QUANTIZE: the real value 0 is not stored as 0."""
    groups: int = 1
    strides: tuple[int, ...] = ()
    axis: int | None = None
    """Of Concat."""
    to_channels_last: bool = False
    """A transposition that moves the channels behind the positions."""
    source: tuple[int, ...] = ()
    """Shape of the first tensor it reads; of a product, of its first operand, constant or not."""
    result: tuple[int, ...] = ()
    """Shape of the first tensor it writes."""


@dataclass(frozen=True)
class Fusions:
    """What a runtime executes as one operator, and what it does not execute at all."""

    activations: frozenset[str]
    """Run inside the convolution before them."""
    int8_adds: bool = False
    """A sum joins an int8 convolution too, and the results of one may be float."""
    int8_moves: bool = False
    """What only moves int8 values writes int8 values, without a pair of quantizations around it."""
    channels_last: bool = False
    """Activations lie channels-last, and parts of a Concat are written next to each other where nothing varies before its axis."""


@dataclass(frozen=True)
class Layers:
    """A file as nodes, before fusing."""

    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameter_bytes: int
    int8_inputs: frozenset[str] = frozenset()
    """Inputs whose bytes are int8 activations as they are."""


def product_macs(op_type: str, operands: Sequence[tuple[int, ...]], result: tuple[int, ...], transposed: bool = False) -> int:
    """Multiply-adds of a product, by the shapes of its two operands, constant or computed; `transposed`: the first one is.

    Convolutions take weights as `Layer.kernel` has them.
    """
    first, second = operands
    if op_type in ("MatMul", "Gemm"):
        return math.prod(result) * first[-2 if transposed and len(first) > 1 else -1]
    return result[0] * math.prod(second) * math.prod(first[2:] if op_type == "ConvTranspose" else result[2:])


def refuse_uncounted(path: Path, op_type: str, *, is_constant: bool) -> None:
    """GraphError for an operator that decides at run time what is computed, or multiplies in a way that is not counted here."""
    if op_type in BRANCHING:
        raise GraphError(f"{path}: {op_type} runs a part of the graph by what the picture holds; export without control flow")
    if op_type in UNCOUNTED and not is_constant:
        raise GraphError(f"{path}: {op_type} multiplies in a way that is not counted; write it as MatMul, Gemm or Conv")


def open_size(path: Path, name: str, op_type: str | None = None) -> GraphError:
    """The error for a tensor whose size is not in the file."""
    writer = f", which {op_type} writes," if op_type else ""
    return GraphError(
        f"{path}: the size of {name!r}{writer} is not fixed; export the detector with a fixed input size, "
        f"and without operators whose result depends on the picture (NonZero, NonMaxSuppression)"
    )


def moves_channels_last(axes: Sequence[int]) -> bool:
    """Whether a transposition brings axis 1 to the end and keeps the order of all others."""
    return len(axes) > 2 and list(axes) == [0, *range(2, len(axes)), 1]


def readers_in(file: Layers) -> dict[str, list[int]]:
    """Tensor -> indices of the layers that read it, one twice where it reads it twice."""
    readers: dict[str, list[int]] = {}
    for index, layer in enumerate(file.layers):
        for name in layer.reads:
            readers.setdefault(name, []).append(index)
    return readers


def with_swish(file: Layers) -> Layers:
    """x * sigmoid(x) as one layer."""
    readers = readers_in(file)
    layers: list[Layer | None] = list(file.layers)
    for index, layer in enumerate(file.layers):
        after = readers.get(layer.writes[0], []) if layer.op_type == "Sigmoid" else []
        if len(after) == 1 and file.layers[after[0]].op_type == "Mul" and layer.reads[0] in file.layers[after[0]].reads:
            layers[index] = None
            layers[after[0]] = replace(layer, op_type="Swish", writes=file.layers[after[0]].writes)
    return replace(file, layers=tuple(layer for layer in layers if layer is not None))


def without_free(file: Layers, fusions: Fusions) -> Layers:
    """The file without what costs nothing, whose readers read what it read."""
    same: dict[str, tuple[str, ...]] = {}

    def sources(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(source for name in names for source in same.get(name, (name,)))

    kept: list[Layer] = []
    for layer in file.layers:
        own = replace(layer, reads=sources(layer.reads))
        if _free(own, file, fusions):
            # What a Reshape reads besides says into which shape.
            same[own.writes[0]] = own.reads if layer.op_type == "Concat" else sources(layer.reads[:1])
        else:
            kept.append(own)
    return replace(file, layers=tuple(kept), outputs=sources(file.outputs))


def _free(layer: Layer, file: Layers, fusions: Fusions) -> bool:
    if layer.op_type in FREE:
        return True
    # A picture's channels to the front: OpenVINO reads it as it lies, ONNX Runtime too in int8; in float it takes 40 us.
    if layer.op_type == "Transpose" and set(layer.reads) <= set(file.inputs):
        return True
    if layer.op_type == QUANTIZE and set(layer.reads) <= file.int8_inputs:
        return True
    if not fusions.channels_last:
        return False
    adjacent = layer.op_type == "Concat" and layer.axis is not None and set(file.shapes[layer.writes[0]][: layer.axis]) <= {1}
    return layer.to_channels_last or adjacent
