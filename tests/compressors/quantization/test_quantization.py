"""int8 files by the tool of each runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compressors.quantization import Quantization, quantize
from compressors.quantization.onnx_int8 import float_stem, float_tail
from compressors.quantization.tools import TOOLS
from detection.checkpoint import Detector, fresh
from detection.dataset import Images
from detection.evaluation import as_input
from detection.export import export_onnx
from detection.frozen import InputError
from hardware_profiles.runtimes import RUNTIMES, import_openvino, open_session

SMALL = Quantization(pictures=8, calibrator="minmax", float_stem=False)


@pytest.fixture(scope="module")
def float_file(tiny_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny detector as a float ONNX file, which both runtimes open."""
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    export_onnx(tiny_detector, path)
    return path


@pytest.fixture(scope="module")
def int8_files(
    tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Runtime -> the tiny detector's int8 file, made once."""
    return {
        runtime: quantize(tiny_detector, SMALL, runtime, tiny_train, tiny_val, 0, tmp_path_factory.mktemp(runtime)).file
        for runtime in TOOLS
    }


def size_bytes(file: Path) -> int:
    """Of the weights: an OpenVINO file keeps them beside it."""
    return (file if file.suffix == ".onnx" else file.with_suffix(".bin")).stat().st_size


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Tensor name -> the node that makes it."""
    return {output: node for node in model.graph.node for output in node.output}


def test_there_is_a_quantizer_for_every_runtime() -> None:
    """Whatever runs a detector can be given an int8 one."""
    assert TOOLS.keys() == RUNTIMES.keys()


@pytest.mark.parametrize("runtime", TOOLS)
def test_the_int8_file_is_smaller(runtime: str, int8_files: dict[str, Path], float_file: Path) -> None:
    """A byte a weight instead of four; the graph's own text keeps a tiny file from a quarter."""
    assert size_bytes(int8_files[runtime]) < 0.6 * size_bytes(float_file)


@pytest.mark.parametrize("runtime", TOOLS)
def test_the_int8_file_says_nearly_what_the_float_one_says(
    runtime: str, int8_files: dict[str, Path], float_file: Path, tiny_train: Images
) -> None:
    """On calibration pictures, in its own runtime: boxes on average within 0.3 px, scores within 0.001, finite and in range."""
    small, whole = (open_session(runtime, file, 1) for file in (int8_files[runtime], float_file))
    for row in range(4):
        pixels = as_input(tiny_train.pixels[row])
        (boxes, scores), (float_boxes, float_scores) = small(pixels), whole(pixels)
        assert boxes.shape == float_boxes.shape
        assert scores.shape == float_scores.shape
        assert np.isfinite(boxes).all()
        assert ((scores >= 0) & (scores <= 1)).all()
        assert np.abs(boxes - float_boxes).mean() < 0.3
        assert np.abs(scores - float_scores).mean() < 0.001


def test_onnxruntimes_convolutions_are_int8_but_for_the_last(int8_files: dict[str, Path]) -> None:
    """Every convolution reads dequantized int8 weights; only the six that predict read float ones."""
    model = onnx.load(int8_files["onnxruntime"])
    made = producers(model)
    is_float = {node.name: node.input[1] not in made for node in model.graph.node if node.op_type == "Conv"}
    last = {name for name in is_float if name.endswith(("/score/Conv", "/box/Conv"))}
    assert len(last) == 6
    assert {name for name, untouched in is_float.items() if untouched} == last


def test_onnxruntimes_decoding_stays_float(int8_files: dict[str, Path]) -> None:
    """From the last convolutions to the outputs nothing is quantized on the way."""
    model = onnx.load(int8_files["onnxruntime"])
    made, by_name = producers(model), {node.name: node for node in model.graph.node}
    tail = [by_name[name] for name in float_tail(model) if name]  # constants are widened by nodes without a name
    assert {"Conv", "Exp", "MatMul", "Sigmoid"} <= {node.op_type for node in tail}
    for node in tail:
        fed_by = {made[name].op_type for name in node.input[:1] if name in made}
        assert node.op_type == "Conv" or not fed_by & {"QuantizeLinear", "DequantizeLinear"}


def is_quantized(node: Any) -> bool:
    """True when an OpenVINO convolution has int8 weights or quantized activations."""
    sources = [node.input_value(i).get_node() for i in range(2)]
    return any(source.get_type_name() in ("FakeQuantize", "Multiply", "Subtract", "Convert") for source in sources)


def test_openvinos_convolutions_are_int8_but_for_the_last(int8_files: dict[str, Path]) -> None:
    """Every convolution has int8 weights and quantized inputs; the six that predict have float weights."""
    model = import_openvino().Core().read_model(int8_files["openvino"])
    convolutions = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() == "Convolution"}
    last = {name for name in convolutions if name.split("/")[2:3] in (["score"], ["box"]) and "heads" in name}
    assert len(last) == 6
    weights = {name: op.input_value(1).get_node().get_type_name() for name, op in convolutions.items()}
    assert {name for name, kind in weights.items() if kind == "Constant"} == last, "float weights exactly where they predict"
    assert all(is_quantized(op) for name, op in convolutions.items() if name not in last)


