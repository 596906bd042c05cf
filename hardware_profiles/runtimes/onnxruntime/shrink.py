"""The same ONNX graph in fewer bytes: what a runtime works out again when it loads the file is not stored."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.runtimes.interface import MODEL
from hardware_profiles.runtimes.writing import SMALL, constants_as_initializers, narrowest, replace_nodes

NAMED = frozenset({"Constant", "Cast", "QuantizeLinear", "DequantizeLinear"})
"""Operators whose nodes lose their names: profiles show them under the name of what they surround."""


def shrink(model: onnx.ModelProto) -> None:
    """Shorten the model in place, without changing a number that it computes.

    Names of tensors become a few letters (those of inputs and outputs stay, so do those of nodes that compute), equal constants
    are stored once, zero points of zero are left out where zero is what their absence means, and constants that fit a smaller
    type exactly are stored in it.
    """
    graph = model.graph
    constants_as_initializers(graph)
    _drop_zero_points(graph)
    _narrow_constants(graph)
    _share_equals(graph)
    del graph.value_info[:]
    del model.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        if node.op_type in NAMED:
            node.name = ""
    _shorten_names(graph)


def write_float16(float_file: Path, folder: Path) -> Path:
    """The file with float16 weights, in folder."""
    model, target = onnx.load(float_file), folder / f"{MODEL}.onnx"
    halve_weights(model)
    shrink(model)
    onnx.save(model, target)
    return target


def halve_weights(model: onnx.ModelProto) -> None:
    """Store the float32 constants of the model as float16, each with a Cast that its runtime folds when it loads the file."""
    graph = model.graph
    constants_as_initializers(graph)
    greatest, halved = float(np.finfo(np.float16).max), {}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= SMALL:
            halved[tensor.name] = np.clip(values, -greatest, greatest).astype(np.float16)
    _store_as(graph, halved)


def _drop_zero_points(graph: onnx.GraphProto) -> None:
    """Of constants that are dequantized: without a zero point it is zero, in the type of what is dequantized."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        stored = node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[0] in values
        if stored and not numpy_helper.to_array(values[node.input[2]]).any():
            del node.input[2]
    _drop_unread(graph)


def _narrow_constants(graph: onnx.GraphProto) -> None:
    """Grids of points and strides are whole or half numbers: they fit 8 or 16 bits without loss."""
    narrowed = {tensor.name: narrowest(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    _store_as(graph, {name: values for name, values in narrowed.items() if values is not None})


def _store_as(graph: onnx.GraphProto, stored: dict[str, NDArray[Any]]) -> None:
    """Replace each named float32 initializer by these values and a Cast back to float32."""
    casts = []
    for tensor in graph.initializer:
        if tensor.name in stored:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(stored[name], f"{name}/stored"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    replace_nodes(graph, [*casts, *graph.node])


def _share_equals(graph: onnx.GraphProto) -> None:
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        content = tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()
        same[tensor.name] = first.setdefault(content, tensor.name)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
    _drop_unread(graph)


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _shorten_names(graph: onnx.GraphProto) -> None:
    public = {value.name for value in (*graph.input, *graph.output)}
    fresh = (name for name in _short_names() if name not in public)
    short: dict[str, str] = {name: name for name in public} | {"": ""}

    def of(name: str) -> str:
        return short[name] if name in short else short.setdefault(name, next(fresh))

    for node in graph.node:
        node.input[:] = [of(name) for name in node.input]
        node.output[:] = [of(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = of(tensor.name)


def _short_names() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))
