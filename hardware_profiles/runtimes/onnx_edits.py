"""Changes to the graph of an ONNX file, in place, none of which changes a number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_profiles.runtimes.onnx_signature import set_sides, sides_of
from hardware_profiles.runtimes.writing import constants_as_initializers, names_read

BY_CONTENT = frozenset({"NonMaxSuppression", "NonZero", "Unique", "Compress", "If", "Loop", "Scan"})
"""Operators that may write more or less from picture to picture."""
SHAPED = frozenset({"Reshape", "Expand", "Resize", "ConstantOfShape"})
"""Operators that read the shape to write."""
PLAIN_VALUES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
"""Attributes of Constant nodes that hold no tensor."""


def constants_apart(graph: onnx.GraphProto) -> None:
    """Make initializers of all Constant nodes, of those with plain numbers too, in place."""
    for node in graph.node:
        if node.op_type == "Constant" and (attribute := node.attribute[0]).name in PLAIN_VALUES:
            values = np.asarray(helper.get_attribute_value(attribute), PLAIN_VALUES[attribute.name])
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))
    constants_as_initializers(graph)


def keep(values: Any, wanted: Callable[[Any], bool]) -> list[str]:
    """Remove all but the wanted values from a list of the graph; the names of those removed."""
    kept = [wanted(value) for value in values]
    removed = [value.name for value, keeps in zip(values, kept, strict=True) if not keeps]
    for index in reversed([index for index, keeps in enumerate(kept) if not keeps]):
        del values[index]
    return removed


def tensors_read(graph: onnx.GraphProto) -> set[str]:
    """Names of all tensors that a node reads or that come out."""
    return {name for node in graph.node for name in names_read(node)} | {value.name for value in graph.output}


def keep_resizing(graph: onnx.GraphProto) -> None:
    """Give the Resize nodes of a converted graph the rule that they had, in place."""
    for node in (node for node in graph.node if node.op_type == "Resize"):
        rules = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        node.attribute.extend(helper.make_attribute(name, rule) for name, rule in rules.items())


def name_nodes(graph: onnx.GraphProto) -> int:
    """Name each node that has no name or that of an earlier one, in place; how many there were."""
    known, seen, named = {node.name for node in graph.node}, {""}, 0
    for index, node in enumerate(graph.node):
        if node.name in seen:
            names = (f"{node.op_type}_{number}" for number in itertools.count(index))
            node.name = next(name for name in names if name not in known)
            known.add(node.name)
            named += 1
        seen.add(node.name)
    return named


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def one_instead_of(batch: int, graph: onnx.GraphProto) -> list[str]:
    """Let shapes to write that begin with this batch begin with 1, in place; the names of the nodes that read them."""
    stored = {own.name: numpy_helper.to_array(own) for own in graph.initializer if own.data_type == TensorProto.INT64}
    changed = []
    for node in (node for node in graph.node if node.op_type in SHAPED):
        for position, name in enumerate(node.input):
            if name in stored and stored[name].ndim == 1 and stored[name][:1].tolist() == [batch]:
                node.input[position] = f"{node.name}/shape of one"
                shape = np.array([1, *stored[name][1:]], np.int64)
                graph.initializer.append(numpy_helper.from_array(shape, node.input[position]))
                changed.append(node.name)
    return changed


def note_outputs(graph: onnx.GraphProto, results: list[NDArray[Any]]) -> None:
    """Give each output the shape of its result, in place, or where that may vary with the picture what was inferred."""
    varies = any(node.op_type in BY_CONTENT for node in all_nodes(graph))
    for value, result in zip(graph.output, results, strict=True):
        inferred = sides_of(value) if len(sides_of(value)) == result.ndim else (None,) * result.ndim
        set_sides(value, inferred if varies else result.shape)
