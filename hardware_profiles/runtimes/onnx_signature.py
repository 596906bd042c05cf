"""What an ONNX file with one picture as its input takes and gives, in the words of its maker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from onnx import helper

PICTURE_CHANNELS = (1, 3, 4)
CHANNELS_TO_FRONT = [0, 3, 1, 2]
Layout = Literal["nchw", "nhwc"]
Sides = tuple[int | None, ...]
"""A shape; None where a side is open."""


class Output(NamedTuple):
    """What the file writes under one name."""

    shape: Sides
    """None where a side depends on the picture."""
    dtype: str
    """As numpy calls it."""


@dataclass(frozen=True)
class Signature:
    """Names, types and sizes of a repaired file."""

    input_name: str
    dtype: str
    """As numpy calls it."""
    layout: Layout
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    channels: int
    outputs: Mapping[str, Output]
    """In the order of the file."""


def read_signature(file: Path) -> Signature:
    """The signature of a repaired file: one input, all of its sides fixed."""
    graph = onnx.load(file, load_external_data=False).graph
    (picture,) = graph.input
    layout, (_, *sides) = layout_of(graph, picture), [side or 0 for side in sides_of(picture)]
    channels, height_px, width_px = sides if layout == "nchw" else (sides[2], *sides[:2])
    outputs = {value.name: Output(sides_of(value), dtype_of(value).name) for value in graph.output}
    return Signature(picture.name, dtype_of(picture).name, layout, (height_px, width_px), channels, outputs)


def layout_of(graph: onnx.GraphProto, picture: onnx.ValueInfoProto) -> Layout:
    """By the side that is a number of channels; where both are open, by a transposition that brings the last axis to the front."""
    _, first, _, last = sides_of(picture) or (None,) * 4
    if first in PICTURE_CHANNELS or (last is not None and last not in PICTURE_CHANNELS):
        return "nchw"
    turned = (node for node in graph.node if node.op_type == "Transpose" and picture.name in node.input)
    to_front = any(list(attribute.ints) == CHANNELS_TO_FRONT for node in turned for attribute in node.attribute)
    return "nhwc" if last is not None or to_front else "nchw"


def sides_of(value: onnx.ValueInfoProto) -> Sides:
    """The shape of an input or output; empty where the file has none."""
    return tuple(side.dim_value if side.dim_value > 0 else None for side in value.type.tensor_type.shape.dim)


def set_sides(value: onnx.ValueInfoProto, sides: Sequence[int | None]) -> None:
    """Replace the shape of an input or output, in place."""
    value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, sides))


def dtype_of(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The element type of an input or output."""
    dtype: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return dtype
