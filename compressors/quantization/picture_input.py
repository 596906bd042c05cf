"""Quantized files that take pictures as they are stored: (1, height, width, 3) bytes instead of planes of floats.

Quantizers want planes (1, 3, height, width) of floats in [0, 255]. A level of 1 from 0 on makes a byte its own int8 activation, so
that afterwards nothing is left to compute at the border, where conversions took a sixth of a small network's time.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from compressors.quantization.ranges import Range
from detection.export import INPUT_NAME

PICTURE_RANGE = Range(0.0, 255.0)
"""Of the picture, whatever a calibrator saw: 256 levels, each a value that a byte has."""
CHANNELS_FIRST = (0, 3, 1, 2)
PLANES, BYTES = "planes", "bytes"


def onnx_takes_pictures(model: onnx.ModelProto) -> None:
    """Change the model in place: its input is turned into planes, and rounded by nobody."""
    graph = model.graph
    (planes,) = graph.input
    height_px, width_px = (side.dim_value for side in planes.type.tensor_type.shape.dim[2:])
    rounding = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == INPUT_NAME]
    turned = helper.make_node("Transpose", [INPUT_NAME], [BYTES], perm=CHANNELS_FIRST)
    renamed = {node.output[0]: BYTES for node in rounding}
    before = [turned]
    kept = [node for node in graph.node if node not in rounding]
    if any(INPUT_NAME in node.input for node in kept):  # a first convolution that stays float
        before.append(helper.make_node("Cast", [BYTES], [PLANES], to=TensorProto.FLOAT))
        renamed[INPUT_NAME] = PLANES
    for node in kept:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
    picture = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [1, height_px, width_px, 3])
    planes.CopyFrom(picture)
    del graph.node[:]
    graph.node.extend([*before, *kept])


def openvino_takes_pictures(model: Any) -> Any:
    """The model with the conversion before it, which its runtime leaves out where the picture is rounded by levels of 1."""
    from hardware_profiles.runtimes import import_openvino

    openvino = import_openvino()
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    picture = steps.input(INPUT_NAME)
    picture.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    picture.preprocess().convert_element_type(openvino.Type.f32)
    picture.model().set_layout(openvino.Layout("NCHW"))
    return steps.build()
