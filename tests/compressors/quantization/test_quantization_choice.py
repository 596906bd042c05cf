"""What is chosen on val, what returns to float, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from compressors.quantization import Quantization, QuantizationRecord, float_parts, method, quantize, refuse_unsupported
from compressors.quantization.calibrators import observe, ranges_of
from compressors.quantization.float_parts import most_harmful
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.evaluation import accuracy, as_planes, detect
from detection.export import export_onnx
from detection.frozen import InputError
from hardware_profiles.runtimes.interface import ForInt8
from hardware_profiles.runtimes.onnxruntime.int8 import prepare
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.ranges import Range, Ranges
from hardware_profiles.runtimes.table import RUNTIMES, open_session
from hardware_profiles.schema.library import load_profile


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_record_tells_each_candidates_val_map(
    runtime: str, tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Every calibrator was tried, the file is the best one's, and its val mAP is that of the file in its runtime."""
    packed = quantize(tiny_detector, Quantization(pictures=8), runtime, tiny_train, tiny_val, 0, tmp_path)
    record = packed.record
    assert record.val_map.keys() == {"minmax", "percentile", "mse", "entropy"}
    assert record.ranges is not None
    assert record.val_map[record.ranges] == max(record.val_map.values()) == record.int8_val_map
    again = accuracy(tiny_val.ground_truth, detect(open_session(runtime, packed.file, 1), tiny_val)).map_50_95
    assert again == record.int8_val_map
    assert record.summary().startswith(f"ranges by {record.ranges}, val mAP of minmax ")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Name of a candidate's folder -> its val mAP, as the test wants it; the float file's is 0.5."""
    found: dict[str, float] = {}
    monkeypatch.setattr(method._Work, "val_map", lambda _, file: found[file.parent.name] if file.stem == "model" else 0.5)
    return found


def packed_record(config: Quantization, detector: Detector, train: Images, val: Images, folder: Path) -> QuantizationRecord:
    """What ONNX Runtime's file was chosen by."""
    return quantize(detector, config, "onnxruntime", train, val, 0, folder).record


