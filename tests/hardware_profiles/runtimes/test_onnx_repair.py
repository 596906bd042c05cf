"""Odd ONNX files, as people have them: each ends in a plain file with the right numbers, or in one clear message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.runtimes import onnx_repair
from hardware_profiles.runtimes.onnx_repair import Repaired, repair
from hardware_profiles.runtimes.onnx_signature import Output
from hardware_profiles.runtimes.openvino.runtime import import_openvino

SIZE = (16, 24)
"""Height and width of the picture in most cases."""
NCHW, NHWC = (1, 3, *SIZE), (1, *SIZE, 3)
Value = tuple[str, int, Sequence[Any] | None]
"""Name, element type, shape."""
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X: Value = ("x", FLOAT, NCHW)


def weights(*shape: int) -> NDArray[np.float32]:
    """Numbers of both signs, the same in every run."""
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


W, V = weights(8, 3, 3, 3), weights(6, 8, 1, 1)
CONSTANTS: dict[str, NDArray[Any]] = {"w": W, "v": V}


def node(kind: str, reads: str, writes: str, name: str | None = None, **attributes: Any) -> onnx.NodeProto:
    """A node; what it reads and writes is separated by spaces, "_" is an input left out."""
    inputs = ["" if own == "_" else own for own in reads.split()]
    return helper.make_node(kind, inputs, writes.split(), writes if name is None else name, **attributes)


def body(source: str = "x", target: str = "y") -> list[onnx.NodeProto]:
    """Two convolutions with a ReLU between them: 3 to 8 to 6 channels at full size."""
    return [
        node("Conv", f"{source} w", "a", pads=[1] * 4),
        node("Relu", "a", "b"),
        node("Conv", "b v", target),
    ]


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[Any]] | None = None,
    inputs: Sequence[Value] = (X,),
    outputs: Sequence[Value] = (("y", FLOAT, (1, 6, *SIZE)),),
    opset: int = 17,
    ir_version: int = 8,
    **more: Any,
) -> onnx.ModelProto:
    """A model as it may lie in a file; nothing of it is checked."""
    graph = helper.make_graph(
        list(nodes),
        "odd",
        [helper.make_tensor_value_info(*own) for own in inputs],
        [helper.make_tensor_value_info(*own) for own in outputs],
        [numpy_helper.from_array(np.asarray(own), name) for name, own in (CONSTANTS if constants is None else constants).items()],
    )
    more = {"opset_imports": [helper.make_opsetid("", opset)]} | more
    return helper.make_model(graph, ir_version=ir_version, **more)


def run_openvino(path: Path, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs, in their order, on one thread in float32."""
    how = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = import_openvino().Core()
    compiled = core.compile_model(core.read_model(path), "CPU", how)
    results = compiled(feeds)
    return [np.array(results[own]) for own in compiled.outputs]


def run_onnxruntime(content: bytes, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


@dataclass
class Odd:
    """One odd file that can be repaired."""

    made: onnx.ModelProto
    said: str
    """A part of what is reported, among changes or remarks."""
    input_size: tuple[int, int] | None = None
    picture: Sequence[int] = NCHW
    """Shape of what the original takes, but for the batch."""
    batch: int = 1
    """Pictures that the original takes at once."""
    dtype: Any = np.float32
    layout: str = "nchw"
    besides: dict[str, Any] = field(default_factory=dict)
    """What the original takes besides the picture."""
    by_onnxruntime: bool = False
    """What runs the original; onnx's reference does not have every old operator."""
    tolerance: float = 1e-4


def constant_nodes() -> onnx.ModelProto:
    """Weights in Constant nodes without names, as Paddle exports them."""
    stored = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(own)) for name, own in CONSTANTS.items()]
    return model([*stored, *body()], {})


