"""What stays float in int8 files: the tail always, the stem where that is faster."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from compressors.quantization import Quantization, quantize
from compressors.quantization.float_parts import float_stem, float_tail, stem_stride, with_activations
from detection.checkpoint import Detector, fresh
from detection.data.dataset import Images
from detection.export import PREDICTIONS, export_onnx
from detection.frozen import Frozen
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import RUNTIMES

SMALL = Quantization(pictures=8, calibrator="minmax", float_stem=False)


@pytest.fixture(scope="module")
def planes_file(tiny_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny detector as quantizers take it."""
    path = tmp_path_factory.mktemp("planes") / "planes.onnx"
    export_onnx(tiny_detector, path, planes=True)
    return path


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


def test_the_float_tail_of_a_detector(planes_file: Path) -> None:
    """The six products that predict belong to it, one for scores and one for boxes of each level, and no convolution does."""
    model = onnx.load(planes_file)
    kinds = {node.name: node.op_type for node in model.graph.node}
    tail = float_tail(model)
    assert not [name for name in tail if kinds[name] == "Conv"]
    assert sorted(name for name in tail if name.startswith(PREDICTIONS) and kinds[name] == "MatMul") == [
        f"/predictions.{number}/MatMul" for number in range(6)
    ]


def test_activations_go_with_their_layer() -> None:
    """A hard swish is four nodes, x * clip(x + 3) / 6, a ReLU one; a sum of two layers belongs to neither, a pooling is none."""
    made = (("Conv", "a", "p w"), ("Add", "b", "a three"), ("Clip", "c", "b low high"), ("Mul", "d", "a c"), ("Div", "e", "d six"),
            ("Conv", "f", "e w"), ("Relu", "g", "f"), ("Add", "h", "e g"), ("MaxPool", "i", "g"))  # fmt: skip
    nodes = [helper.make_node(kind, own.split(), [name], name=name) for kind, name, own in made]
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0]) for name in ("w", "three", "low", "high", "six")]
    model = helper.make_model(helper.make_graph(nodes, "two", [], [], constants))
    assert with_activations(model, ["a"]) == ["a", "b", "c", "d", "e"]
    assert with_activations(model, ["f"]) == ["f", "g"]
    assert with_activations(model, ["a", "f"]) == ["a", "f", "b", "c", "d", "e", "g"]


def test_the_float_stem_of_a_detector(planes_file: Path) -> None:
    """The convolution that reads the picture's planes, and its ReLU: one operation."""
    model = onnx.load(planes_file)
    kinds = {node.name: node.op_type for node in model.graph.node}
    assert sorted(kinds[name] for name in float_stem(model)) == ["Conv", "Relu"]


def test_a_max_pooling_behind_the_stem_is_part_of_it() -> None:
    """With what reads it, so that nothing is rounded before the pooling; a pooling elsewhere is not."""
    made = (("Conv", "a", "picture w"), ("Relu", "b", "a"), ("MaxPool", "c", "b"), ("Conv", "d", "c w"), ("Relu", "e", "d"),
            ("Conv", "f", "c w"), ("Conv", "g", "e w"), ("MaxPool", "h", "g"), ("Conv", "i", "h w"))  # fmt: skip
    nodes = [helper.make_node(kind, own.split(), [name], name=name) for kind, name, own in made]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1])
    model = helper.make_model(
        helper.make_graph(nodes, "pooled", [picture], [], [helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])])
    )
    assert sorted(float_stem(model)) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("wanted", [None, True, False])
def test_the_stem_is_float_where_that_is_faster_or_wanted(
    wanted: bool | None, runtime: str, tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Left open, a stem that steps by 2 stays float in ONNX Runtime and becomes int8 in OpenVINO; otherwise both obey."""
    config = SMALL.model_copy(update={"float_stem": wanted})
    packed = quantize(tiny_detector, config, runtime, tiny_train, tiny_val, 0, tmp_path)
    is_float = runtime == "onnxruntime" if wanted is None else wanted
    assert stem_is_float(packed.file) == is_float
    assert len(packed.float_layers) == 7 + is_float, "six products that predict, one that decodes, and the stem"
    assert sum(name.startswith(PREDICTIONS) for name in packed.float_layers) == 6


def test_a_stem_that_steps_by_4_becomes_int8(tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path) -> None:
    """A 7x7 convolution at a quarter of the sides is where int8 pays, in ONNX Runtime too."""
    detector = fresh(tiny_detector.spec.having(longer_step(tiny_detector)), seed=0)
    config = SMALL.model_copy(update={"float_stem": None})
    assert not stem_is_float(quantize(detector, config, "onnxruntime", tiny_train, tiny_val, 0, tmp_path).file)


def longer_step(detector: Detector) -> Frozen:
    """The settings with a first convolution over patches of 4x4 pixels."""
    return detector.spec.settings.model_copy(update={"stem_stride": 4, "stage_widths": (8, 16, 24, 32)})


@pytest.mark.parametrize("planes", [True, False], ids=["planes", "pictures"])
def test_the_step_of_the_stem_is_read_off_the_file(planes: bool, tiny_detector: Detector, tmp_path: Path) -> None:
    """2 and 4 pixels, as the settings say, in the files that quantizers take; 1 where no convolution reads the input itself."""
    for name, own in (("2", tiny_detector), ("4", fresh(tiny_detector.spec.having(longer_step(tiny_detector)), 0))):
        export_onnx(own, tmp_path / name, planes=planes)
        assert stem_stride(onnx.load(tmp_path / name)) == (int(name) if planes else 1)


def stem_is_float(file: Path) -> bool:
    """Whether the convolution that reads the picture has float weights."""
    if file.suffix == ".onnx":
        model = onnx.load(file)
        (stem,) = [node for node in model.graph.node if node.name.startswith("/stem/") and node.op_type == "Conv"]
        return stem.input[1] not in {output for node in model.graph.node for output in node.output}
    network = import_openvino().Core().read_model(file)
    (stem,) = [
        op for op in network.get_ops() if op.get_type_name() == "Convolution" and op.get_friendly_name().startswith("/stem/")
    ]
    return bool(stem.input_value(1).get_node().get_type_name() == "Constant")
