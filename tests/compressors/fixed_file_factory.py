"""A user's detector that sees the same boxes in every picture, as an ONNX file and as a detector of that family."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detection.checkpoint import Detector
from detection.family import family_named
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, PictureForm
from detection.spec import Spec

SIZE = (32, 48)
"""(height, width) of its input, half of the tiny detector's."""
DECODE: dict[str, Any] = {"boxes": {"outputs": ["boxes"], "form": "xyxy"}, "scores": {"outputs": ["scores"]}}
Seen = list[tuple[tuple[float, float, float, float], tuple[float, ...]]]
"""Boxes xyxy in pixels of its input, and a score for each class."""


def write_fixed(path: Path, seen: Seen, size: tuple[int | str, int | str] = SIZE) -> Path:
    """The file: float planes in, `boxes` and `scores` out; a side that is a word is open."""
    constants = {
        "known_boxes": np.array([[box for box, _ in seen]], np.float32),
        "known_scores": np.array([[scores for _, scores in seen]], np.float32),
        "nothing": np.zeros((1, 1, 1), np.float32),
        "shape": np.array([1, 1, 1]),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["number"]),
        helper.make_node("Mul", ["number", "nothing"], ["zero"]),
        helper.make_node("Add", ["known_boxes", "zero"], ["boxes"]),
        helper.make_node("Add", ["known_scores", "zero"], ["scores"]),
    ]
    shapes = {"images": [1, 3, *size], "boxes": constants["known_boxes"].shape, "scores": constants["known_scores"].shape}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "fixed", [values["images"]], [values["boxes"], values["scores"]], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def fixed_detector(path: Path, seen: Seen, classes: tuple[str, ...], select: str = "nms") -> Detector:
    """A detector that is such a file, written to the path."""
    content = write_fixed(path, seen).read_bytes()
    family = family_named("onnx")
    assert family.from_file is not None
    interface = FileInterface(
        layout="nchw", dtype="float32", picture=PictureForm(), outputs=("boxes", "scores"), classes=len(classes),
        decoding=Decoding.model_validate(DECODE | {"select": select}),
    )  # fmt: skip
    settings = family.settings.model_validate({
        "source": "0" * 64, "size_bytes": len(content), "interface": interface, "params": 0, "macs": 0,
    })  # fmt: skip
    spec = Spec(family="onnx", classes=classes, input_size=SIZE, settings=settings)
    return Detector(spec, MappingProxyType(dict(family.from_file(content))))