def constants_of_numbers() -> onnx.ModelProto:
    """Constant nodes that hold numbers in attributes of their own."""
    nodes = [
        helper.make_node("Constant", [], ["scale"], value_float=0.5),
        helper.make_node("Constant", [], ["shift"], value_floats=[0.25] * SIZE[1]),
        helper.make_node("Constant", [], ["axis"], value_int=1),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        node("Mul", "x scale", "m"), node("Add", "m shift", "s"), node("Gather", "s axis", "g", axis=1),
        node("Unsqueeze", "g axes", "u"), node("Add", "u x", "p"), node("Squeeze", "p axes", "y"),
    ]  # fmt: skip
    return model(nodes, {}, outputs=[("y", FLOAT, (1, 3, *SIZE))])


def as_inputs(made: onnx.ModelProto, ir_version: int = 3) -> onnx.ModelProto:
    """Every initializer among the inputs too, as it had to be up to IR 3."""
    made.ir_version = ir_version
    for own in made.graph.initializer:
        made.graph.input.append(helper.make_tensor_value_info(own.name, own.data_type, own.dims))
    return made


def old_upsampling() -> onnx.ModelProto:
    """Opset 9: Upsample, which is no operator any more, and a normalisation."""
    nodes = [
        *body(target="c"), node("BatchNormalization", "c g h i j", "n"), node("Upsample", "n twice", "y", mode="nearest"),
    ]  # fmt: skip
    more = dict.fromkeys("ghi", weights(6)) | {"j": np.abs(weights(6)), "twice": np.array([1, 1, 2, 2], np.float32)}
    return as_inputs(model(nodes, CONSTANTS | more, outputs=[("y", FLOAT, (1, 6, 32, 48))], opset=9))


