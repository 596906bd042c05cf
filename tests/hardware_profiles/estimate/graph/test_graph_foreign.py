"""Graphs of files that are not ours: attention, sampling, computed weights. Multiply-adds by hand, or one clear refusal."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.graph.reading import read_graph, read_operators
from hardware_profiles.estimate.memory import peak_activation_bytes
from hardware_profiles.estimate.model import Operator
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import RUNTIMES
from tests.hardware_profiles.graph_factory import SHAPE, Node, as_openvino, weights, write_onnx

TOKENS, WIDTH = 6, 16
BOTH = pytest.mark.parametrize("openvino", [False, True], ids=["onnx", "openvino"])


def read(path: Path, openvino: bool) -> tuple[Operator, ...]:
    """The operators of the file, or of OpenVINO's own form of it."""
    graph = read_graph(as_openvino(path) if openvino else path)
    assert peak_activation_bytes(graph) > 0
    return graph.operators


def macs_by_type(operators: Sequence[Operator]) -> dict[str, int]:
    """ONNX name -> multiply-adds of all operators of that type; without types that have none."""
    found: dict[str, int] = {}
    for operator in operators:
        found[operator.op_type] = found.get(operator.op_type, 0) + operator.macs
    return {name: macs for name, macs in found.items() if macs}


