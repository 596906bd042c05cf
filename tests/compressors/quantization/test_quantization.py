"""int8 files by the tool of each runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compressors.quantization import Quantization, quantize
from compressors.quantization.float_parts import float_tail, predicts
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.evaluation import as_input, as_planes
from detection.export import INPUT_NAME, PREDICTIONS, export_onnx
from detection.frozen import InputError
from hardware_profiles.estimate.graph.reading import read_operators
from hardware_profiles.runtimes.openvino import int8 as openvino_int8
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import RUNTIMES, open_session
from tests.compressors.quantization.test_fake_quantize import lively

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
        for runtime in RUNTIMES
    }


def size_bytes(file: Path) -> int:
    """Of the weights: an OpenVINO file keeps them beside it."""
    return (file if file.suffix == ".onnx" else file.with_suffix(".bin")).stat().st_size


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Tensor name -> the node that makes it."""
    return {output: node for node in model.graph.node for output in node.output}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_int8_file_is_smaller(runtime: str, int8_files: dict[str, Path], float_file: Path) -> None:
    """A byte a weight instead of four; the graph's own text keeps a tiny file from a quarter."""
    assert size_bytes(int8_files[runtime]) < 0.6 * size_bytes(float_file)


@pytest.mark.parametrize("runtime", RUNTIMES)
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


def test_onnxruntimes_layers_are_int8_but_for_the_last(int8_files: dict[str, Path]) -> None:
    """Every convolution reads a dequantized map and dequantized int8 weights; only the six products that predict read others."""
    model = onnx.load(int8_files["onnxruntime"])
    dequantized = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    in_bytes = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    layers = [node for node in model.graph.node if node.op_type == "Conv" or predicts(node)]
    in_float = [node for node in layers if dequantized.get(node.input[1]) not in in_bytes]
    assert len(in_float) == 6
    assert all(predicts(node) for node in in_float)
    assert all(node.input[0] in dequantized for node in layers if node.op_type == "Conv")


def test_onnxruntimes_decoding_stays_float(int8_files: dict[str, Path]) -> None:
    """From the last convolutions to the outputs nothing is quantized on the way."""
    model = onnx.load(int8_files["onnxruntime"])
    made, by_name = producers(model), {node.name: node for node in model.graph.node}
    tail = [by_name[name] for name in float_tail(model) if name]  # constants are widened by nodes without a name
    assert {"Exp", "MatMul", "Sigmoid"} <= {node.op_type for node in tail}
    for node in tail:
        fed_by = {made[name].op_type for name in node.input[:1] if name in made}
        assert node.op_type == "Transpose" or not fed_by & {"QuantizeLinear", "DequantizeLinear"}  # before a product


def weighs_in_bytes(node: Any) -> bool:
    """True when an OpenVINO layer's weights are stored as int8, and only widened and scaled before it reads them."""
    source = node.input_value(1).get_node()
    while source.get_type_name() in ("Convert", "Multiply"):
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "Constant" and source.get_element_type().get_type_name() == "i8")


def reads_levels(node: Any) -> bool:
    """True when what an OpenVINO layer reads was rounded, and only laid out again since."""
    source = node.input_value(0).get_node()
    while source.get_type_name() in ("Reshape", "Transpose"):
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "FakeQuantize")


