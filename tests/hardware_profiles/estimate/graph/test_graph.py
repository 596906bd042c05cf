"""Graphs of exported files: what runs as one operator, what runs at all, and in which type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.graph.reading import read_graph, read_operators
from tests.hardware_profiles.graph_factory import SHAPE, Node, as_openvino, weights, write_int8, write_int8_openvino, write_onnx

PLACES = 8 * 12


def convolution(name: str, reads: str, outputs: int = 16, inputs: int = 16, kernel: int = 1, **attributes: Any) -> tuple[Node, Any]:
    """A convolution without bias and its weights, padded to keep the size at stride 1."""
    own = {"pads": [kernel // 2] * 4} | attributes
    return ("Conv", [reads, f"w{name}"], name, own), weights(outputs, inputs, kernel, kernel)


def write(path: Path, nodes: list[Node], constants: dict[str, Any], outputs: dict[str, Any]) -> Path:
    return write_onnx(path / "model.onnx", nodes, constants, outputs)


@pytest.mark.parametrize(
    ("attributes", "outputs", "inputs", "kernel", "kind", "macs"),
    [
        ({}, 16, 16, 3, "conv3x3s1", 9 * 16 * 16 * PLACES),
        ({"strides": [2, 2]}, 16, 16, 3, "conv_other", 9 * 16 * 16 * PLACES // 4),
        ({}, 32, 16, 1, "conv1x1", 16 * 32 * PLACES),
        ({}, 16, 16, 5, "conv_other", 25 * 16 * 16 * PLACES),
        ({"group": 16}, 16, 1, 3, "depthwise", 9 * 16 * PLACES),
        ({"group": 4}, 16, 4, 3, "conv_other", 9 * 4 * 16 * PLACES),
    ],
)
def test_classes_and_products_by_hand(
    tmp_path: Path, attributes: dict[str, Any], outputs: int, inputs: int, kernel: int, kind: str, macs: int
) -> None:
    """Kernel area times inputs (per group) times outputs times places; only dense 3x3 at stride 1 is of that class."""
    node, kernel_weights = convolution("y", "x", outputs, inputs, kernel, **attributes)
    side = 2 if "strides" in attributes else 1
    path = write(tmp_path, [node], {"wy": kernel_weights}, {"y": (1, outputs, 8 // side, 12 // side)})
    (found,) = read_operators(path)
    assert (found.kind, found.macs, found.weight_elements) == (kind, macs, kernel_weights.size)
    assert (found.input_channels, found.output_channels) == (16, outputs)
    assert (found.input_elements, found.output_elements) == (16 * PLACES, outputs * PLACES // side**2)


def test_a_convolution_its_normalisation_and_its_activation_are_one(tmp_path: Path) -> None:
    """Conv, BatchNormalization and Relu run as one operator, in both runtimes."""
    node, kernel = convolution("c", "x")
    nodes = [node, ("BatchNormalization", ["c", "g", "b", "m", "v"], "n", {}), ("Relu", ["n"], "y", {})]
    path = write(tmp_path, nodes, {"wc": kernel} | {name: weights(16) for name in "gbmv"}, {"y": SHAPE})
    assert [found.op_type for found in read_operators(path)] == ["Conv"]
    assert [found.op_type for found in read_operators(path, "openvino")] == ["Conv"]


def test_an_activation_that_others_pass_by_stays_alone(tmp_path: Path) -> None:
    """Where the convolution's result is read twice, its activation cannot run inside it."""
    node, kernel = convolution("c", "x")
    path = write(tmp_path, [node, ("Relu", ["c"], "r", {}), ("Add", ["c", "r"], "y", {})], {"wc": kernel}, {"y": SHAPE})
    assert [found.op_type for found in read_operators(path)] == ["Conv", "Relu", "Add"]


@pytest.mark.parametrize(("activated", "left"), [(False, ["Conv"]), (True, ["Conv", "Add"])])
def test_a_sum_joins_a_convolution_without_activation(tmp_path: Path, activated: bool, left: list[str]) -> None:
    """x + conv(x) is one operator; x + relu(conv(x)) is two: an activated result is added by an operator of its own."""
    node, kernel = convolution("c", "x")
    nodes = [node, *([("Relu", ["c"], "r", {})] if activated else []), ("Add", ["x", "r" if activated else "c"], "y", {})]
    found = read_operators(write(tmp_path, nodes, {"wc": kernel}, {"y": SHAPE}))
    assert [operator.op_type for operator in found] == left
    assert found[-1].input_elements == (2 if activated else 1) * 16 * PLACES  # the same x, read by conv and sum


