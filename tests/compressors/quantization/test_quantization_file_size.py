"""Smaller files that compute the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compressors.quantization import Quantization, quantize
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture
from detection.costs import count_params
from detection.data.dataset import Images
from detection.evaluation import as_input
from detection.export import export_onnx
from detection.spec import Spec
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.runtimes.onnxruntime.shrink import halve_weights, shrink
from hardware_profiles.runtimes.openvino.int8 import compact_xml
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.runtimes.writing import narrowest
from tests.compressors.quantization.test_fake_quantize import lively

MODEST = Architecture(
    stem_width=16, stage_widths=(24, 48, 64, 96), stage_depths=(1, 1, 1, 1), neck_width=48, head_width=48, head_depth=1
)
"""Some 400 thousand parameters: so many that weights outweigh the graph's text, as in any real detector."""
SMALL = Architecture(
    levels=(8, 16), stem_stride=4, stage_widths=(16, 32, 64), stage_depths=(0, 1, 2), neck_width=32, head_width=32, head_depth=1
)
"""Some 180 thousand: about the fewest that kept a detector of blood cells as accurate as one of fifteen times as many."""


@pytest.fixture
def float_model(tiny_detector: Detector, tmp_path: Path) -> onnx.ModelProto:
    """The tiny detector, exported."""
    export_onnx(tiny_detector, tmp_path / "float.onnx")
    return onnx.load(tmp_path / "float.onnx")


