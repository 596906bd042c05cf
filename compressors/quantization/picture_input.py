"""Quantized files that take pictures as they are stored: (1, height, width, 3) bytes instead of planes of floats.

Quantizers want planes of floats in [0, 255], (1, channels, height, places of a row). A level of 1 from 0 on makes a byte its own
int8 activation, so that afterwards nothing is left to compute at the border, where conversions took a sixth of a small network's
time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compressors.quantization.calibrators import Range
from detection.export import INPUT_NAME

PICTURE_RANGE = Range(0.0, 255.0)
"""Of the picture, whatever a calibrator saw: 256 levels, each a value that a byte has."""
CHANNELS_FIRST = (0, 3, 1, 2)
COLOURS = 3
PLANES, BYTES, PLACES, PLACES_SHAPE = "planes", "bytes", "places", "shape of places"


def as_planes(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture (height, width, 3) as a float file takes its planes, (1, channels, height, places of a row)."""
    height_px, places, channels = _sizes(model.graph.input[0])
    return np.ascontiguousarray(pixels.reshape(height_px, places, channels).transpose(2, 0, 1)[None], dtype=np.float32)


def onnx_takes_pictures(model: onnx.ModelProto) -> None:
    """Change the model in place: its input is turned into planes, and rounded by nobody."""
    graph = model.graph
    (planes,) = graph.input
    height_px, places, channels = _sizes(planes)
    rounding = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == INPUT_NAME]
    before = []
    if channels != COLOURS:
        graph.initializer.append(numpy_helper.from_array(np.array([1, height_px, places, channels], np.int64), PLACES_SHAPE))
        before.append(helper.make_node("Reshape", [INPUT_NAME, PLACES_SHAPE], [PLACES]))
    before.append(helper.make_node("Transpose", [PLACES if before else INPUT_NAME], [BYTES], perm=CHANNELS_FIRST))
    renamed = {node.output[0]: BYTES for node in rounding}
    kept = [node for node in graph.node if node not in rounding]
    if any(INPUT_NAME in node.input for node in kept):  # a first convolution that stays float
        before.append(helper.make_node("Cast", [BYTES], [PLANES], to=TensorProto.FLOAT))
        renamed[INPUT_NAME] = PLANES
    for node in kept:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
    width_px = places * channels // COLOURS
    picture = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [1, height_px, width_px, COLOURS])
    planes.CopyFrom(picture)
    del graph.node[:]
    graph.node.extend([*before, *kept])


def openvino_takes_pictures(model: Any) -> Any:
    """A model with the conversion before it, which its runtime leaves out where the picture is rounded by levels of 1.

    The given one is changed as well, and no longer of use.
    """
    from hardware_profiles.runtimes.table import import_openvino

    openvino = import_openvino()
    ops, planes = openvino.opset13, model.input(INPUT_NAME).get_node()
    _, channels, height_px, places = planes.get_output_shape(0)
    picture = ops.parameter([1, height_px, places * channels // COLOURS, COLOURS], openvino.Type.u8, name=INPUT_NAME)
    taken = picture
    if channels != COLOURS:
        taken = ops.reshape(taken, ops.constant(np.array([1, height_px, places, channels], np.int64)), special_zero=False)
    turned = ops.transpose(ops.convert(taken, "f32"), ops.constant(np.array(CHANNELS_FIRST, np.int64)))
    planes.output(0).replace(turned.output(0))
    picture.output(0).set_names({INPUT_NAME})
    return openvino.Model(model.outputs, [picture])


def _sizes(planes: onnx.ValueInfoProto) -> tuple[int, int, int]:
    """(height, places of a row, channels)."""
    _, channels, height_px, places = (side.dim_value for side in planes.type.tensor_type.shape.dim)
    return height_px, places, channels
