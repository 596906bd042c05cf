"""The latency model, against sums worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hardware_profiles.estimate import Operator, computed_as, estimate, fits_memory
from hardware_profiles.profile import HardwareProfile, ProfileError, load_profile

CONV = Operator(
    kind="conv3x3s1",
    macs=36_864_000,
    input_elements=16 * 4000,
    output_elements=64 * 4000,
    weight_elements=9216,
    input_channels=16,
    output_channels=64,
)
ADD = Operator(
    kind="other", macs=0, input_elements=512_000, output_elements=256_000, weight_elements=0, input_channels=64, output_channels=64
)


def profile(**changes: Any) -> HardwareProfile:
    """100 G float and 200 G int8 operations a second at half use, 10 GB/s, blocks of 16, 5 and 20 us an operator, k = 2."""
    tree: dict[str, Any] = {
        "schema": 1,
        "id": "bench",
        "name": "bench",
        "device_class": "arm_cpu",
        "kind": "datasheet",
        "machine": "aarch64",
        "runtime": "ncnn",
        "threads": 1,
        "dtypes": ["fp32", "int8"],
        "float_dtype": "fp32",
        "peak_gops": {"fp32": 100, "int8": 200},
        "utilisation": {"fp32": 0.5, "int8": 0.5},
        "channel_alignment": {"fp32": 16, "int8": 16},
        "memory": {"bandwidth_effective_gbs": 10},
        "op_overhead_us": {"fp32": 5, "int8": 20},
        "interval_factor": 2,
        "requires_reduce_range": False,
    } | changes
    numbers = {
        f"{field}.{name}" if name else field
        for field, value in tree.items()
        for name, number in (value.items() if isinstance(value, dict) else [("", value)])
        if isinstance(number, int | float) and not isinstance(number, bool) and field != "schema"
    }
    return HardwareProfile.model_validate(tree | {"sources": dict.fromkeys(numbers, "made up for this test")})


def test_a_convolution_is_bound_by_its_products() -> None:
    """2 x 36.864 M operations at 50 G/s are 1474.56 us (moving 1.3 MB would take 132 us), plus 5 us."""
    assert estimate([CONV], profile(), "fp32").point_s == pytest.approx(1479.56e-6)


def test_an_addition_is_bound_by_memory() -> None:
    """768,000 float32 elements are 3.072 MB: 307.2 us at 10 GB/s, plus 5 us."""
    assert estimate([ADD], profile(), "fp32").point_s == pytest.approx(312.2e-6)


def test_int8_moves_a_quarter() -> None:
    """768,000 int8 elements take 76.8 us, plus the 20 us that a quantized operator costs."""
    assert estimate([ADD], profile(), "int8").point_s == pytest.approx(96.8e-6)


def test_operators_follow_one_another() -> None:
    """Times add up, and the interval is [t / k, t * k]."""
    both = estimate([CONV, ADD], profile(), "fp32")
    assert both.point_s == pytest.approx((1479.56 + 312.2) * 1e-6)
    assert (both.low_s, both.high_s) == pytest.approx((both.point_s / 2, both.point_s * 2))
    assert both.note is None


def test_a_fused_operator_is_free() -> None:
    """An activation inside its convolution adds neither work nor traffic nor overhead."""
    assert estimate([CONV, replace(ADD, fused=True)], profile(), "fp32").point_s == pytest.approx(1479.56e-6)


def test_pruning_inside_a_block_gains_nothing() -> None:
    """49 to 64 channels take the same time where channels are computed in blocks of 16; 48 take three quarters."""

    def kept(channels: int) -> float:
        share = replace(CONV, macs=CONV.macs * channels // 64, output_channels=channels, output_elements=4000 * channels)
        return estimate([share], profile(), "fp32").point_s - 5e-6

    assert kept(49) == pytest.approx(kept(64))
    assert kept(48) == pytest.approx(kept(64) * 0.75)


def test_a_picture_is_not_padded() -> None:
    """Three input channels are read as they are, not as a block of 16."""
    stem = replace(CONV, input_channels=3)
    assert estimate([stem], profile(), "fp32").point_s == pytest.approx(estimate([CONV], profile(), "fp32").point_s)


def test_a_depthwise_convolution_pads_once() -> None:
    """It has one set of channels: 24 of them cost 32/24, not its square."""
    depthwise = replace(CONV, kind="depthwise", input_channels=24, output_channels=24)
    assert estimate([depthwise], profile(), "fp32").point_s == pytest.approx(1474.56e-6 * 32 / 24 + 5e-6)


def test_splitting_a_convolution_costs_an_overhead() -> None:
    """Two operators of half the work lose by exactly one overhead: why low rank can lose on small layers."""
    half = replace(CONV, macs=CONV.macs // 2)
    assert estimate([half, half], profile(), "fp32").point_s == pytest.approx(1484.56e-6)


def test_unknown_numbers_are_left_out() -> None:
    """Without a bandwidth an addition costs its overhead; without an overhead nothing."""
    blind = profile(memory={}, op_overhead_us={})
    assert estimate([ADD], blind, "fp32").point_s == 0.0
    assert estimate([ADD], profile(memory={}), "fp32").point_s == pytest.approx(5e-6)


def test_theoretical_bandwidth_stands_in() -> None:
    """Where only the datasheet's bandwidth is known, it is used: 307.2 us at 10 GB/s are 153.6 us at 20."""
    assert estimate([ADD], profile(memory={"bandwidth_theoretical_gbs": 20}), "fp32").point_s == pytest.approx(158.6e-6)


def test_int8_without_int8_is_not_faster() -> None:
    """On the Jetson Nano a quantized network is estimated at the speed of its float sibling, and the estimate says so."""
    nano = load_profile("jetson-nano")
    quantized, floating = estimate([CONV, ADD], nano, "int8"), estimate([CONV, ADD], nano, nano.float_dtype)
    assert quantized.point_s == floating.point_s
    assert quantized.note == f"{nano.name} has no int8: estimated at the speed of fp16"
    assert computed_as(nano, "int8") == "fp16"


def test_nothing_to_estimate_is_an_error() -> None:
    """An empty list is a mistake upstream, not a network of 0 s."""
    with pytest.raises(ProfileError, match="the list of operators is empty"):
        estimate([], profile(), "fp32")


@pytest.mark.parametrize(
    ("budget_bytes", "fits"), [(None, None), (3_145_727, False), (3_145_728, None), (3_401_727, None), (3_401_728, True)]
)
def test_memory_is_bounded_from_both_sides(budget_bytes: int | None, fits: bool | None) -> None:
    """Two convolutions of 9,216 weights and an addition of their maps.

    The addition alone needs 768,000 elements: with the weights 786,432 x 4 bytes. The picture and all three maps at once are
    832,000 elements: with the weights 850,432 x 4 bytes. Between the two nobody can say.
    """
    graph = [CONV, replace(CONV, input_elements=256_000), ADD]
    assert fits_memory(graph, profile(memory={"budget_bytes": budget_bytes}), "fp32") is fits