def test_onnxruntime_agrees_about_sums(tmp_path: Path) -> None:
    """The graph that ONNX Runtime executes has two convolutions and no addition for a + conv(a), where a is a convolution too."""
    (first, kernel), (second, _) = convolution("a", "x", kernel=3), convolution("b", "r", kernel=3)
    nodes = [first, ("Relu", ["a"], "r", {}), second, ("Add", ["r", "b"], "y", {})]
    path = write(tmp_path, nodes, {"wa": kernel, "wb": kernel}, {"y": SHAPE})
    executed = [name for name in executed_by_onnxruntime(path, tmp_path) if not name.startswith("Reorder")]
    assert executed == [found.op_type for found in read_operators(path)] == ["Conv", "Conv"]


def executed_by_onnxruntime(path: Path, folder: Path) -> list[str]:
    """Operators of the graph after all optimisations."""
    import onnx

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_what_costs_nothing_is_left_out(tmp_path: Path) -> None:
    """Reshape, Squeeze and shapes computed on the way are no operators; what reads them reads their source."""
    nodes: list[Node] = [
        ("Shape", ["x"], "s", {}),
        ("Slice", ["s", "zero", "two"], "head", {}),
        ("Concat", ["head", "minus"], "target", {"axis": 0}),
        ("Reshape", ["x", "target"], "flat", {}),
        ("Sigmoid", ["flat"], "y", {}),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "minus": np.array([-1])}
    graph = read_graph(write(tmp_path, nodes, constants, {"y": (1, 16, PLACES)}))
    assert [step.operator.op_type for step in graph.steps] == ["Sigmoid"]
    assert graph.steps[0].reads == ("x",)


def test_swish_is_one_operator_in_one_runtime_and_none_in_the_other(tmp_path: Path) -> None:
    """x * sigmoid(x) behind a convolution: ONNX Runtime runs it beside the convolution, OpenVINO inside."""
    node, kernel = convolution("c", "x")
    nodes = [node, ("Sigmoid", ["c"], "g", {}), ("Mul", ["c", "g"], "y", {})]
    path = write(tmp_path, nodes, {"wc": kernel}, {"y": SHAPE})
    assert [found.op_type for found in read_operators(path)] == ["Conv", "Swish"]
    assert [found.op_type for found in read_operators(path, "openvino")] == ["Conv"]


def test_openvino_writes_parts_of_a_concat_side_by_side(tmp_path: Path) -> None:
    """Joining channels of one picture moves nothing in OpenVINO; in ONNX Runtime it is an operator."""
    (first, kernel), (second, _) = convolution("a", "x"), convolution("b", "x")
    nodes = [first, second, ("Concat", ["a", "b"], "j", {"axis": 1}), ("Sigmoid", ["j"], "y", {})]
    path = write(tmp_path, nodes, {"wa": kernel, "wb": kernel}, {"y": (1, 32, 8, 12)})
    assert [found.op_type for found in read_operators(path)] == ["Conv", "Conv", "Concat", "Sigmoid"]
    assert [found.op_type for found in read_operators(path, "openvino")] == ["Conv", "Conv", "Sigmoid"]


def test_quantizations_count_where_float_and_int8_meet(tmp_path: Path) -> None:
    """Into int8 at the picture, out of it before the float convolution; between int8 convolutions they are part of them."""
    found = read_operators(write_int8(tmp_path / "int8.onnx"))
    assert [(operator.op_type, operator.quantized) for operator in found] == [
        ("QuantizeLinear", False),
        ("Conv", True),
        ("Conv", True),
        ("DequantizeLinear", False),
        ("Conv", False),
    ]