def test_openvinos_layers_are_int8_but_for_the_last(int8_files: dict[str, Path]) -> None:
    """Every convolution has int8 weights and quantized inputs; the six products that predict have neither."""
    model = import_openvino().Core().read_model(int8_files["openvino"])
    layers = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() in ("Convolution", "MatMul")}
    last = {name for name in layers if name.startswith(PREDICTIONS)}
    assert len(last) == 6
    assert not [name for name in last if weighs_in_bytes(layers[name]) or reads_levels(layers[name])]
    convolutions = {name: op for name, op in layers.items() if op.get_type_name() == "Convolution"}
    assert convolutions
    assert not [name for name, op in convolutions.items() if not weighs_in_bytes(op)]
    assert not [name for name, op in convolutions.items() if not reads_levels(op)]


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


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_calibrator_gives_another_file(
    runtime: str, tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Four calibrators, four different files in either runtime, and each detects."""
    contents = set()
    for calibrator in ("minmax", "entropy", "percentile", "mse"):
        folder = tmp_path / calibrator
        folder.mkdir()
        percentile = {"percentile": 99.0} if calibrator == "percentile" else {}
        config = Quantization.model_validate({"pictures": 8, "calibrator": calibrator} | percentile)
        file = quantize(tiny_detector, config, runtime, tiny_train, tiny_val, 0, folder).file
        contents.add((file if runtime == "onnxruntime" else file.with_suffix(".bin")).read_bytes())
        boxes, _ = open_session(runtime, file, 1)(as_input(tiny_train.pixels[0]))
        assert np.isfinite(boxes).all()
    assert len(contents) == 4


def rounded_ranges(file: Path) -> list[tuple[float, float]]:
    """Least and greatest value of every rounding in the file, sorted."""
    if file.suffix == ".onnx":
        model = onnx.load(file)
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        roundings = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
        levels = [(float(constants[node.input[1]]), int(constants[node.input[2]])) for node in roundings]
        return sorted((-zero * scale, (255 - zero) * scale) for scale, zero in levels)
    return sorted(
        (float(op.input_value(1).get_node().data), float(op.input_value(2).get_node().data))
        for op in import_openvino().Core().read_model(file).get_ops()
        if op.get_type_name() == "FakeQuantize"
    )


def test_both_runtimes_round_the_same_maps_in_the_same_ranges(int8_files: dict[str, Path]) -> None:
    """OpenVINO's file has the picture's range and all of ONNX Runtime's but six: what only a predicting convolution reads."""
    ours = rounded_ranges(int8_files["onnxruntime"])
    theirs = [own for own in rounded_ranges(int8_files["openvino"]) if own != (0.0, 255.0)]
    shared = [own for own in ours if any(own == pytest.approx(other, rel=1e-5, abs=1e-6) for other in theirs)]
    assert len(theirs) == len(shared) == len(ours) - 6


def test_a_pictures_bytes_are_levels_as_they_are(int8_files: dict[str, Path]) -> None:
    """ONNX Runtime's file rounds no picture and reads its bytes as 0 to 255; OpenVINO's rounds it in that range, to itself."""
    model = onnx.load(int8_files["onnxruntime"])
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (turned,) = [node for node in model.graph.node if "images" in node.input]
    (widened,) = [node for node in model.graph.node if turned.output[0] in node.input]
    assert (turned.op_type, widened.op_type) == ("Transpose", "DequantizeLinear")
    assert (float(constants[widened.input[1]]), int(constants[widened.input[2]])) == (1.0, 0)
    assert rounded_ranges(int8_files["openvino"])[-1] == (0.0, 255.0)


def openvino_biases(model: Any) -> dict[str, np.ndarray]:
    """Name of each convolution -> what is added to its sums."""
    added = [
        op for op in model.get_ops() if op.get_type_name() == "Add" and op.input_value(1).get_node().get_type_name() == "Constant"
    ]
    return {op.get_friendly_name(): op.input_value(1).get_node().data.ravel() for op in added}


def test_biases_of_a_training_with_rounding_are_left_alone(tiny_detector: Detector, tiny_train: Images, tmp_path: Path) -> None:
    """NNCF moves biases to where the float network's means are; a quantization-aware network has no use for that."""
    export_onnx(lively(tiny_detector), tmp_path / "planes.onnx", planes=True)
    model, tail = openvino_int8.convert(tmp_path / "planes.onnx"), float_tail(onnx.load(tmp_path / "planes.onnx"))
    pictures = [255 * as_planes(pixels) for pixels in tiny_train.pixels[:8]]
    before = openvino_biases(model)
    corrected, kept = (
        openvino_biases(openvino_int8.quantized(model, pictures, tail, corrects_biases=own)) for own in (True, False)
    )
    assert len(before) > 20
    assert before.keys() == corrected.keys() == kept.keys()
    assert all(np.array_equal(kept[name], own) for name, own in before.items())
    assert not all(np.array_equal(corrected[name], own) for name, own in before.items())


def test_val_pictures_are_refused(tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path) -> None:
    """Ranges taken from the split that chooses would flatter int8: the message names the splits, and nothing is written."""
    for runtime in RUNTIMES:
        with pytest.raises(InputError, match="calibrates on train and chooses on val, was given 'val' and 'val'"):
            quantize(tiny_detector, SMALL, runtime, tiny_val, tiny_val, 0, tmp_path)
        with pytest.raises(InputError, match="was given 'train' and 'train'"):
            quantize(tiny_detector, SMALL, runtime, tiny_train, tiny_train, 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_quantizing_leaves_the_detector_alone(tiny_detector: Detector, int8_files: dict[str, Path], float_file: Path) -> None:
    """Its weights still export to the same float file after both tools have been at it."""
    again = float_file.with_name("again.onnx")
    export_onnx(tiny_detector, again)
    assert int8_files
    assert again.read_bytes() == float_file.read_bytes()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_picture_is_an_int8_activation_as_it_is(runtime: str, int8_files: dict[str, Path]) -> None:
    """The estimate's operators begin with an int8 convolution of bytes: nothing rounds, casts or turns the picture before it."""
    operators = read_operators(int8_files[runtime])
    stem = next(operator for operator in operators if operator.input_channels == 3)
    assert (stem.op_type, stem.quantized) == ("Conv", True)
    assert [operator for operator in operators if operator.input_elements == stem.input_elements] == [stem]


def test_onnxruntime_reads_the_picture_as_it_lies(int8_files: dict[str, Path], tmp_path: Path) -> None:
    """What it executes, by its own account: the first convolution, in int8, is the only reader of the picture."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "executed.onnx")
    onnxruntime.InferenceSession(str(int8_files["onnxruntime"]), options, providers=["CPUExecutionProvider"])
    executed = onnx.load(tmp_path / "executed.onnx")
    assert [node.op_type for node in executed.graph.node if INPUT_NAME in node.input] == ["QLinearConv"]


def test_openvino_keeps_the_picture_in_bytes(int8_files: dict[str, Path]) -> None:
    """What it executes, by its own account: the picture goes into the first convolution as bytes, laid out again at most."""
    model = import_openvino().Core().compile_model(int8_files["openvino"], "CPU").get_runtime_model()
    (picture,) = model.get_parameters()
    (reader,) = (port.get_node() for port in picture.output(0).get_target_inputs())
    told = {name: reader.get_rt_info()[name].astype(str) for name in ("layerType", "outputPrecisions")}
    assert told["layerType"] == "Convolution" or told == {"layerType": "Reorder", "outputPrecisions": "u8"}