def write_attention(path: Path, heads: int = 2) -> Path:
    """One block of self-attention over TOKENS tokens: q, k and v by a product each, softmax(q k^T) v, and a product out."""
    split = {"split": np.array([1, TOKENS, heads, WIDTH // heads]), "joined": np.array([1, TOKENS, WIDTH])}
    nodes: list[Node] = []
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            ("MatMul", ["x", f"w{name}"], f"p{name}", {}),
            ("Reshape", [f"p{name}", "split"], f"s{name}", {}),
            ("Transpose", [f"s{name}"], name, {"perm": order}),
        ]
    nodes += [
        ("MatMul", ["q", "k"], "scores", {}),
        ("Softmax", ["scores"], "shares", {"axis": -1}),
        ("MatMul", ["shares", "v"], "mixed", {}),
        ("Transpose", ["mixed"], "turned", {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["turned", "joined"], "flat", {}),
        ("MatMul", ["flat", "wo"], "y", {}),
    ]
    constants: dict[str, Any] = split | {f"w{name}": weights(WIDTH, WIDTH) for name in "qkvo"}
    return write_onnx(path, nodes, constants, {"y": (1, TOKENS, WIDTH)}, (1, TOKENS, WIDTH))


@BOTH
def test_attention_by_hand(openvino: bool, tmp_path: Path) -> None:
    """Four products with weights, 6 x 16 x 16 each; q k^T and the mix of values 2 heads x 6 x 6 x 8 each, without a weight."""
    operators = read(write_attention(tmp_path / "attention.onnx"), openvino)
    products = [operator for operator in operators if operator.macs]
    assert sorted(operator.macs for operator in products) == sorted([TOKENS * WIDTH * WIDTH] * 4 + [2 * TOKENS * TOKENS * 8] * 2)
    without = [operator for operator in products if not operator.weight_elements]
    assert [(own.input_elements, own.output_elements) for own in without] == [(2 * 96, 2 * 36), (2 * 36 + 96, 96)]
    assert "Softmax" in {operator.op_type for operator in operators}


def test_attention_with_a_transposed_operand(tmp_path: Path) -> None:
    """OpenVINO turns operands inside a product: (2, 6, 8) by (2, 6, 8) transposed, and (2, 8, 6) transposed by the same."""
    openvino = import_openvino()
    ops = importlib.import_module("openvino.opset13")
    for first, flags in (([2, TOKENS, 8], (False, True)), ([2, 8, TOKENS], (True, True))):
        left, right = ops.parameter(first, np.float32, "a"), ops.parameter([2, TOKENS, 8], np.float32, "b")
        openvino.save_model(openvino.Model([ops.matmul(left, right, *flags)], [left, right]), tmp_path / "model.xml")
        (product,) = read_operators(tmp_path / "model.xml")
        assert (product.macs, product.weight_elements) == (2 * TOKENS * TOKENS * 8, 0)


@BOTH
def test_a_constant_may_stand_on_the_left(openvino: bool, tmp_path: Path) -> None:
    """(2, 8) by (8, 4): 2 x 4 sums of 8. That 4 x 4 is also 2 x 8 is an accident and must not decide which side is summed over."""
    path = write_onnx(tmp_path / "left.onnx", [("MatMul", ["w", "x"], "y", {})], {"w": weights(2, 8)}, {"y": (2, 4)}, (8, 4))
    (product,) = read(path, openvino)
    assert (product.macs, product.weight_elements, product.input_elements) == (2 * 4 * 8, 16, 32)


@BOTH
def test_a_gemm_may_turn_its_operands(openvino: bool, tmp_path: Path) -> None:
    """x (8, 4) transposed by (8, 2): 4 x 2 sums of 8, and a bias inside."""
    nodes: list[Node] = [("Gemm", ["x", "w", "b"], "y", {"transA": 1})]
    path = write_onnx(tmp_path / "gemm.onnx", nodes, {"w": weights(8, 2), "b": weights(2)}, {"y": (4, 2)}, (8, 4))
    assert macs_by_type(read(path, openvino)) == {"MatMul" if openvino else "Gemm": 4 * 2 * 8}


@BOTH
def test_a_convolution_may_compute_its_weights(openvino: bool, tmp_path: Path) -> None:
    """Weights made from the picture: 3 x 3 x 16 x 16 at 8 x 12 positions, read as an activation and counted as no parameter."""
    nodes: list[Node] = [
        ("ReduceMean", ["x", "sides"], "mean", {}),
        ("Mul", ["mean", "w"], "made", {}),
        ("Conv", ["x", "made"], "y", {"pads": [1] * 4}),
    ]
    constants = {"sides": np.array([2, 3]), "w": weights(16, 16, 3, 3)}
    operators = read(write_onnx(tmp_path / "dynamic.onnx", nodes, constants, {"y": SHAPE}), openvino)
    (product,) = [operator for operator in operators if operator.macs]
    assert (product.macs, product.kind) == (9 * 16 * 16 * 96, "conv3x3s1")
    assert (product.weight_elements, product.input_elements) == (0, 16 * 96 + 9 * 16 * 16)
    assert (product.input_channels, product.output_channels) == (16, 16)


@BOTH
def test_a_transposed_convolution_by_hand(openvino: bool, tmp_path: Path) -> None:
    """Every one of 8 x 12 inputs is multiplied by 2 x 2 x 16 x 4 weights; in groups of 4 by a quarter of that."""
    for groups, per_group in ((1, 4), (4, 1)):
        node: Node = ("ConvTranspose", ["x", "w"], "y", {"strides": [2, 2], "group": groups})
        path = write_onnx(tmp_path / f"{groups}.onnx", [node], {"w": weights(16, per_group, 2, 2)}, {"y": (1, 4, 16, 24)})
        (product,) = read(path, openvino)
        assert product.macs == 96 * 2 * 2 * 16 * per_group
        assert (product.input_channels, product.output_channels) == (16, 4)


@BOTH
def test_parts_of_a_picture_in_the_first_axis_all_count(openvino: bool, tmp_path: Path) -> None:
    """Six windows as a batch: a convolution does its work six times."""
    node: Node = ("Conv", ["x", "w"], "y", {})
    path = write_onnx(tmp_path / "windows.onnx", [node], {"w": weights(8, 16, 1, 1)}, {"y": (6, 8, 4, 4)}, (6, 16, 4, 4))
    (product,) = read(path, openvino)
    assert product.macs == 6 * 16 * 8 * 16


@BOTH
def test_what_moves_or_samples_multiplies_nothing(openvino: bool, tmp_path: Path) -> None:
    """LayerNormalization, GridSample, TopK and Gather are read, and none of them has multiply-adds."""
    nodes: list[Any] = [
        ("LayerNormalization", ["x", "g", "b"], "n", {"axis": -1}),
        ("GridSample", ["n", "grid"], "sampled", {"align_corners": 0}),
        ("ReduceMax", ["sampled", "first"], "best", {"keepdims": 0}),
        ("Reshape", ["best", "row"], "rows", {}),
        ("TopK", ["rows", "five"], ["values", "indices"], {}),
        ("Reshape", ["x", "columns"], "table", {}),
        ("Gather", ["table", "indices"], "y", {"axis": 1}),
    ]
    constants = {
        "g": weights(12), "b": weights(12), "grid": weights(1, 4, 4, 2), "first": np.array([1]), "row": np.array([16]),
        "five": np.array([5]), "columns": np.array([16, 96]),
    }  # fmt: skip
    operators = read(write_onnx(tmp_path / "moves.onnx", nodes, constants, {"y": (16, 5), "values": (5,)}), openvino)
    assert macs_by_type(operators) == {}
    assert {"GridSample", "TopK", "Gather"} <= {operator.op_type for operator in operators}


def test_products_of_int8_activations_are_int8(tmp_path: Path) -> None:
    """Both operands quantized, and the result: the product runs in int8 as a layer with weights does."""
    nodes: list[Node] = []
    for name in "ab":
        nodes += [
            ("Sigmoid" if name == "a" else "Tanh", ["x"], f"f{name}", {}),
            ("QuantizeLinear", [f"f{name}", "s", "z"], f"q{name}", {}),
            ("DequantizeLinear", [f"q{name}", "s", "z"], f"d{name}", {}),
        ]
    nodes += [
        ("MatMul", ["da", "db"], "p", {}),
        ("QuantizeLinear", ["p", "s", "z"], "qp", {}),
        ("DequantizeLinear", ["qp", "s", "z"], "y", {}),
    ]
    constants = {"s": np.array(0.02, np.float32), "z": np.array(0, np.uint8)}
    found = read_operators(write_onnx(tmp_path / "int8.onnx", nodes, constants, {"y": (2, 4, 4)}, (2, 4, 4)))
    assert [(own.op_type, own.macs) for own in found if own.quantized] == [("MatMul", 2 * 4 * 4 * 4)]


def test_functions_of_the_file_are_opened(tmp_path: Path) -> None:
    """Exporters write parts of a network as functions of the file; what they do is counted where they are called."""
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function("local", "Product", ["a", "b"], ["c"], body, [helper.make_opsetid("", 18)])
    graph = helper.make_graph(
        [helper.make_node("Product", ["x", "x"], ["y"], domain="local")],
        "calls",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=9), tmp_path / "calls.onnx")
    assert macs_by_type(read_operators(tmp_path / "calls.onnx")) == {"MatMul": 64}


REFUSED: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any], str]] = {
    "sizes that depend on the picture": (
        [("NonZero", ["x"], "found", {}), ("Cast", ["found"], "y", {"to": TensorProto.FLOAT})],
        {},
        {"y": (4, None)},
        r"'found(:0)?', which NonZero writes, is not fixed; .* without operators whose result depends on the picture",
    ),
    "a product that is not counted": (
        [("Einsum", ["x", "x"], "y", {"equation": "nchw,nchw->nc"})],
        {},
        {"y": (1, 16)},
        "Einsum multiplies in a way that is not counted; write it as MatMul, Gemm or Conv",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@BOTH
def test_what_cannot_be_counted_is_refused_by_name(case: str, openvino: bool, tmp_path: Path) -> None:
    """One message: the file, the operator, and what to do. Counting nothing for it would be a wrong number."""
    nodes, constants, outputs, message = REFUSED[case]
    path = write_onnx(tmp_path / "model.onnx", nodes, constants, outputs)
    with pytest.raises(GraphError, match=rf"model\.(onnx|xml): .*{message}"):
        read(path, openvino)


def test_control_flow_is_refused_by_name(tmp_path: Path) -> None:
    """Which branch runs is known when it runs."""
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "branch", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 4])]
    )
    node = helper.make_node("If", ["c"], ["y"], "which", then_branch=branch, else_branch=branch)
    inputs = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
    ]
    graph = helper.make_graph([node], "asks", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "model.onnx")
    for openvino in (False, True):
        with pytest.raises(GraphError, match=r"If runs a part of the graph by what the picture holds; export without control flow"):
            read(tmp_path / "model.onnx", openvino)


