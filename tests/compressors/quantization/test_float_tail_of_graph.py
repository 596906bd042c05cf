"""The float tail of heads of every kind, by hand: node names are chosen so that they say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compressors.quantization.float_tail import float_tail_of_graph

Nodes = list[onnx.NodeProto]
Constants = dict[str, NDArray[Any]]
BINS = 16
RAMP = np.arange(BINS, dtype=np.float32)


def weights(*shape: int) -> NDArray[np.float32]:
    """As training leaves them."""
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


W = weights(16, 16, 1, 1)
M = weights(16, 16)


def node(kind: str, reads: str, writes: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after the first that it writes."""
    outputs = writes.split()
    return helper.make_node(kind, reads.split(), outputs, outputs[0], **attributes)


def chain(first: str, *steps: str, **attributes: Any) -> Nodes:
    """Nodes in a row: "Kind more-inputs > output" each."""
    nodes, last = [], first
    for step in steps:
        call, _, written = step.partition(" > ")
        kind, *more = call.split()
        own = {name.removeprefix(f"{written}_"): value for name, value in attributes.items() if name.startswith(f"{written}_")}
        nodes.append(node(kind, " ".join([last, *more]), written, **own))
        last = written
    return nodes


def tail(nodes: Iterable[onnx.NodeProto], outputs: str, constants: Constants | None = None) -> set[str]:
    """The float tail of a graph from x with these nodes; W, M and what is given are its constants."""
    stored = {"W": W, "M": M} | (constants or {})
    graph = helper.make_graph(
        list(nodes),
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(own), name) for name, own in stored.items()],
    )
    found = float_tail_of_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert len(set(found)) == len(found)
    return set(found)


TRUNK = chain("x", "Conv W > t0", "Relu > t1", "Conv W > t2", "Relu > t")
"""Never part of a tail."""


def dfl(*decoding: str) -> Nodes:
    """A prediction, a softmax over its bins, and what decodes it."""
    return [*TRUNK, *chain("t", "Conv W > p", "Reshape s > r", "Transpose > q", "Softmax > m", *decoding)]


def refined() -> Nodes:
    """Two stages: boxes of the encoder picked by score, and what the decoder adds to them before the last sigmoid."""
    return [
        *chain("x", "MatMul M > e0", "LayerNormalization g > e"),
        *chain("e", "MatMul M > es", "ReduceMax > most", most_axes=[-1], most_keepdims=0),
        node("TopK", "most k", "v picks"),
        *chain("e", "MatMul M > eb0", "Relu > eb1", "MatMul M > eb2", "Gather picks > ref", "Sigmoid > start", "Log > logit"),
        *chain("start", "MatMul M > position", "Add e > d0", "MatMul M > d1", "LayerNormalization g > d"),
        *chain("d", "MatMul M > b0", "Relu > b1", "MatMul M > b2", "Add logit > b3", "Sigmoid > boxes"),
        *chain("d", "MatMul M > c0", "Add g > scores"),
    ]


def heat_map() -> Nodes:
    """Peaks are where a maximum over neighbours changes nothing."""
    return [
        *TRUNK, *chain("t", "Conv W > h0", "Sigmoid > h"), *chain("h", "MaxPool > peak", peak_kernel_shape=[3, 3]),
        node("Equal", "h peak", "same"), node("Cast", "same", "mask", to=TensorProto.FLOAT), node("Mul", "h mask", "kept"),
        node("Reshape", "kept s", "flat"), node("TopK", "flat k", "best places"),
        *chain("t", "Conv W > o", "Gather places > offset"),
    ]  # fmt: skip


def branching() -> Nodes:
    """What is suppressed inside an If reads boxes and scores from around it."""
    read = [node("NonMaxSuppression", "boxes probable", "kept")]
    then = helper.make_graph(read, "then", [], [helper.make_tensor_value_info("kept", TensorProto.INT64, None)])
    no = helper.make_tensor_value_info("no", TensorProto.INT64, None)
    other = helper.make_graph([node("Identity", "none", "no")], "else", [], [no])
    heads = [*chain("t", "Conv W > b", "Reshape s > boxes"), *chain("t", "Conv W > c", "Softmax > probable")]
    return [*TRUNK, *heads, node("ReduceMax", "probable", "top"), node("If", "top", "y", then_branch=then, else_branch=other)]


