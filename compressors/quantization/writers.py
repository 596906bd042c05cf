"""What each runtime's own tools make of an exported detector: int8 files in given ranges, files with float16 weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from compressors.quantization import onnx_int8, openvino_int8
from compressors.quantization.calibrators import Ranges
from compressors.quantization.onnx_int8 import float_tail
from compressors.quantization.onnx_size import halve_weights, shrink
from compressors.quantization.picture_input import openvino_takes_pictures

Write = Callable[[Ranges, Iterable[str], Path], Path]
"""Ranges, nodes left float besides the tail, folder -> the int8 file in it."""


@dataclass(frozen=True)
class Tool:
    """What we know of one runtime's way to int8."""

    writer: Callable[[Path, Path, list[Any], bool], Write]
    """Float file that takes planes, the same prepared, pictures as planes, whether it was trained with rounding -> what writes
    int8 files."""
    halve: Callable[[Path, Path], Path]
    """Float file, folder -> the file with float16 weights."""
    keeps_half_stem_float: bool
    """Whether a stem that steps by 2 is faster in float."""


def _write_onnx(_float_file: Path, ready: Path, _pictures: list[Any], _trained_rounded: bool) -> Write:
    tail = float_tail(onnx.load(ready))

    def write(ranges: Ranges, left_float: Iterable[str], folder: Path) -> Path:
        onnx_int8.write_int8(ready, ranges, folder / "model.onnx", left_float=(*tail, *left_float))
        return folder / "model.onnx"

    return write


def _write_openvino(float_file: Path, _ready: Path, pictures: list[Any], trained_rounded: bool) -> Write:
    float_model, tail = openvino_int8.convert(float_file), float_tail(onnx.load(float_file))
    placed: dict[tuple[str, ...], Any] = {}

    def write(ranges: Ranges, left_float: Iterable[str], folder: Path) -> Path:
        nodes = (*tail, *left_float)
        if nodes not in placed:
            placed[nodes] = openvino_int8.quantized(float_model, pictures, nodes, corrects_biases=not trained_rounded)
        model = openvino_int8.with_ranges(placed[nodes], ranges)
        openvino_int8.write(openvino_takes_pictures(model), folder / "model.xml")
        return folder / "model.xml"

    return write


def _halve_onnx(float_file: Path, folder: Path) -> Path:
    model = onnx.load(float_file)
    halve_weights(model)
    shrink(model)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def _halve_openvino(float_file: Path, folder: Path) -> Path:
    openvino_int8.write(openvino_int8.convert(float_file), folder / "model.xml", float16=True)
    return folder / "model.xml"


TOOLS: dict[str, Tool] = {
    "onnxruntime": Tool(_write_onnx, _halve_onnx, keeps_half_stem_float=True),
    "openvino": Tool(_write_openvino, _halve_openvino, keeps_half_stem_float=False),
}
