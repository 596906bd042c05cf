"""The border of a graph: a picture of bytes costs nothing where a runtime reads it as it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from hardware_profiles.estimate.graph.layers import moves_channels_last
from hardware_profiles.estimate.graph.reading import read_graph, read_operators
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from tests.hardware_profiles.graph_factory import (
    PICTURE,
    as_openvino,
    write_int8_picture,
    write_int8_picture_openvino,
    write_onnx,
    write_picture,
)

PLACES = 8 * 12


def run_by_onnxruntime(path: Path, folder: Path) -> list[str]:
    """Operators of the graph after all optimisations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def run_by_openvino(path: Path) -> tuple[set[str], set[str]]:
    """Kinds of the file's nodes that run, alone or inside others, and the types that convolutions compute in."""
    compiled = import_openvino().Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    names = [name for info in found for name in info["originalLayersNames"].astype(str).split(",")]
    types = {info["runtimePrecision"].astype(str) for info in found if info["layerType"].astype(str) == "Convolution"}
    return {name.partition("_")[0] for name in names}, types


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_turning_a_picture_is_free(runtime: str, tmp_path: Path) -> None:
    """Transposed and made float, a picture is read by the first convolution itself: three channels, 288 values."""
    (found,) = read_operators(write_picture(tmp_path / "model.onnx"), runtime)
    assert (found.op_type, found.quantized) == ("Conv", False)
    assert (found.input_channels, found.input_elements) == (3, 3 * PLACES)
    assert found.macs == 9 * 3 * 16 * PLACES


def test_turning_a_picture_is_free_in_openvinos_own_file(tmp_path: Path) -> None:
    """Its IR of the same network reads as the same operator."""
    path = write_picture(tmp_path / "model.onnx")
    assert read_operators(as_openvino(path)) == read_operators(path, "openvino")


def test_turning_anything_else_is_an_operator(tmp_path: Path) -> None:
    """The same transposition of what a network computed moves every value."""
    nodes: list[Any] = [("Sigmoid", ["x"], "s", {}), ("Transpose", ["s"], "y", {"perm": [0, 3, 1, 2]})]
    path = write_onnx(tmp_path / "model.onnx", nodes, {}, {"y": (1, 3, 8, 12)}, PICTURE)
    for runtime in ("onnxruntime", "openvino"):
        assert [found.op_type for found in read_operators(path, runtime)] == ["Sigmoid", "Transpose"]


def test_bytes_are_int8_activations(tmp_path: Path) -> None:
    """Dequantized without having been quantized, a picture feeds an int8 convolution, and takes a byte for each value."""
    path = write_int8_picture(tmp_path / "model.onnx")
    graph = read_graph(path)
    assert [(step.operator.op_type, step.operator.quantized) for step in graph.steps] == [("Conv", True), ("Conv", True)]
    assert graph.steps[0].reads == ("x",)
    assert graph.tensor_bytes["x"] == 3 * PLACES
    assert not any(step.operator.zero_point for step in graph.steps)


def test_onnxruntime_agrees_about_bytes(tmp_path: Path) -> None:
    """The graph that it runs quantizes nothing, and has as many convolutions, all of them of integers."""
    executed = run_by_onnxruntime(write_int8_picture(tmp_path / "model.onnx"), tmp_path)
    assert executed.count("QLinearConv") == 2
    assert not {"Conv", "QuantizeLinear"} & set(executed)


def test_a_float_stem_reads_floats(tmp_path: Path) -> None:
    """Where the first convolution stays float, the picture is cast for nothing, and what follows is quantized by an operator."""
    graph = read_graph(write_int8_picture(tmp_path / "model.onnx", float_stem=True))
    assert [(step.operator.op_type, step.operator.quantized) for step in graph.steps] == [
        ("Conv", False),
        ("QuantizeLinear", False),
        ("Conv", True),
    ]
    assert graph.tensor_bytes["x"] == 4 * 3 * PLACES


def test_openvino_leaves_out_rounding_in_steps_of_one(tmp_path: Path) -> None:
    """256 levels from 0 to 255 are a byte's own: neither the reader nor the runtime has an operator but the int8 convolution."""
    path = write_int8_picture_openvino(tmp_path / "model.xml")
    assert [(found.op_type, found.quantized) for found in read_operators(path)] == [("Conv", True)]
    kinds, types = run_by_openvino(path)
    assert "FakeQuantize" not in kinds
    assert types == {"u8"}


@pytest.mark.parametrize(
    ("low", "high", "taken"),
    [(0.0, 200.0, np.uint8), (-1.0, 254.0, np.uint8), (0.0, 255.0, np.float32)],
    ids=["another step", "another beginning", "floats"],
)
def test_other_ranges_stay_an_operator(tmp_path: Path, low: float, high: float, taken: type[np.generic]) -> None:
    """Steps of less than 1, levels that no byte has, and a picture of floats: each has to be rounded before it is int8."""
    path = write_int8_picture_openvino(tmp_path / "model.xml", low, high, taken)
    assert [(found.op_type, found.quantized) for found in read_operators(path)] == [("QuantizeLinear", False), ("Conv", True)]
    kinds, types = run_by_openvino(path)
    assert "FakeQuantize" in kinds
    assert types == {"u8"}


@pytest.mark.parametrize("ends_in", [np.uint8, np.float16])
def test_ranges_may_be_stored_narrower(tmp_path: Path, ends_in: type[np.generic]) -> None:
    """Where 0 and 255 are stored in a narrower type and widened by a Convert, the range is read all the same."""
    path = write_int8_picture_openvino(tmp_path / "model.xml", ends_in=ends_in)
    assert [found.op_type for found in read_operators(path)] == ["Conv"]
    assert "FakeQuantize" not in run_by_openvino(path)[0]


@pytest.mark.parametrize(("axes", "moves"), [((0, 2, 3, 1), True), ((0, 2, 1), True), ((0, 3, 1, 2), False), ((1, 0), False)])
def test_channels_move_behind_the_places(axes: tuple[int, ...], moves: bool) -> None:
    """Only axis 1 goes to the end; all others keep their order."""
    assert moves_channels_last(axes) is moves