def three_levels() -> Nodes:
    """A neck, and for each level a branch for scores and one for boxes, joined by level and then all together."""
    nodes = [*TRUNK, *chain("t", "Conv W > n1", "Relu > n2"), *chain("n2", "Conv W > m1", "Relu > m2")]
    for level, source in enumerate(("t", "n2", "m2")):
        nodes += chain(source, f"Conv W > f{level}", f"Relu > g{level}", f"Conv W > s{level}", f"Sigmoid > u{level}")
        nodes += chain(source, f"Conv W > h{level}", f"Relu > i{level}", f"Conv W > b{level}")
        nodes += [node("Concat", f"u{level} b{level}", f"j{level}", axis=1), node("Reshape", f"j{level} s", f"l{level}")]
    return [*nodes, node("Concat", "l0 l1 l2", "y", axis=2)]


S: Constants = {"s": np.array([1, 16, -1])}
K: Constants = {"k": np.array([4])}
UNEVEN: Constants = {"ramp": (np.sinh(np.linspace(-3, 3, 33, dtype=np.float32)) / 7)[:, None]}
"""Of 33 bins, denser around 0."""
CORNERS = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32)
SUMS = np.hstack([np.kron(np.eye(4), RAMP[:, None]), np.kron(np.eye(4), np.ones((BINS, 1)))]).astype(np.float32)
"""For four sides: the bins, and how many there are."""
DECODED = {"p", "r", "q", "m", "y"}
HEADS: dict[str, tuple[Sequence[onnx.NodeProto], str, Constants, set[str]]] = {
    "two outputs": (
        [*TRUNK, *chain("t", "Conv W > a", "Relu > b", "Conv W > c", "Sigmoid > y"), *chain("t", "Conv W > z")],
        "y z",
        {},
        {"c", "y", "z"},
    ),
    "one output for all": ([*TRUNK, *chain("t", "Conv W > a", "Reshape s > b", "Sigmoid > y")], "y", S, {"a", "b", "y"}),
    "three levels joined": (
        three_levels(),
        "y",
        S,
        {f"{name}{level}" for name in "subjl" for level in range(3)} | {"y"},
    ),
    "an output that others go on from": (
        [*TRUNK, *chain("t", "Conv W > y", "Relu > b", "Conv W > z")],
        "y z",
        {},
        {"y", "z"},
    ),
    "a product of each kind": (
        [*TRUNK, node("ConvTranspose", "t W", "y"), *chain("t", "Reshape s > f", "Gemm M M > z")],
        "y z",
        S,
        {"y", "z"},
    ),
    "DFL by a 1x1 convolution": (dfl("Conv ramp > y"), "y", S | {"ramp": RAMP.reshape(1, BINS, 1, 1)}, DECODED),
    "DFL by a convolution in groups": (
        dfl("Conv ramp > y"),
        "y",
        S | {"ramp": np.tile(RAMP.reshape(1, BINS, 1, 1), (4, 1, 1, 1))},
        DECODED,
    ),
    "DFL by a product, in strides": (dfl("MatMul ramp > y"), "y", S | {"ramp": RAMP[:, None] * 8}, DECODED),
    "DFL by a product with a vector": (dfl("MatMul ramp > y"), "y", S | {"ramp": RAMP}, DECODED),
    "DFL by Gemm": (dfl("Reshape s > n", "Gemm ramp > y"), "y", S | {"ramp": RAMP[None]}, DECODED | {"n"}),
    "DFL by a sum": (dfl("Mul ramp > n", "ReduceSum > y"), "y", S | {"ramp": RAMP}, DECODED | {"n"}),
    "DFL with uneven bins": (
        dfl("Reshape s > n", "MatMul ramp > y"),
        "y",
        S | UNEVEN,
        DECODED | {"n"},
    ),
    "DFL with a ramp made in the graph": (
        [node("Range", "zero bins one", "range"), node("Unsqueeze", "range axis", "ramp"), *dfl("MatMul ramp > y")],
        "y",
        S | {"zero": np.float32(0), "one": np.float32(1), "bins": np.float32(BINS), "axis": np.array([1])},
        DECODED,
    ),
    "DFL with a softmax in parts": (
        [*TRUNK, *chain("t", "Conv W > p", "Exp > e", "ReduceSum > sum"), node("Div", "e sum", "m"), node("MatMul", "m ramp", "y")],
        "y",
        UNEVEN,
        {"p", "e", "sum", "m", "y"},
    ),
    "a trained product behind a softmax": (dfl("Conv V > y"), "y", S | {"V": weights(1, 16, 1, 1)}, {"y"}),
    "DFL as a quotient of sums": (
        [
            *TRUNK,
            *chain("t", "Conv W > p", "Reshape s > r", "Exp > e", "MatMul sums > u"),
            node("Split", "u", "v w", axis=2),
            node("Div", "v w", "y"),
        ],
        "y",
        S | {"sums": SUMS},
        {"p", "r", "e", "u", "v", "y"},
    ),
    "a block of residual sums": (
        [*TRUNK, *chain("t", "Conv W > a", "Add t > b"), *chain("b", "Conv W > c", "Add b > y")],
        "y",
        {},
        {"t2", "t", "a", "b", "c", "y"},
    ),
    "centres to corners by a matrix": (
        [*TRUNK, *chain("t", "Conv W > p", "Reshape s > r", "MatMul corners > y")],
        "y",
        S | {"corners": CORNERS},
        {"p", "r", "y"},
    ),
    "weights not yet trained": ([*TRUNK, node("Conv", "t zeros", "y")], "y", {"zeros": np.zeros((4, 16, 1, 1), np.float32)}, {"y"}),
    "weights turned, widened or dequantized": (
        [
            *TRUNK,
            node("Transpose", "M", "T"),
            node("Cast", "half", "wide", to=TensorProto.FLOAT),
            node("DequantizeLinear", "q scale", "d"),
            *chain("t", "MatMul T > y"),
            *chain("t", "Conv wide > z"),
            *chain("t", "Conv d > u"),
        ],
        "y z u",
        {"half": W.astype(np.float16), "q": np.ones((16, 16, 1, 1), np.int8), "scale": np.float32(0.1)},
        {"y", "z", "u"},
    ),
    "a constant on the left": ([*TRUNK, node("MatMul", "M t", "y")], "y", {}, {"y"}),
    "a product of two activations": (
        [
            *TRUNK,
            *chain("t", "Conv W > masks"),
            *chain("t", "MatMul M > queries"),
            node("MatMul", "queries masks", "m"),
            node("Sigmoid", "m", "y"),
        ],
        "y",
        {},
        {"masks", "queries", "m", "y"},
    ),
    "boxes refined in two stages": (
        refined(),
        "boxes scores",
        K | {"g": weights(16)},
        {"es", "most", "v", "eb2", "ref", "start", "logit", "b2", "b3", "boxes", "c0", "scores"}
        | {"position", "d0", "d1", "d", "b0", "b1"},  # the decoder, which works on what was picked
    ),
    "normalised before a cosine": (
        [
            *TRUNK,
            *chain("t", "Conv W > f", "ReduceL2 > l"),
            node("Div", "f l", "n"),
            node("MatMul", "n M", "c"),
            node("Mul", "c ten", "y"),
        ],
        "y",
        {"ten": np.float32(10)},
        {"c", "y"},
    ),
    "a heat map and its peaks": (
        heat_map(),
        "best offset",
        S | K,
        {"h0", "h", "peak", "same", "mask", "kept", "flat", "best", "o", "offset"},
    ),
    "suppression inside an If": (
        branching(),
        "y",
        S | {"none": np.zeros((0, 3), np.int64)},
        {"b", "boxes", "c", "probable", "top", "y"},
    ),
    "a shape that is read off the trunk": (
        [*TRUNK, node("Shape", "t", "shape"), *chain("t", "Conv W > p"), node("Reshape", "p shape", "y")],
        "y",
        {},
        {"p", "y"},
    ),
    "an output that nothing multiplies": ([*TRUNK, *chain("t", "Conv W > y"), node("ReduceMax", "x", "z")], "y z", {}, {"y", "z"}),
    "a constant output": ([*TRUNK, *chain("t", "Conv W > y"), node("Identity", "strides", "z")], "y z", {"strides": RAMP}, {"y"}),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_float_tail_is_the_last_products_and_what_follows(name: str) -> None:
    """The last trained product on each way to an output and all behind it; the trunk and earlier products are not in it."""
    nodes, outputs, constants, wanted = HEADS[name]
    assert tail(nodes, outputs, constants) == wanted


def test_the_tail_is_in_the_order_of_the_graph() -> None:
    """So that two calls, and two files, give the same list."""
    nodes = [*TRUNK, *chain("t", "Conv W > b", "Relu > a"), *chain("t", "Conv W > c")]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("c", "a")],
        [numpy_helper.from_array(W, "W")],
    )
    assert float_tail_of_graph(helper.make_model(graph)) == ("b", "a", "c")