def outputs(model: onnx.ModelProto, images: Images, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime makes of the first picture."""
    onnx.save(model, folder / "run.onnx")
    return open_session("onnxruntime", folder / "run.onnx", 1)(as_input(images.pixels[0]))


def test_a_shrunk_file_says_the_same_bit_for_bit(float_model: onnx.ModelProto, tiny_train: Images, tmp_path: Path) -> None:
    """Names, notes and the way constants are stored do not count."""
    before, size = outputs(float_model, tiny_train, tmp_path), float_model.ByteSize()
    shrink(float_model)
    onnx.checker.check_model(float_model)
    for own, expected in zip(outputs(float_model, tiny_train, tmp_path), before, strict=True):
        np.testing.assert_array_equal(own, expected)
    assert float_model.ByteSize() < size


def test_what_callers_know_keeps_its_name(float_model: onnx.ModelProto) -> None:
    """Input, outputs and the nodes that compute are called as before; inner tensors have names of one or two letters."""
    convolutions = [node.name for node in float_model.graph.node if node.op_type == "Conv"]
    shrink(float_model)
    assert [value.name for value in float_model.graph.input] == ["images"]
    assert [value.name for value in float_model.graph.output] == ["boxes", "scores"]
    assert [node.name for node in float_model.graph.node if node.op_type == "Conv"] == convolutions
    inner = {name for node in float_model.graph.node for name in node.output} - {"boxes", "scores"}
    assert max(map(len, inner)) <= 3


def test_equal_constants_are_stored_once() -> None:
    """Two constants of the same bytes become one, a third of another shape stays."""
    constants = [
        numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in (("a", (1, 4)), ("b", (1, 4)), ("c", (4,)))
    ]
    nodes = [
        helper.make_node("Add", ["images", "a"], ["x"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
        helper.make_node("Add", ["y", "c"], ["boxes"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in ("images", "boxes")]
    model = helper.make_model(helper.make_graph(nodes, "sums", ends[:1], ends[1:], constants))
    shrink(model)
    first, second, third = model.graph.node
    assert len(model.graph.initializer) == 2
    assert first.input[1] == second.input[1] != third.input[1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([-8.0, 16.0], np.int8), ([4.0, 252.0], np.uint8), ([0.5, 300.0], np.float16), ([0.1], None), ([1e6], None)],
)
def test_constants_are_stored_in_the_smallest_type_that_holds_them(values: list[float], kind: type | None) -> None:
    """Whole numbers in a byte, halves in float16; 0.1 has no end in binary and a million is beyond float16."""
    found = narrowest(np.resize(np.array(values, np.float32), 64))
    assert (found is None) if kind is None else (found is not None and found.dtype == kind)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_float16_weights_halve_the_file_and_move_little(runtime: str, tiny_train: Images, tiny_val: Images, tmp_path: Path) -> None:
    """Half the bytes, but for a hundredth; boxes move by hundredths of a pixel and scores by ten thousandths at most."""
    detector = lively(fresh(Spec(classes=tiny_train.classes, input_size=(64, 96), settings=MODEST), seed=0))
    export_onnx(detector, tmp_path / "float.onnx")
    packed = quantize(detector, Quantization(precision="float16"), runtime, tiny_train, tiny_val, 0, tmp_path)
    weights = packed.file if runtime == "onnxruntime" else packed.file.with_suffix(".bin")
    assert weights.stat().st_size < 0.51 * (tmp_path / "float.onnx").stat().st_size
    halved, whole = (open_session(runtime, file, 1) for file in (packed.file, tmp_path / "float.onnx"))
    for pixels in tiny_val.pixels:
        (boxes, scores), (exact_boxes, exact_scores) = halved(as_input(pixels)), whole(as_input(pixels))
        assert 0 < np.abs(boxes - exact_boxes).max() < 0.1
        assert 0 < np.abs(scores - exact_scores).max() < 1e-3


def test_weights_beyond_float16_are_cut_not_infinite() -> None:
    """65504 is the greatest number of float16; what lies beyond becomes it."""
    weights = numpy_helper.from_array(np.full((1, 64), 1e6, np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 64)) for name in ("images", "boxes")]
    node = helper.make_node("Mul", ["images", "w"], ["boxes"])
    model = helper.make_model(helper.make_graph([node], "cut", ends[:1], ends[1:], [weights]))
    halve_weights(model)
    assert (numpy_helper.to_array(model.graph.initializer[0]) == 65504).all()


@pytest.mark.parametrize("architecture", [MODEST, SMALL], ids=["modest", "small"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_int8_file_takes_little_more_than_a_byte_a_parameter(
    runtime: str, architecture: Architecture, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """At most 1.25 bytes for each parameter in ONNX; OpenVINO's text and wide biases take it to 1.5, even of a small detector."""
    spec = Spec(classes=tiny_train.classes, input_size=(64, 96), settings=architecture)
    detector = lively(fresh(spec, seed=0))
    quantize(detector, Quantization(pictures=8, calibrator="minmax"), runtime, tiny_train, tiny_val, 0, tmp_path)
    size_bytes = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size_bytes < {"onnxruntime": 1.25, "openvino": 1.5}[runtime] * count_params(spec)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_estimator_still_reads_the_file(
    runtime: str, tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Sizes that are not stored are inferred: the graph of a small file has the multiply-adds of the float one, and convolutions in
    int8, but for the stem in ONNX Runtime; what else multiplies stays float."""
    packed = quantize(tiny_detector, Quantization(pictures=8, calibrator="minmax"), runtime, tiny_train, tiny_val, 0, tmp_path)
    export_onnx(tiny_detector, tmp_path / "float.onnx")
    small, whole = read_graph(packed.file, runtime), read_graph(tmp_path / "float.onnx", runtime)
    assert sum(operator.macs for operator in small.operators) == sum(operator.macs for operator in whole.operators)
    multiplying = [operator for operator in small.operators if operator.macs]
    convolutions, others = ([own for own in multiplying if (own.op_type == "Conv") is wanted] for wanted in (True, False))
    assert len(convolutions) == sum(operator.op_type == "Conv" for operator in whole.operators)
    assert [own.input_channels for own in convolutions if not own.quantized] == ([3] if runtime == "onnxruntime" else [])
    assert len(others) == 6 + 1, "six products that predict, one that decodes"
    assert not any(own.quantized for own in others)


def test_a_compact_xml_is_the_same_model(tiny_detector: Detector, tiny_train: Images, tmp_path: Path) -> None:
    """Without indentation, sizes of ports and notes the reader builds the same operators, and outputs are the same bits."""
    openvino = import_openvino()
    export_onnx(tiny_detector, tmp_path / "float.onnx")
    file = tmp_path / "model.xml"
    openvino.save_model(openvino.convert_model(tmp_path / "float.onnx"), file, compress_to_fp16=False)
    size, kinds = file.stat().st_size, [op.get_type_name() for op in openvino.Core().read_model(file).get_ordered_ops()]
    before = open_session("openvino", file, 1)(as_input(tiny_train.pixels[0]))
    compact_xml(file)
    assert file.stat().st_size < 0.7 * size
    assert [op.get_type_name() for op in openvino.Core().read_model(file).get_ordered_ops()] == kinds
    for own, expected in zip(open_session("openvino", file, 1)(as_input(tiny_train.pixels[0])), before, strict=True):
        np.testing.assert_array_equal(own, expected)
