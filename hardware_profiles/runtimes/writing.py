"""What the writers of all runtimes share: pictures as planes, constants in narrow types, tools that keep quiet.

Quantizers want planes of floats in [0, 255], (1, channels, height, positions of a row). Their int8 files take pictures as they are
stored, (1, height, width, 3) bytes: a level of 1 from 0 on makes a byte its own int8 activation, so that nothing is left to compute
at the border, where conversions took a sixth of a small network's time.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

CHANNELS_FIRST = (0, 3, 1, 2)
SMALL = 64
"""Constants of fewer elements stay as they are: a Cast costs about as many bytes as it saves there."""


def as_planes(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture (height, width, 3) as a float file takes its planes, (1, channels, height, positions of a row)."""
    height_px, positions, channels = planes_size(model.graph.input[0])
    return np.ascontiguousarray(pixels.reshape(height_px, positions, channels).transpose(2, 0, 1)[None], dtype=np.float32)


def planes_size(planes: onnx.ValueInfoProto) -> tuple[int, int, int]:
    """(height, positions of a row, channels)."""
    _, channels, height_px, positions = (side.dim_value for side in planes.type.tensor_type.shape.dim)
    return height_px, positions, channels


def narrowest(values: NDArray[np.float32]) -> NDArray[Any] | None:
    """The same values in the first of int8, uint8 and float16 that holds them all exactly; None where none does, or for few."""
    if values.dtype != np.float32 or values.size < SMALL:
        return None
    for smaller in (np.int8, np.uint8, np.float16):
        with np.errstate(over="ignore", invalid="ignore"):
            cast = values.astype(smaller)
        if np.array_equal(cast.astype(np.float32), values):
            return cast
    return None


def constants_as_initializers(graph: onnx.GraphProto) -> None:
    """Move the tensors of Constant nodes to the initializers, in place, so that all constants are in one list."""
    rest = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            rest.append(node)
    replace_nodes(graph, rest)


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put these nodes, some of them the graph's own, in place of all that it has."""
    del graph.node[:]
    graph.node.extend(nodes)


def names_read(node: onnx.NodeProto) -> set[str]:
    """Tensors that the node reads, with what the graphs inside it (of If, Loop, Scan) read from around them."""
    names = {name for name in node.input if name}
    for graph in (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)):
        inside = {name for own in graph.node for name in names_read(own)} | {value.name for value in graph.output}
        written = {name for own in graph.node for name in own.output}
        names |= inside - written - {value.name for value in (*graph.input, *graph.initializer)}
    return names


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The tools print their own progress; the node's log has one line from us instead."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