def test_operators_of_another_maker_are_refused_by_name(tmp_path: Path) -> None:
    """Nobody knows the sizes of what they write."""
    graph = helper.make_graph(
        [helper.make_node("FusedGemm", ["x", "x"], ["y"], domain="com.example")],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "model.onnx")
    with pytest.raises(GraphError, match=r"model\.onnx: FusedGemm is an operator of com\.example, not of ONNX"):
        read_graph(tmp_path / "model.onnx")


def test_an_open_input_that_nothing_reads_is_named(tmp_path: Path) -> None:
    """As exported DETRs have for the size of the original picture: said in words, with the name."""
    path = write_onnx(tmp_path / "model.onnx", [("Sigmoid", ["x"], "y", {})], {}, {"y": SHAPE})
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("original_sizes", TensorProto.INT64, ["pictures", 2]))
    onnx.save(model, path)
    for openvino in (False, True):
        with pytest.raises(GraphError, match=r"'original_sizes(:0)?'.* is not fixed; export the detector with a fixed input size"):
            read(path, openvino)


def test_what_nobody_thought_of_is_one_message_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that breaks an assumption of the reader ends in a GraphError with the file's name, not in a traceback."""
    path = write_onnx(tmp_path / "model.onnx", [("Sigmoid", ["x"], "y", {})], {}, {"y": SHAPE})
    surprising = replace(RUNTIMES["onnxruntime"], read_graph=lambda _: {}["surprise"])
    monkeypatch.setitem(RUNTIMES, "onnxruntime", surprising)
    with pytest.raises(GraphError, match=r"model\.onnx: its graph is not understood \(KeyError: 'surprise'\); time it instead"):
        read_graph(path)
