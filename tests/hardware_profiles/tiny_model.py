"""A detector-shaped ONNX file small enough to be worked by hand: one 1x1 convolution, then boxes and scores per pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT_SIZE = (8, 12)
CLASSES = 2


def write_model(
    path: Path,
    seed: int = 0,
    size: tuple[int, int] = INPUT_SIZE,
    channels: int = 3,
    *,
    planes: bool = False,
    picture: str = "images",
    outputs: tuple[str, str] | None = None,
) -> Path:
    """Write the model; one point per pixel, 4 box channels and CLASSES sigmoid scores.

    It takes pictures (1, height, width, channels) uint8; with planes, (1, channels, height, width) float32 in [0, 255]. `outputs`
    are other names for scores and boxes, which come in that order then.
    """
    scores, boxes = outputs or ("scores", "boxes")
    weights, bias = parameters(seed, channels)
    points = size[0] * size[1]
    turned = [
        helper.make_node("Transpose", [picture], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["planes"], to=TensorProto.FLOAT),
    ]
    nodes = [
        *([] if planes else turned),
        helper.make_node("Conv", [picture if planes else "planes", "w", "b"], ["maps"], name="conv"),
        helper.make_node("Reshape", ["maps", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Split", ["rows", "parts"], [boxes, "logits"], axis=2),
        helper.make_node("Sigmoid", ["logits"], [scores]),
    ]
    constants = {
        "w": weights,
        "b": bias,
        "shape": np.array([1, 4 + CLASSES, points]),
        "parts": np.array([4, CLASSES]),
    }
    described = [
        helper.make_tensor_value_info(boxes, TensorProto.FLOAT, [1, points, 4]),
        helper.make_tensor_value_info(scores, TensorProto.FLOAT, [1, points, CLASSES]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(picture, TensorProto.FLOAT, [1, channels, *size])
            if planes
            else helper.make_tensor_value_info(picture, TensorProto.UINT8, [1, *size, channels])
        ],
        described[::-1] if outputs else described,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def expected(pixels: NDArray[np.uint8], seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the model computes of a picture (1, height, width, 3), in numpy."""
    weights, bias = parameters(seed)
    maps = np.einsum("oc,nhwc->nohw", weights[:, :, 0, 0], pixels.astype(np.float32)) + bias[None, :, None, None]
    rows = maps.reshape(1, 4 + CLASSES, -1).transpose(0, 2, 1)
    return rows[..., :4], 1 / (1 + np.exp(-rows[..., 4:]))


def parameters(seed: int, channels: int = 3) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (4 + CLASSES, channels, 1, 1), which bring pixels of 0 to 255 to the order of 1, and bias of the convolution."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((4 + CLASSES, channels, 1, 1)).astype(np.float32) / np.float32(255)
    return weights, random.standard_normal(4 + CLASSES).astype(np.float32)