def test_the_best_on_val_is_kept_and_of_equals_the_first(
    scripted: dict[str, float], tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """0.4, 0.6, 0.6: the second of three candidates, in the order they are listed."""
    scripted |= {"mse": 0.4, "minmax": 0.6, "entropy": 0.6}
    config = Quantization(pictures=8, calibrators=("mse", "minmax", "entropy"))
    record = packed_record(config, tiny_detector, tiny_train, tiny_val, tmp_path)
    assert (record.ranges, record.val_map) == ("minmax", scripted)


def test_one_calibrator_is_not_compared(tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path) -> None:
    """Nobody looks at val where there is nothing to choose."""
    config = Quantization(pictures=8, calibrator="mse")
    record = packed_record(config, tiny_detector, tiny_train, tiny_val, tmp_path)
    assert record == QuantizationRecord(ranges="mse")
    assert not config.looks_at_val


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_layers_return_until_the_drop_is_allowed(
    runtime: str, scripted: dict[str, float], tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """From 0.5 in float, 0.40 in int8, 0.44 with one layer back, 0.48 with two: 0.02 may be lost, so two return, and are float."""
    scripted |= {"minmax": 0.40, "float-1": 0.44, "float-2": 0.48}
    config = Quantization(pictures=8, calibrator="minmax", max_drop=0.02, float_stem=False)
    packed = quantize(tiny_detector, config, runtime, tiny_train, tiny_val, 0, tmp_path)
    assert (packed.record.float_val_map, packed.record.int8_val_map, len(packed.record.float_layers)) == (0.5, 0.48, 2)
    plain = float_convolutions(packed.file)
    assert plain == set(packed.record.float_layers)
    assert len(plain) == 2


def test_as_many_layers_return_as_may(
    scripted: dict[str, float], tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Three may, and one and two are too few: the third try is with three, not with four, and not left out."""
    scripted |= {"minmax": 0.40, "float-1": 0.44, "float-2": 0.46, "float-3": 0.49}
    config = Quantization(pictures=8, calibrator="minmax", max_drop=0.02, most_float_layers=3, float_stem=False)
    record = packed_record(config, tiny_detector, tiny_train, tiny_val, tmp_path)
    assert (record.int8_val_map, len(record.float_layers)) == (0.49, 3)


def float_convolutions(file: Path) -> set[str]:
    """Names of the convolutions whose weights are not rounded."""
    if file.suffix == ".onnx":
        model = onnx.load(file)
        made = {output for node in model.graph.node for output in node.output}
        return {node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] not in made}
    convolutions = [op for op in import_openvino().Core().read_model(file).get_ops() if op.get_type_name() == "Convolution"]
    plain = [op for op in convolutions if op.input_value(1).get_node().get_type_name() == "Constant"]
    return {op.get_friendly_name().removesuffix("/WithoutBiases") for op in plain}


def test_the_most_accurate_stays_where_no_number_of_layers_suffices(
    scripted: dict[str, float], tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """At most four layers may return and none of 0.40, 0.45, 0.43, 0.42 reaches 0.49: the file with one layer back is kept."""
    scripted |= {"minmax": 0.40, "float-1": 0.45, "float-2": 0.43, "float-4": 0.42}
    config = Quantization(pictures=8, calibrator="minmax", max_drop=0.01, most_float_layers=4)
    record = packed_record(config, tiny_detector, tiny_train, tiny_val, tmp_path)
    assert (record.int8_val_map, len(record.float_layers)) == (0.45, 1)


def test_nothing_returns_where_int8_loses_little(
    scripted: dict[str, float], tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """0.49 of 0.5 is within 0.02."""
    scripted |= {"minmax": 0.49}
    config = Quantization(pictures=8, calibrator="minmax", max_drop=0.02)
    record = packed_record(config, tiny_detector, tiny_train, tiny_val, tmp_path)
    assert (record.float_layers, record.float_val_map, record.int8_val_map) == ((), 0.5, 0.49)


def test_the_layer_that_is_clipped_harms_most(tiny_detector: Detector, tiny_train: Images, tmp_path: Path) -> None:
    """With one layer's output cut to a hundredth of its range, that layer is ranked first."""
    export_onnx(tiny_detector, tmp_path / "float.onnx", planes=True)
    ready = prepare(tmp_path / "float.onnx")
    graph = onnx.load(ready)
    pictures = [255 * as_planes(pixels) for pixels in tiny_train.pixels[:8]]
    ranges = ranges_of(observe(ready, float_parts.activations_of(graph), pictures), "minmax", 99.9)
    layers = float_parts.layers_of(graph)
    worst = layers[len(layers) // 2]
    (written,) = [node.output[0] for node in graph.graph.node if node.name == worst]
    (after,) = [node.output[0] for node in graph.graph.node if node.input and node.input[0] == written]
    ranked = most_harmful(ready, ranges | {after: Range(0.0, ranges[after].high / 100)}, layers, pictures)
    assert ranked[0] == worst
    assert sorted(ranked) == sorted(layers)


def test_layers_are_all_products_with_weights() -> None:
    """A convolution and a linear layer may return to float; a product of two activations is none, nor is the tail."""
    rng = np.random.default_rng(0)
    sizes = {"kernel": (4, 3, 1, 1), "linear": (16, 16), "last": (16, 2)}
    weights = [onnx.numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name) for name, size in sizes.items()]
    nodes = [
        onnx.helper.make_node("Conv", ["images", "kernel"], ["maps"], "conv"),
        onnx.helper.make_node("Flatten", ["maps"], ["rows"], "rows", axis=2),
        onnx.helper.make_node("MatMul", ["rows", "linear"], ["mixed"], "mixing"),
        onnx.helper.make_node("MatMul", ["mixed", "mixed"], ["attended"], "attending"),
        onnx.helper.make_node("MatMul", ["attended", "last"], ["scores"], "predicting"),
    ]
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 4, 4])
    scores = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(nodes, "detector", [images], [scores], weights)
    assert float_parts.layers_of(onnx.helper.make_model(graph)) == ["conv", "mixing"]


def test_learned_ranges_are_the_first_candidate(
    scripted: dict[str, float], tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Quantization-aware training leaves ranges by node of its graph: they are tried first, and hold where they are learned.

    With one calibrator they are the only candidate, and the file is written as that of a network trained quantization-aware.
    """
    scripted |= dict.fromkeys(("learned", "minmax", "mse"), 0.5)
    seen: dict[str, Ranges] = {}

    def writer(made_from: ForInt8) -> Any:
        assert made_from.trained_for_int8

        def write(ranges: Ranges, _left_float: Iterable[str], folder: Path) -> Path:
            seen[folder.name] = ranges
            (folder / "model.onnx").write_bytes(b"")
            return folder / "model.onnx"

        return write

    config = Quantization(pictures=8, qat_epochs=1, calibrators=("minmax", "mse"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RUNTIMES, "onnxruntime", dataclasses.replace(RUNTIMES["onnxruntime"], int8_writer=writer))
        learned = {"stem_2": Range(0.0, 0.75)}  # the ReLU
        packed = quantize(tiny_detector, config, "onnxruntime", tiny_train, tiny_val, 0, tmp_path, learned)
        only = config.model_copy(update={"calibrator": "minmax"})
        alone = quantize(tiny_detector, only, "onnxruntime", tiny_train, tiny_val, 0, tmp_path, learned)
    assert packed.record.ranges == "learned"
    assert list(packed.record.val_map) == ["learned", "minmax", "mse"]
    assert alone.record == QuantizationRecord(ranges="learned")
    (read_next,) = [name for name in seen["minmax"] if seen["learned"][name] != seen["minmax"][name]]
    assert read_next.startswith("/stem/"), "the second convolution reads what the stem writes"
    assert seen["learned"][read_next] == Range(0.0, 0.75)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pictures": 7}, r"pictures\n.*greater than or equal to 8"),
        ({"calibrator": "median"}, r"calibrator\n.*'val', 'minmax', 'entropy', 'percentile' or 'mse'"),
        ({"calibrators": []}, r"calibrators\n.*at least 1"),
        ({"calibrators": ["mse", "mse"]}, "calibrators .*: each may stand once"),
        ({"percentile": 50}, r"percentile\n.*greater than 50"),
        ({"max_drop": 0}, r"max_drop\n.*greater than 0"),
        ({"most_float_layers": 0}, r"most_float_layers\n.*greater than or equal to 1"),
        ({"qat_epochs": -1}, r"qat_epochs\n.*greater than or equal to 0"),
        ({"qat_learning_rate": 0}, r"qat_learning_rate\n.*greater than 0"),
        ({"precision": "int4"}, r"precision\n.*'int8' or 'float16'"),
        ({"precision": "float16", "calibrator": "mse"}, "calibrator mse: counts only with precision int8"),
        ({"precision": "float16", "max_drop": 0.01}, "max_drop 0.01: counts only with precision int8"),
        ({"precision": "float16", "float_stem": True}, "float_stem True: counts only with precision int8"),
        ({"precision": "float16", "qat_epochs": 1}, "qat_epochs 1: counts only with precision int8"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    """The message names the field and says what is allowed."""
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        Quantization.model_validate(settings)


def test_too_few_training_pictures_are_refused(
    tiny_detector: Detector, tiny_train: Images, tiny_val: Images, tmp_path: Path
) -> None:
    """Ranges of five pictures would be those of five pictures."""
    few = dataclasses.replace(tiny_train, pixels=tiny_train.pixels[:5], picture_ids=tiny_train.picture_ids[:5])
    with pytest.raises(InputError, match=r"quantization.pictures: ranges need 8 training pictures at least; train has 5"):
        quantize(tiny_detector, Quantization(pictures=8), "onnxruntime", few, tiny_val, 0, tmp_path)


def test_a_device_without_int8_is_refused() -> None:
    """The Jetson Nano multiplies in float32 and float16: int8 is refused with the field's name, float16 is not."""
    with pytest.raises(InputError, match=r"quantization.precision: int8 is asked for, .*jetson-nano.* fp32, fp16 only"):
        refuse_unsupported(Quantization(), load_profile("jetson-nano"))
    refuse_unsupported(Quantization(precision="float16"), load_profile("jetson-nano"))
    refuse_unsupported(Quantization(), load_profile("raspberry-pi-5"))


def test_labels_tell_variants_apart() -> None:
    """Each setting that makes another cell of its own has its place in the label."""
    labels: dict[str, dict[str, Any]] = {
        "int8-val": {},
        "int8-mse": {"calibrator": "mse"},
        "float16": {"precision": "float16"},
        "int8-val-of-mse-entropy": {"calibrators": ["mse", "entropy"]},
        "int8-val-p99.9": {"percentile": 99.9},
        "int8-percentile-p99-16pictures": {"calibrator": "percentile", "percentile": 99, "pictures": 16},
        "int8-val-qat5": {"qat_epochs": 5},
        "int8-val-qat5-lr0.001": {"qat_epochs": 5, "qat_learning_rate": 1e-3},
        "int8-val-drop0.01": {"max_drop": 0.01},
        "int8-val-drop0.01-most2": {"max_drop": 0.01, "most_float_layers": 2},
        "int8-val-float-stem": {"float_stem": True},
        "int8-val-int8-stem": {"float_stem": False},
    }
    assert {Quantization.model_validate(own).label(): own for own in labels.values()} == labels
