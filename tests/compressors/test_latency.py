"""The bridge from a spec to a profile's estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from compressors.latency import estimated_latency, operators
from detection.checkpoint import Detector
from detection.costs import count_macs, count_params, operator_costs
from detection.export import export_onnx
from detection.spec import Spec
from hardware_profiles.estimate.graph.reading import read_operators
from hardware_profiles.estimate.model import Operator, estimate
from hardware_profiles.schema.library import load_profile


@pytest.fixture
def spec(tiny_detector: Detector) -> Spec:
    return tiny_detector.spec


def test_no_operator_and_no_count_is_lost(spec: Spec) -> None:
    """The profile sees every operator that the spec has: same number, same multiply-adds, same weights, same channels."""
    seen, counted = operators(spec), operator_costs(spec)
    assert len(seen) == len(counted)
    decoding = sum(operator.macs for operator in seen if operator.weight_elements == 0)  # its products have nothing to learn
    assert sum(operator.macs for operator in seen) - decoding == count_macs(spec)
    assert sum(operator.weight_elements for operator in seen) == count_params(spec)
    assert [(o.kind, o.input_channels, o.output_channels) for o in seen] == [
        (c.kind, c.input_channels, c.output_channels) for c in counted
    ]
    assert [(o.input_elements, o.output_elements) for o in seen] == [(c.input_elements, c.output_elements) for c in counted]


def test_the_stem_by_hand(spec: Spec) -> None:
    """3 -> 8 channels, 3x3, stride 2 on 64 x 96: 8 * 3 * 9 weights and 8 biases, 216 multiply-adds for each of 32 * 48 points."""
    stem = operators(spec)[0]
    assert (stem.kind, stem.input_channels, stem.output_channels) == ("conv_other", 3, 8)
    assert stem.weight_elements == 8 * 3 * 9 + 8
    assert stem.macs == 8 * 3 * 9 * 32 * 48
    assert (stem.input_elements, stem.output_elements) == (3 * 64 * 96, 8 * 32 * 48)


def test_the_spec_predicts_the_exported_file(tiny_detector: Detector, tmp_path: Path) -> None:
    """The same operators with the same sizes are read back from the ONNX file, in whatever order."""
    export_onnx(tiny_detector, tmp_path / "model.onnx")

    def sizes(found: Sequence[Operator]) -> list[tuple[str, str, int, int, int]]:
        return sorted((o.op_type, o.kind, o.macs, o.input_elements, o.output_elements) for o in found)

    predicted, read = operators(tiny_detector.spec), read_operators(tmp_path / "model.onnx")
    assert sizes(predicted) == sizes(read)
    # Channels too, wherever there are products: they are padded to whole blocks.
    products = [sorted((o.macs, o.input_channels, o.output_channels) for o in found if o.macs) for found in (predicted, read)]
    assert products[0] == products[1]


@pytest.mark.parametrize("profile_id", ["x86-onnxruntime-1t", "x86-openvino-1t", "raspberry-pi-5", "jetson-nano"])
def test_the_estimate_is_the_profiles_own(profile_id: str, spec: Spec) -> None:
    """The latency of a spec is the profile's estimate of its operators: a positive time inside its interval."""
    profile = load_profile(profile_id)
    ours = estimated_latency(spec, profile, "fp32")
    assert ours == estimate(operators(spec), profile)
    assert 0 < ours.low_s < ours.point_s < ours.high_s


def test_prediction_layers_stay_float(spec: Spec) -> None:
    """In int8 all convolutions are quantized, the two products that predict on each of three levels and decoding are not; in float
    nothing is."""
    assert not any(operator.quantized for operator in operators(spec))
    int8 = operators(spec, "int8")
    assert all(operator.quantized for operator in int8 if operator.op_type == "Conv")
    assert sum(operator.op_type == "MatMul" and operator.weight_elements > 0 for operator in int8) == 2 * 3
    assert not any(operator.quantized for operator in int8 if operator.op_type in ("Exp", "MatMul", "Sigmoid"))


def test_a_narrower_network_is_estimated_faster(spec: Spec) -> None:
    """Half the channels in the two coarse stages cost less time, in float and in int8."""
    narrow = spec.having(spec.settings.model_copy(update={"stage_widths": (16, 16, 16, 16), "neck_width": 8}))
    profile = load_profile("x86-openvino-1t")
    for dtype in ("fp32", "int8"):
        assert estimated_latency(narrow, profile, dtype).point_s < estimated_latency(spec, profile, dtype).point_s


def test_a_larger_picture_is_estimated_slower(spec: Spec) -> None:
    """Twice the height is more work for every operator, though the spec's weights are the same."""
    profile = load_profile("x86-openvino-1t")
    tall = spec.at((128, 96))
    assert estimated_latency(tall, profile, "fp32").point_s > estimated_latency(spec, profile, "fp32").point_s