def test_openvino_leaves_int8_without_an_operator(tmp_path: Path) -> None:
    """Its own file: the last int8 convolution writes floats by itself, so only the picture is turned by an operator."""
    found = read_operators(write_int8_openvino(tmp_path / "int8.xml"))
    assert [(operator.op_type, operator.quantized) for operator in found] == [
        ("QuantizeLinear", False),
        ("Conv", True),
        ("Conv", True),
        ("Conv", False),
    ]
    assert [operator.weight_elements for operator in found[1:]] == [256 + 16] * 3


def test_zero_points_are_noticed(tmp_path: Path) -> None:
    """A range that begins below 0 without symmetry has a zero point; it matters to kernels that reach over the border."""
    files = {
        write_int8(tmp_path / "none.onnx", zero=0, kernel=3): False,
        write_int8(tmp_path / "some.onnx", zero=77, kernel=3): True,
        write_int8(tmp_path / "inside.onnx", zero=77, kernel=1): False,
        write_int8_openvino(tmp_path / "none.xml", low=0.0, kernel=3): False,
        write_int8_openvino(tmp_path / "symmetric.xml", low=-5.14, kernel=3): False,
        write_int8_openvino(tmp_path / "some.xml", low=-2.0, kernel=3): True,
    }
    for path, expected in files.items():
        assert [operator.zero_point for operator in read_operators(path) if operator.quantized] == [expected] * 2, path.name


def test_int8_weights_are_counted_in_bytes(tmp_path: Path) -> None:
    """Two int8 kernels of 256 bytes, one of 1,024 in float, and scales, zero points and a bias as they are stored."""
    graph = read_graph(write_int8(tmp_path / "int8.onnx"))
    assert graph.parameter_bytes == 2 * 256 + 4 * 256 + 4 + 1 + 4 * 16 + 16 + 4 * 16
    assert graph.tensor_bytes["q1"] == 16 * PLACES
    assert graph.tensor_bytes["x"] == 4 * 16 * PLACES


def test_both_forms_of_a_float_file_agree(tmp_path: Path) -> None:
    """The same operators from ONNX and from OpenVINO's own file, where neither fuses more than the other."""
    (first, kernel), (second, small) = convolution("a", "x", kernel=3), convolution("b", "r", outputs=8)
    nodes = [first, ("Relu", ["a"], "r", {}), second, ("Sigmoid", ["b"], "y", {})]
    path = write(tmp_path, nodes, {"wa": kernel, "wb": small}, {"y": (1, 8, 8, 12)})
    assert read_operators(path, "openvino") == read_operators(as_openvino(path))


def test_zeros_in_weights_change_nothing(tmp_path: Path) -> None:
    """Unstructured sparsity: three quarters of the weights set to zero are the same operators, and so the same estimate."""
    node, kernel = convolution("y", "x", kernel=3)
    dense = read_operators(write(tmp_path, [node], {"wy": kernel}, {"y": SHAPE}))
    sparse = kernel * (np.arange(kernel.size).reshape(kernel.shape) % 4 == 0)
    assert read_operators(write(tmp_path, [node], {"wy": sparse.astype(np.float32)}, {"y": SHAPE})) == dense


def test_dead_nodes_do_not_run(tmp_path: Path) -> None:
    """What no output depends on is no operator."""
    node, kernel = convolution("unused", "x")
    path = write(tmp_path, [node, ("Sigmoid", ["x"], "y", {})], {"wunused": kernel}, {"y": SHAPE})
    assert [found.op_type for found in read_operators(path)] == ["Sigmoid"]


def test_unreadable_files_say_so(tmp_path: Path) -> None:
    """Missing, of another kind, broken, or of open size: one message with the file's name."""
    node, kernel = convolution("y", "x")
    open_size = write_onnx(tmp_path / "open.onnx", [node], {"wy": kernel}, {"y": (1, 16, None, 12)}, (1, 16, "height", 12))
    (tmp_path / "broken.onnx").write_text("no model")
    (tmp_path / "broken.xml").write_text("no model")
    (tmp_path / "model.tflite").write_text("")
    for name, message in {
        "absent.onnx": "no such file",
        "model.tflite": "not from .tflite",
        "broken.onnx": "not a readable ONNX file",
        "broken.xml": "not a readable OpenVINO file",
        open_size.name: "is not fixed; export the detector with a fixed input size",
    }.items():
        with pytest.raises(GraphError, match=f"{name}.*{message}"):
            read_graph(tmp_path / name)