def test_openvinos_decoding_stays_float(int8_files: dict[str, Path]) -> None:
    """No FakeQuantize feeds exponentials, sigmoid or what follows them."""
    model = import_openvino().Core().read_model(int8_files["openvino"])
    after = {"Exp", "MatMul", "Sigmoid"}
    seen = [op for op in model.get_ops() if op.get_type_name() in after]
    assert {op.get_type_name() for op in seen} == after
    assert not [op.get_friendly_name() for op in seen if op.input_value(0).get_node().get_type_name() == "FakeQuantize"]


def test_the_same_seed_gives_the_same_file(
    tiny_detector: Detector, tiny_train: Images, tiny_val: Images, int8_files: dict[str, Path], tmp_path: Path
) -> None:
    """The pictures shown are drawn from the seed: same seed, same bytes; another seed, other ranges."""
    again, other = tmp_path / "again", tmp_path / "other"
    for folder, seed in ((again, 0), (other, 1)):
        folder.mkdir()
        quantize(tiny_detector, SMALL, "onnxruntime", tiny_train, tiny_val, seed, folder)
    whole = int8_files["onnxruntime"].read_bytes()
    assert (again / "model.onnx").read_bytes() == whole
    assert (other / "model.onnx").read_bytes() != whole


@pytest.mark.parametrize("runtime", TOOLS)
def test_each_calibrator_gives_another_file(
    runtime: str, tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Four calibrators, four different files in either runtime, and each detects."""
    contents = set()
    for calibrator in ("minmax", "entropy", "percentile", "mse"):
        folder = tmp_path / calibrator
        folder.mkdir()
        config = Quantization.model_validate({"pictures": 8, "calibrator": calibrator, "percentile": 99.0})
        file = quantize(tiny_detector, config, runtime, tiny_train, tiny_val, 0, folder).file
        contents.add((file if runtime == "onnxruntime" else file.with_suffix(".bin")).read_bytes())
        boxes, _ = open_session(runtime, file, 1)(as_input(tiny_train.pixels[0]))
        assert np.isfinite(boxes).all()
    assert len(contents) == 4


@pytest.mark.parametrize("runtime", TOOLS)
def test_both_runtimes_round_the_picture_in_the_range_that_was_found(runtime: str, int8_files: dict[str, Path]) -> None:
    """Pixels reach from 0 to the greatest that was shown, which is at most 1: so does the first quantizer."""
    if runtime == "onnxruntime":
        model = onnx.load(int8_files[runtime])
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        (first,) = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "images"]
        high = 255 * float(constants[first.input[1]])
    else:
        network = import_openvino().Core().read_model(int8_files[runtime])
        (first,) = [
            op for op in network.get_ops() if op.get_type_name() == "FakeQuantize" and "images" in op.input_value(0).get_names()
        ]
        high = float(first.input_value(2).get_node().data)
    assert 0.5 < high <= 1 + 1e-6


def test_val_pictures_are_refused(tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path) -> None:
    """Ranges taken from the split that chooses would flatter int8: the message names the splits, and nothing is written."""
    for runtime in TOOLS:
        with pytest.raises(InputError, match="calibrates on train and chooses on val, was given 'val' and 'val'"):
            quantize(tiny_detector, SMALL, runtime, tiny_val, tiny_val, 0, tmp_path)
        with pytest.raises(InputError, match="was given 'train' and 'train'"):
            quantize(tiny_detector, SMALL, runtime, tiny_train, tiny_train, 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_runtime_is_refused(tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path) -> None:
    """The message says which runtimes there are tools for."""
    with pytest.raises(InputError, match="no tool for runtime 'tensorrt'; have onnxruntime, openvino"):
        quantize(tiny_detector, SMALL, "tensorrt", tiny_train, tiny_val, 0, tmp_path)


def test_quantizing_leaves_the_detector_alone(tiny_detector: Detector, int8_files: dict[str, Path], float_file: Path) -> None:
    """Its weights still export to the same float file after both tools have been at it."""
    again = float_file.with_name("again.onnx")
    export_onnx(tiny_detector, again)
    assert int8_files
    assert again.read_bytes() == float_file.read_bytes()


def test_the_float_tail_of_a_graph_by_hand() -> None:
    """images -> a -> relu -> {b -> sigmoid -> scores, c -> softmax -> boxes}: a and its relu are int8, all else stays float."""
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, (4, 4, 1, 1), [0.0] * 16)
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["a_out"], name="a"),
        helper.make_node("Relu", ["a_out"], ["relu_out"], name="relu"),
        helper.make_node("Conv", ["relu_out", "kernel"], ["b_out"], name="b"),
        helper.make_node("Conv", ["relu_out", "kernel"], ["c_out"], name="c"),
        helper.make_node("Softmax", ["c_out"], ["boxes"], name="softmax"),
        helper.make_node("Sigmoid", ["b_out"], ["scores"], name="sigmoid"),
    ]
    shape = (1, 4, 2, 2)
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("boxes", "scores")]
    model = helper.make_model(helper.make_graph(nodes, "by hand", inputs, outputs, [kernel]))
    onnx.checker.check_model(model)
    assert sorted(float_tail(model)) == ["b", "c", "sigmoid", "softmax"]


def test_the_float_tail_of_a_detector(float_file: Path) -> None:
    """The six predicting convolutions belong to it, and no other convolution does."""
    model = onnx.load(float_file)
    kinds = {node.name: node.op_type for node in model.graph.node}
    convolutions = [name for name in float_tail(model) if kinds[name] == "Conv"]
    assert set(convolutions) == {f"/heads.{level}/{branch}/Conv" for level in range(3) for branch in ("score", "box")}
    assert len(convolutions) == 6


def test_the_float_stem_of_a_detector(float_file: Path) -> None:
    """The convolution that reads the picture, and its ReLU: one operation."""
    model = onnx.load(float_file)
    kinds = {node.name: node.op_type for node in model.graph.node}
    assert sorted(kinds[name] for name in float_stem(model)) == ["Conv", "Relu"]


@pytest.mark.parametrize("runtime", TOOLS)
@pytest.mark.parametrize("wanted", [None, True, False])
def test_the_stem_is_float_where_that_is_faster_or_wanted(
    wanted: bool | None, runtime: str, tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Left open, a stem that steps by 2 stays float in ONNX Runtime and becomes int8 in OpenVINO; otherwise both obey."""
    config = SMALL.model_copy(update={"float_stem": wanted})
    file = quantize(tiny_detector, config, runtime, tiny_train, tiny_val, 0, tmp_path).file
    assert stem_is_float(file) == (runtime == "onnxruntime" if wanted is None else wanted)


def test_a_stem_that_steps_by_4_becomes_int8(tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path) -> None:
    """A 7x7 convolution at a quarter of the sides is where int8 pays, in ONNX Runtime too."""
    shape = tiny_detector.blueprint.architecture.model_copy(update={"stem_stride": 4, "stage_widths": (8, 16, 24, 32)})
    detector = fresh(tiny_detector.blueprint.model_copy(update={"architecture": shape}), seed=0)
    config = SMALL.model_copy(update={"float_stem": None})
    assert not stem_is_float(quantize(detector, config, "onnxruntime", tiny_train, tiny_val, 0, tmp_path).file)


def stem_is_float(file: Path) -> bool:
    """Whether the convolution that reads the picture has float weights."""
    if file.suffix == ".onnx":
        model = onnx.load(file)
        (stem,) = [node for node in model.graph.node if node.name.startswith("/stem/") and node.op_type == "Conv"]
        return stem.input[1] not in producers(model)
    network = import_openvino().Core().read_model(file)
    (stem,) = [
        op for op in network.get_ops() if op.get_type_name() == "Convolution" and op.get_friendly_name().startswith("/stem/")
    ]
    return bool(stem.input_value(1).get_node().get_type_name() == "Constant")