def old_softmax() -> onnx.ModelProto:
    """Opset 11: a softmax over all that follows its axis, attributes that became inputs, and metadata."""
    nodes = [
        *body(target="c"), node("Softmax", "c", "s", axis=1), node("Unsqueeze", "s", "u", axes=[0]),
        node("Squeeze", "u", "q", axes=[0]), node("Split", "q", "e f", axis=1, split=[2, 4]),
        node("ReduceSum", "f", "r", axes=[1]), node("Pad", "r pads", "y"),
    ]  # fmt: skip
    constants = CONSTANTS | {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    made = model(nodes, constants, outputs=[("y", FLOAT, None), ("e", FLOAT, None)], opset=11, ir_version=6)
    helper.set_model_props(made, {"names": "plate"})
    return made


def old_resize() -> onnx.ModelProto:
    """Opset 10: Resize without a rule for coordinates."""
    nodes = [*body(target="c"), node("Resize", "c scales", "y", mode="linear")]
    constants = CONSTANTS | {"scales": np.array([1, 1, 2, 2], np.float32)}
    return model(nodes, constants, outputs=[("y", FLOAT, (1, 6, 32, 48))], opset=10, ir_version=5)


def with_branches(opset: int) -> onnx.ModelProto:
    """An If whose branches read tensors and an initializer from around them."""
    inner = helper.make_tensor_value_info("r", FLOAT, None)
    then = helper.make_graph([node("Mul", "c k", "r", "m")], "then", [], [inner])
    other = helper.make_graph([node("Neg", "c", "r", "n")], "else", [], [inner])
    nodes = [*body(target="c"), node("ReduceMax", "c", "most", keepdims=0), node("Greater", "most none", "found")]
    nodes.append(helper.make_node("If", ["found"], ["y"], "if", then_branch=then, else_branch=other))
    return model(nodes, CONSTANTS | {"k": np.float32(3), "none": np.float32(0)}, opset=opset, ir_version=6)


def batch_of_ten() -> onnx.ModelProto:
    """Ten pictures, and shapes that say so; one of them is shared with what begins with ten for another reason."""
    nodes = [
        *body(target="c"), node("Reshape", "c flat", "f"), node("Transpose", "f", "t", perm=[0, 2, 1]),
        node("Expand", "k wide", "e"), node("Add", "t e", "y"),
    ]  # fmt: skip
    constants = CONSTANTS | {"flat": np.array([10, 6, -1]), "wide": np.array([10, 1, 6]), "k": weights(1, 1, 6)}
    return model(nodes, constants, [("x", FLOAT, (10, 3, 16, 16))], [("y", FLOAT, (10, 256, 6))])


def shapes_computed() -> onnx.ModelProto:
    """Shapes read off the tensors, as exporters do that keep every side open."""
    nodes = [
        *body(target="c"), node("Shape", "c", "shape"), node("Gather", "shape zero", "b0"), node("Gather", "shape one", "c0"),
        node("Unsqueeze", "b0 axis", "b1"), node("Unsqueeze", "c0 axis", "c1"), node("Concat", "b1 c1 rest", "to", axis=0),
        node("Reshape", "c to", "f"), node("Transpose", "f", "y", perm=[0, 2, 1]),
    ]  # fmt: skip
    constants = CONSTANTS | {"zero": np.array(0), "one": np.array(1), "axis": np.array([0]), "rest": np.array([-1])}
    sides = ["batch", 3, "height", "width"]
    return model(nodes, constants, [("x", FLOAT, sides)], [("y", FLOAT, ["batch", "points", 6])])


def channels_last(*sides: Any) -> onnx.ModelProto:
    """As TensorFlow's files begin."""
    return model([node("Transpose", "x", "t", perm=[0, 3, 1, 2]), *body("t")], inputs=[("x", FLOAT, sides)])


def suppressing() -> onnx.ModelProto:
    """Boxes by a convolution each, then NonMaxSuppression and what picks the boxes."""
    nodes = [
        node("Conv", "x w", "a", pads=[1] * 4), node("Conv", "a bw", "b"), node("Reshape", "b flat", "fb"),
        node("Abs", "fb", "ab"), node("Transpose", "ab", "boxes", perm=[0, 2, 1]), node("Conv", "a sw", "s"),
        node("Sigmoid", "s", "p"), node("Reshape", "p flat", "scores"),
        node("NonMaxSuppression", "boxes scores most iou least", "kept"), node("Gather", "kept two", "rows", axis=1),
        node("Squeeze", "boxes first", "plain"), node("Gather", "plain rows", "y", axis=0),
    ]  # fmt: skip
    constants = {
        "w": W, "bw": weights(4, 8, 1, 1), "sw": weights(2, 8, 1, 1), "flat": np.array([0, 0, -1]), "most": np.array([5]),
        "iou": np.array([0.5], np.float32), "least": np.array([0.6], np.float32), "two": np.array(2), "first": np.array([0]),
    }  # fmt: skip
    return model(nodes, constants, outputs=[("y", FLOAT, ["kept", 4]), ("kept", INT64, None)])


def with_sizes(*inputs: Value) -> onnx.ModelProto:
    """Inputs of sizes, by which what the network writes is multiplied."""
    nodes = body(target="c")
    last = "c"
    for name, _, _ in inputs:
        nodes += [node("Cast", name, f"{name} f".replace(" ", "_"), to=FLOAT), node("ReduceSum", f"{name}_f", f"{name}_s")]
        nodes += [node("Slice", f"{name}_f from to last", f"{name}_l"), node("ReduceMax", f"{name}_l", f"{name}_m")]
        nodes += [node("Mul", f"{last} {name}_s", f"{name}_p"), node("Mul", f"{name}_p {name}_m", f"{name}_y")]
        last = f"{name}_y"
    nodes.append(node("Identity", last, "y"))
    constants = CONSTANTS | {"from": np.array([0]), "to": np.array([1]), "last": np.array([-1])}
    return model(nodes, constants, [X, *inputs])


def half() -> onnx.ModelProto:
    """Float16 from end to end."""
    constants = {name: own.astype(np.float16) for name, own in CONSTANTS.items()}
    return model(body(), constants, [("x", TensorProto.FLOAT16, NCHW)], [("y", TensorProto.FLOAT16, None)])


def cast_from(kind: int) -> onnx.ModelProto:
    """A picture of another type, widened or narrowed in the file."""
    return model([node("Cast", "x", "f", to=FLOAT), *body("f")], inputs=[("x", kind, NCHW)])


def with_functions() -> onnx.ModelProto:
    """A part of the network as a function of the file."""
    own = helper.make_function("local", "Gate", ["i"], ["o"], [
        helper.make_node("Sigmoid", ["i"], ["s"]), helper.make_node("Mul", ["i", "s"], ["o"]),
    ], [helper.make_opsetid("", 17)])  # fmt: skip
    nodes = [*body(target="c"), *(helper.make_node("Gate", [i], [o], domain="local") for i, o in (("c", "d"), ("d", "y")))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return model(nodes, opset_imports=opsets, functions=[own])


def of_the_runtime() -> onnx.ModelProto:
    """An operator that ONNX Runtime adds."""
    nodes = [*body(target="c"), helper.make_node("Gelu", ["c"], ["y"], "gelu", domain="com.microsoft")]
    return model(nodes, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])


def unread() -> onnx.ModelProto:
    """Initializers and an input that nothing reads."""
    more = {f"spare{number}": weights(4) for number in range(5)}
    return model(body(), CONSTANTS | more, [("original_sizes", INT64, ["pictures", 2]), X])


def a_constant_comes_out() -> onnx.ModelProto:
    """Strides as an output, from a Constant node."""
    stored = helper.make_node("Constant", [], ["strides"], value=numpy_helper.from_array(np.array([8.0, 16.0], np.float32)))
    return model([stored, *body()], outputs=[("y", FLOAT, None), ("strides", FLOAT, [2])])


def noted_for_another_size() -> onnx.ModelProto:
    """Shapes of inner tensors from the day of the export, for pictures of 32 x 32."""
    made = model(body(), inputs=[("x", FLOAT, (1, 3, 32, 32))], outputs=[("y", FLOAT, (1, 6, 32, 32))])
    made.graph.value_info.append(helper.make_tensor_value_info("b", FLOAT, (1, 8, 32, 32)))
    return made


def unnamed(names: str) -> onnx.ModelProto:
    """Nodes without names or with the same one; "Relu_1", which a new name might be, is taken."""
    nodes = [node("Conv", "x w", "a", names, pads=[1] * 4), node("Relu", "a", "b", names), node("Conv", "b v", "c", names)]
    return model([*nodes, node("Neg", "c", "y", "Relu_1")])


ODD: dict[str, Odd] = {
    "nothing odd": Odd(model(body()), "Tensors whose shape is noted now: 2."),
    "opset 9 with Upsample, IR 3": Odd(old_upsampling(), "Converted from opset 9 to 17.", by_onnxruntime=True),
    "opset 11 with another softmax": Odd(old_softmax(), "Converted from opset 11 to 17.", by_onnxruntime=True),
    "opset 10 with another Resize": Odd(old_resize(), "Converted from opset 10 to 17.", by_onnxruntime=True),
    "opset 11 with branches": Odd(with_branches(11), "Converted from opset 11 to 17."),
    "branches": Odd(with_branches(17), "Tensors whose shape"),
    "opset 22 stays": Odd(model(body(), opset=22, ir_version=10), "Tensors whose shape"),
    "IR too new": Odd(model(body(), ir_version=99), "IR version changed from 99 to 10."),
    "IR too old": Odd(as_inputs(model(body(), opset=13)), "IR version changed from 3 to 7."),
    "weights in Constant nodes": Odd(constant_nodes(), "Constants moved from nodes to initializers: 2."),
    "numbers in Constant nodes": Odd(constants_of_numbers(), "Constants moved from nodes to initializers: 4."),
    "a constant as an output": Odd(a_constant_comes_out(), "Constants moved from nodes to initializers: 1."),
    "initializers as inputs": Odd(as_inputs(model(body()), 8), "Initializers removed from the inputs: 2."),
    "nodes without names": Odd(unnamed(""), "Nodes named that had no name, or that of another: 3."),
    "nodes of one name": Odd(unnamed("same"), "Nodes named that had no name, or that of another: 2."),
    "unread initializers": Odd(unread(), "Initializers removed that nothing reads: spare0, spare1, spare2 and 2 more."),
    "an unread input": Odd(unread(), "Inputs removed that nothing reads: original_sizes.", besides={"original_sizes": [[4, 4]]}),
    "batch open": Odd(model(body(), inputs=[("x", FLOAT, ["n", 3, *SIZE])]), "Input 'x' changed from open x 3 x 16 x 24 to 1 x 3"),
    "batch of ten": Odd(batch_of_ten(), "Batch of 10 changed to 1 in what these nodes write: f, e.", None, (1, 3, 16, 16), 10),
    "height and width open": Odd(model(body(), inputs=[("x", FLOAT, [1, 3, "h", None])]), "to 1 x 3 x 16 x 24", SIZE),
    "sides of -1 and 0": Odd(model(body(), inputs=[("x", FLOAT, [-1, 3, 0, -1])]), "from open x 3 x open x open", SIZE),
    "everything open": Odd(model(body(), inputs=[("x", FLOAT, list("nchw"))]), "to 1 x 3 x 16 x 24", SIZE),
    "input without shape": Odd(
        model(body(), inputs=[("x", FLOAT, None)]), "from open x open x open x open to 1 x 3 x 16 x 24", SIZE
    ),
    "another size than the file's": Odd(
        model(body(), inputs=[("x", FLOAT, (10, 3, 32, 32))], outputs=[("y", FLOAT, None)]),
        "to 1 x 3 x 8 x 40",
        (8, 40),
        (1, 3, 8, 40),
    ),
    "shapes noted for another size": Odd(noted_for_another_size(), "Tensors whose shape is noted now: 1.", SIZE),
    "shapes computed": Odd(shapes_computed(), "Input 'x' changed", SIZE),
    "outputs of a wrong shape": Odd(model(body(), outputs=[("y", FLOAT, (4, 1, 2, 3))]), "Tensors whose shape"),
    "outputs without a shape": Odd(model(body(), outputs=[("y", FLOAT, None)]), "Tensors whose shape"),
    "channels last": Odd(channels_last(*NHWC), "channels last", None, NHWC, layout="nhwc"),
    "channels last, all open": Odd(channels_last(*"nhwc"), "channels last", SIZE, NHWC, layout="nhwc"),
    "channels last, sizes open": Odd(channels_last("n", "h", "w", 3), "channels last", SIZE, NHWC, layout="nhwc"),
    "NMS inside": Odd(suppressing(), "NonMaxSuppression (node 'kept') suppresses boxes inside the file"),
    "im_shape and scale_factor": Odd(
        with_sizes(("im_shape", FLOAT, ["n", 2]), ("scale_factor", FLOAT, ["n", 2])),
        "Input 'im_shape' replaced by the constant 16.0, 24.0.",
        besides={"im_shape": np.array([SIZE], np.float32), "scale_factor": np.ones((1, 2), np.float32)},
    ),
    "orig_target_sizes": Odd(
        with_sizes(("orig_target_sizes", INT64, (1, 2))),
        "Input 'orig_target_sizes' replaced by the constant 24, 16.",
        besides={"orig_target_sizes": [[24, 16]]},
    ),
    "im_info of a flat shape": Odd(
        with_sizes(("im_info", FLOAT, (3,))), "constant 16.0, 24.0, 1.0.", besides={"im_info": np.array([16, 24, 1], np.float32)}
    ),
    "pixel_mask": Odd(
        with_sizes(("pixel_mask", INT64, list("nhw"))),
        "replaced by the constant 1.",
        besides={"pixel_mask": np.ones((1, *SIZE), np.int64)},
    ),
    "float16": Odd(half(), "Tensors whose shape", dtype=np.float16, tolerance=2e-2),
    "uint8": Odd(cast_from(TensorProto.UINT8), "Tensors whose shape", dtype=np.uint8, tolerance=1e-2),
    "double": Odd(cast_from(TensorProto.DOUBLE), "Tensors whose shape", dtype=np.float64),
    "functions": Odd(with_functions(), "Functions of the file opened where they are called: 1."),
    "an operator of ONNX Runtime": Odd(of_the_runtime(), "Gelu (node 'gelu') is an operator of ONNX Runtime", by_onnxruntime=True),
}


def original_results(odd: Odd, picture: NDArray[Any]) -> list[NDArray[Any]]:
    """What the file gives as it is, of the first picture."""
    feeds = {"x": np.repeat(picture, odd.batch, axis=0)} | {name: np.asarray(own) for name, own in odd.besides.items()}
    feeds = {own.name: feeds[own.name] for own in odd.made.graph.input if own.name in feeds}
    if odd.by_onnxruntime:
        return run_onnxruntime(odd.made.SerializeToString(), feeds)
    if "original_sizes" in {own.name for own in odd.made.graph.input}:
        feeds["original_sizes"] = np.array([[4, 4]])
    made = onnx.ModelProto()
    made.CopyFrom(odd.made)
    made.ir_version = min(made.ir_version, 10)
    results = ReferenceEvaluator(made).run(None, feeds)
    return [own[:1] if odd.batch > 1 else own for own in results]


def repaired(made: onnx.ModelProto, folder: Path, input_size: tuple[int, int] | None = None) -> Repaired:
    """The model through a file and the repair."""
    source = folder / "odd.onnx"
    source.write_bytes(made.SerializeToString())
    return repair(source, folder / "plain.onnx", input_size)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_becomes_plain_and_keeps_its_numbers(name: str, tmp_path: Path) -> None:
    """The repaired file, in both runtimes, gives what the original gives; what was done is said; the file is plain."""
    odd = ODD[name]
    picture = (np.random.default_rng(1).random(odd.picture) * (255 if odd.dtype is np.uint8 else 1)).astype(odd.dtype)
    result = repaired(odd.made, tmp_path, odd.input_size)
    assert odd.said in " ".join(result.changes + result.remarks)
    content = result.file.read_bytes()
    for got in (run_onnxruntime(content, {"x": picture}), run_openvino(result.file, {"x": picture})):
        for wanted, own in zip(original_results(odd, picture), got, strict=True):
            assert own.size
            assert own.shape == wanted.shape
            np.testing.assert_allclose(own.astype(float), wanted.astype(float), rtol=odd.tolerance, atol=odd.tolerance)
    check_plain(onnx.load(result.file), odd, result)


def check_plain(model: onnx.ModelProto, odd: Odd, result: Repaired) -> None:
    """What every repaired file is."""
    onnx.checker.check_model(model, full_check=True)
    names = [own.name for own in model.graph.node]
    assert "" not in names
    assert len(set(names)) == len(names)
    assert "Constant" not in {own.op_type for own in model.graph.node}
    assert not model.functions
    assert [own.name for own in model.graph.input] == ["x"]
    assert [own.name for own in model.graph.output] == [own.name for own in odd.made.graph.output] == list(result.signature.outputs)
    assert next(own.version for own in model.opset_import if not own.domain) >= 13
    assert list(model.metadata_props) == list(odd.made.metadata_props)
    read = result.signature
    size = tuple(odd.picture[1:3] if odd.layout == "nhwc" else odd.picture[2:])
    assert (read.input_name, read.dtype) == ("x", np.dtype(odd.dtype).name)
    assert (read.layout, read.input_size, read.channels) == (odd.layout, size, 3)


def test_the_signature_of_a_file(tmp_path: Path) -> None:
    """Outputs in their order, with names, types and shapes; a side that depends on the picture is open."""
    read = repaired(suppressing(), tmp_path).signature
    assert dict(read.outputs) == {"y": Output((None, 4), "float32"), "kept": Output((None, 3), "int64")}
    read = repaired(shapes_computed(), tmp_path, (4, 8)).signature
    assert dict(read.outputs) == {"y": Output((1, 32, 6), "float32")}


def test_a_plain_file_is_left_alone(tmp_path: Path) -> None:
    """Repaired once, there is nothing left to change: the second file has the same bytes and no sentences."""
    first = repaired(batch_of_ten(), tmp_path)
    second = repair(first.file, tmp_path / "again.onnx", None)
    assert (second.changes, second.remarks) == ((), ())
    assert second.file.read_bytes() == first.file.read_bytes()


def test_operators_of_a_repaired_file_are_counted(tmp_path: Path) -> None:
    """The reader of graphs takes it: 9 x 3 x 8 and 8 x 6 multiply-adds at each position."""
    graph = read_graph(repaired(old_upsampling(), tmp_path).file)
    assert sum(own.macs for own in graph.operators) == (9 * 3 * 8 + 8 * 6) * SIZE[0] * SIZE[1]


def test_weights_beside_the_file_are_written_into_it(tmp_path: Path) -> None:
    """The file is whole afterwards: it opens in a folder of its own."""
    source, alone = tmp_path / "odd.onnx", tmp_path / "alone"
    alone.mkdir()
    made = model(body())
    onnx.save(made, source, save_as_external_data=True, location="odd.data", size_threshold=0)
    result = repair(source, alone / "plain.onnx", None)
    assert result.changes[0] == "Weights written into the file: odd.data."
    picture = np.random.default_rng(1).random(NCHW, np.float32)
    (got,) = run_openvino(result.file, {"x": picture})
    np.testing.assert_allclose(got, ReferenceEvaluator(model(body())).run(None, {"x": picture})[0], rtol=1e-4, atol=1e-4)


def sequence() -> onnx.ModelProto:
    """Detections as a list of tensors, as torchvision gives them."""
    made = model([*body(), node("SequenceConstruct", "y", "all")])
    made.graph.output.append(helper.make_tensor_sequence_value_info("all", FLOAT, None))
    return made


def optional() -> onnx.ModelProto:
    """An output that may be absent."""
    made = model([*body(), node("Optional", "y", "maybe")])
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    made.graph.output.append(helper.make_value_info("maybe", kind))
    return made


def flattened(rows: int) -> onnx.ModelProto:
    """Points in one axis, their number written down: for one size only, or for one batch."""
    nodes = [*body(target="c"), node("Reshape", "c flat", "y")]
    return model(nodes, CONSTANTS | {"flat": np.array([rows, 6, -1])}, outputs=[("y", FLOAT, None)])


def baked_into_numbers() -> onnx.ModelProto:
    """Two pictures that are mixed with each other: no batch of one gives that."""
    nodes = [*body(target="c"), node("ReduceSum", "c axes", "s", keepdims=1), node("Add", "c s", "y")]
    return model(nodes, CONSTANTS | {"axes": np.array([0])}, [("x", FLOAT, (2, 3, *SIZE))], [("y", FLOAT, None)])


def foreign(kind: str, domain: str) -> onnx.ModelProto:
    """An operator of a deployment tool."""
    nodes = [*body(target="c"), helper.make_node(kind, ["c"], ["y"], "post", domain=domain)]
    return model(nodes, opset_imports=[helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])])


REFUSED: dict[str, tuple[onnx.ModelProto, tuple[int, int] | None, str]] = {
    "a sequence": (sequence(), None, r"'all' is of sequence_type; inputs and outputs must be plain tensors"),
    "an optional": (optional(), None, r"'maybe' is of optional_type; inputs and outputs must be plain tensors"),
    "another maker's operator": (
        foreign("TRTBatchedNMS", "mmdeploy"),
        None,
        r"TRTBatchedNMS \(node 'post'\) .* mmdeploy .* export without",
    ),
    "an operator that ONNX does not have": (
        foreign("EfficientNMS_TRT", ""),
        None,
        r"EfficientNMS_TRT \(node 'post'\) is no operator of ONNX",
    ),
    "one that ONNX Runtime does not have": (foreign("Nothing", "com.microsoft"), None, r"does not run, for one picture .*Nothing"),
    "an input of another kind": (
        with_sizes(("threshold", FLOAT, (1,))),
        None,
        r"input 'threshold' \(1\) is no picture .* known are im_shape, .* Make it a constant",
    ),
    "a size of an unknown order": (with_sizes(("im_shape", FLOAT, (1, 3))), None, r"input 'im_shape' \(1 x 3\) is no picture"),
    "two pictures": (
        with_sizes(("depth", FLOAT, (1, 1, *SIZE))),
        None,
        r"'x' \(1 x 3 x 16 x 24\), 'depth' \(1 x 1 x 16 x 24\); one must",
    ),
    "a picture without a batch": (
        model(body(), inputs=[("x", FLOAT, NCHW[1:])]),
        None,
        r"'x' \(3 x 16 x 24\); one must be a picture of 4",
    ),
    "an open size and none given": (
        model(body(), inputs=[("x", FLOAT, [1, 3, 16, "w"])]),
        None,
        r"'x' is 1 x 3 x 16 x open: .* Give input_size, \(height, width\)",
    ),
    "a size that the graph does not fit": (
        model(
            [*body(target="c"), node("Reshape", "c flat", "y")],
            CONSTANTS | {"flat": np.array([1, 6, 384])},
            outputs=[("y", FLOAT, None)],
        ),
        (8, 8),
        r"does not run, for one picture of 1 x 3 x 8 x 8 .* in the file it is 1 x 3 x 16 x 24\. Choose the size",
    ),
    "pictures mixed with each other": (
        baked_into_numbers(),
        None,
        r"output 'y' is not the same after these changes: .* Export it again",
    ),
    "an opset of the future": (model(body(), opset=99), None, r"does not run, .*[Oo]pset 99"),
    "an opset that does not convert": (
        model([*body(target="c"), node("Upsample", "c", "y", mode="nearest", height_scale=2.0, width_scale=2.0)], opset=1),
        None,
        r"opset 1 cannot be converted to 13 or newer \(.*\); export it with 17",
    ),
    "an opset that nobody runs": (
        model([*body(target="c"), node("Add", "c k", "y", axis=1, broadcast=1)], CONSTANTS | {"k": weights(6)}, opset=6),
        None,
        r"does not run, .*implementation for Add\(6\)",
    ),
    "an input of no type": (
        model(body(), inputs=[("x", 0, NCHW)]),
        None,
        r"its graph is not understood \(KeyError: 0\); export it again",
    ),
    "nodes in the wrong order": (model(body()[::-1]), None, r"it is not valid, .* (sorted|topological)"),
    "types without kernels": (
        model(
            body(),
            {name: own.astype(np.float64) for name, own in CONSTANTS.items()},
            [("x", TensorProto.DOUBLE, NCHW)],
            [("y", TensorProto.DOUBLE, None)],
        ),
        None,
        r"does not run, .*implementation for Conv",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_repaired_is_refused_in_one_message(name: str, tmp_path: Path) -> None:
    """The file, what was found and what to do; nothing is written."""
    made, input_size, message = REFUSED[name]
    with pytest.raises(GraphError, match=rf"odd\.onnx: .*{message}") as refusal:
        repaired(made, tmp_path, input_size)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "plain.onnx").exists()


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut at the end": lambda content: content[:-4],
    "a web page": lambda _: b"<!DOCTYPE html><html>Not found</html>",
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_onnx_file_is_refused(name: str, tmp_path: Path) -> None:
    """Half a download, or something else under the name."""
    source = tmp_path / "odd.onnx"
    source.write_bytes(BROKEN[name](model(body()).SerializeToString()))
    with pytest.raises(GraphError, match=r"odd\.onnx: not a whole ONNX file \(.*\); copy or export it again"):
        repair(source, tmp_path / "plain.onnx", None)


def test_files_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file itself, the weights beside it, and weights that no single file can hold."""
    source = tmp_path / "odd.onnx"
    with pytest.raises(GraphError, match=r"odd\.onnx: no such file"):
        repair(source, tmp_path / "plain.onnx", None)
    onnx.save(model(body()), source, save_as_external_data=True, location="odd.data", size_threshold=0)
    monkeypatch.setattr(onnx_repair, "MOST_BYTES", 1000)
    with pytest.raises(GraphError, match=r"odd\.onnx: its weights take \d+ bytes, and one ONNX file holds 1000 at most"):
        repair(source, tmp_path / "plain.onnx", None)
    (tmp_path / "odd.data").unlink()
    with pytest.raises(GraphError, match=r"odd\.onnx: its weights lie in odd\.data \(.*\); put that beside it"):
        repair(source, tmp_path / "plain.onnx", None)
