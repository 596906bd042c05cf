"""The latency model, against sums worked by hand, and the cases in which fewer bits or operations save no time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hardware_profiles.estimate.model import Operator, cannot_run, estimate
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile, ProfileError
from tests.hardware_profiles.profile_factory import tree

CONV = Operator(
    kind="conv3x3s1",
    macs=36_864_000,
    input_elements=16 * 4000,
    output_elements=64 * 4000,
    weight_elements=9216,
    input_channels=16,
    output_channels=64,
)
INT8_CONV = replace(CONV, quantized=True)
ADD = Operator(
    kind="other",
    macs=0,
    input_elements=512_000,
    output_elements=256_000,
    weight_elements=0,
    input_channels=64,
    output_channels=64,
    op_type="Add",
)


def profile(**changes: Any) -> HardwareProfile:
    """100 G float and 200 G int8 operations a second at half use, 10 GB/s, blocks of 16, 5 and 20 us an operator, k = 2 and 3."""
    bench = {
        "peak_gops": {"fp32": 100, "int8": 200},
        "utilisation": {"fp32": 0.5, "int8": 0.5},
        "channel_alignment": {"fp32": 16, "int8": 16},
        "memory": {"bandwidth_effective_gbs": 10},
        "op_overhead_us": {"fp32": 5, "int8": 20},
        "interval_factor": {"fp32": 2, "int8": 3},
    }
    return HardwareProfile.model_validate(tree(**bench | changes))


def calibrated(networks: int, error: float) -> dict[str, Any]:
    """A calibration of float on so many networks."""
    return {"fp32": {"networks": networks, "leave_one_out_mape": error, "validated_on": "all", "origin": "here"}}


def test_a_convolution_is_bound_by_its_products() -> None:
    """2 x 36.864 M operations at 50 G/s are 1474.56 us (moving 1.3 MB would take 132 us), plus 5 us."""
    assert estimate([CONV], profile()).point_s == pytest.approx(1479.56e-6)


def test_an_addition_is_bound_by_memory() -> None:
    """768,000 float32 elements are 3.072 MB: 307.2 us at 10 GB/s, plus 5 us."""
    assert estimate([ADD], profile()).point_s == pytest.approx(312.2e-6)


def test_int8_moves_a_quarter() -> None:
    """768,000 int8 elements take 76.8 us, plus the 20 us that a quantized operator costs."""
    assert estimate([replace(ADD, quantized=True)], profile()).point_s == pytest.approx(96.8e-6)


def test_every_operator_has_its_own_type() -> None:
    """A float addition between int8 convolutions costs what float costs; the interval is that of the type of most products."""
    mixed = estimate([INT8_CONV, ADD], profile())
    assert mixed.point_s == pytest.approx((737.28 + 20 + 307.2 + 5) * 1e-6)
    assert (mixed.low_s, mixed.high_s) == pytest.approx((mixed.point_s / 3, mixed.point_s * 3))


def test_operators_follow_one_another() -> None:
    """Times add up, and the interval is [t / k, t * k]."""
    both = estimate([CONV, ADD], profile())
    assert both.point_s == pytest.approx((1479.56 + 312.2) * 1e-6)
    assert (both.low_s, both.high_s) == pytest.approx((both.point_s / 2, both.point_s * 2))
    assert both.note is None


def test_pruning_to_unaligned_widths_gains_nothing() -> None:
    """49 to 64 channels take the same time where channels are computed in blocks of 16; 48 take three quarters."""

    def kept(channels: int) -> float:
        share = replace(CONV, macs=CONV.macs * channels // 64, output_channels=channels, output_elements=4000 * channels)
        return estimate([share], profile()).point_s - 5e-6

    assert kept(49) == pytest.approx(kept(64))
    assert kept(48) == pytest.approx(kept(64) * 0.75)


def test_a_picture_is_not_padded() -> None:
    """Three input channels are read as they are, not as a block of 16."""
    stem = replace(CONV, input_channels=3)
    assert estimate([stem], profile()).point_s == pytest.approx(estimate([CONV], profile()).point_s)


def test_a_depthwise_convolution_pads_once() -> None:
    """It has one set of channels: 24 of them cost 32/24, not its square."""
    depthwise = replace(CONV, kind="depthwise", input_channels=24, output_channels=24)
    assert estimate([depthwise], profile()).point_s == pytest.approx(1474.56e-6 * 32 / 24 + 5e-6)


def test_splitting_a_convolution_costs_an_overhead() -> None:
    """Two operators of half the work lose by exactly one overhead: why low rank can lose on small layers."""
    half = replace(CONV, macs=CONV.macs // 2)
    assert estimate([half, half], profile()).point_s == pytest.approx(1484.56e-6)


def test_unknown_numbers_are_left_out() -> None:
    """Without a bandwidth an addition costs its overhead; without an overhead nothing."""
    blind = profile(memory={}, op_overhead_us={})
    assert estimate([ADD], blind).point_s == 0.0
    assert estimate([ADD], profile(memory={})).point_s == pytest.approx(5e-6)


def test_theoretical_bandwidth_stands_in() -> None:
    """Where only the datasheet's bandwidth is known, it is used: 307.2 us at 10 GB/s are 153.6 us at 20."""
    assert estimate([ADD], profile(memory={"bandwidth_theoretical_gbs": 20})).point_s == pytest.approx(158.6e-6)


def test_int8_without_int8_is_not_faster() -> None:
    """On the Jetson Nano a quantized network is estimated at the speed of its float sibling, and the estimate says so."""
    nano = load_profile("jetson-nano")
    quantized, floating = estimate([INT8_CONV, ADD], nano), estimate([CONV, ADD], nano)
    assert quantized.point_s == floating.point_s
    assert quantized.note == f"{nano.name} has no int8: estimated at the speed of fp16"


def test_int8_is_slower_where_its_operators_cost_more() -> None:
    """A small convolution gains 0.37 us of products and pays 15 us more to be started: int8 loses to float."""
    small = replace(CONV, macs=36_864, input_elements=64, output_elements=256)
    assert estimate([replace(small, quantized=True)], profile()).point_s > estimate([small], profile()).point_s


def test_per_channel_weights_may_be_slow() -> None:
    """Our int8 files have one scale per channel; where the device wants one per tensor, the estimate says that it is too fast."""
    whole = profile(weight_granularity=["per_tensor"])
    assert "files with one per channel take longer" in (estimate([INT8_CONV], whole).note or "")
    assert estimate([CONV], whole).note is None


@pytest.mark.parametrize(
    ("operator", "kind"),
    [(replace(ADD, op_type="GridSample"), "GridSample"), (replace(CONV, op_type="MatMul", weight_elements=0), "attention")],
)
def test_what_no_profile_was_fitted_on_is_told(operator: Operator, kind: str) -> None:
    """Sampling, and products of what was computed, count as others do, and no such estimate is called calibrated."""
    fitted = profile(calibration=calibrated(30, 0.05))
    assert (estimate([CONV, ADD], fitted).origin, estimate([CONV, ADD], fitted).note) == ("calibrated", None)
    found = estimate([CONV, operator], fitted)
    share = 312.2 / (1479.56 + 312.2) if kind == "GridSample" else 0.5
    assert found.origin == "estimated"
    assert found.note == f"not fitted: {share:.0%} of this time is of {kind}, on which no profile was fitted"


def test_parameters_beyond_the_chip_cost_their_way() -> None:
    """9,216 int8 weights with room for 5,216 on the chip: 4,000 bytes cross a link of 0.1 GB/s in 40 us, in every inference."""
    link = {"link": {"bandwidth_gbs": 0.1}, "device_class": "edge_npu"}
    roomy, tight = (profile(memory={"bandwidth_effective_gbs": 10, "on_chip_bytes": size}, **link) for size in (9_216, 5_216))
    spilled = estimate([INT8_CONV], tight).point_s - estimate([INT8_CONV], roomy).point_s
    assert spilled == pytest.approx(40e-6)


def test_what_the_device_cannot_run_costs_the_fallback_and_two_crossings() -> None:
    """The addition runs on a slow processor (50 us there) and its 3.072 MB cross a link of 1 GB/s, 100 us each way besides."""
    link = {"link": {"bandwidth_gbs": 1, "latency_us": 100}, "device_class": "edge_npu"}
    device = profile(unsupported_ops=["Add"], host_cpu="processor", **link)
    processor = profile(memory={}, op_overhead_us={"fp32": 50})
    mixed = estimate([CONV, ADD], device, processor)
    assert mixed.point_s == pytest.approx((1479.56 + 50 + 3072 + 200) * 1e-6)
    assert mixed.note == "1 of 2 operators run on board"


def test_without_a_fallback_there_is_no_number() -> None:
    """The reason names the operators and the device."""
    device = profile(unsupported_ops=["Add"])
    assert cannot_run([CONV, ADD], device) == "a board cannot run Add"
    assert cannot_run([CONV], device) is None
    with pytest.raises(ProfileError, match="board: a board cannot run Add"):
        estimate([CONV, ADD], device)


def test_a_class_of_its_own_takes_precedence() -> None:
    """Depthwise at a tenth of the peak takes five times as long as at half of it; other classes keep the common number."""
    own = profile(class_utilisation={"fp32": {"depthwise": 0.1}})
    depthwise = replace(CONV, kind="depthwise")
    assert estimate([depthwise], own).point_s == pytest.approx((5 * 1474.56 + 5) * 1e-6)
    assert estimate([CONV], own).point_s == estimate([CONV], profile()).point_s


def test_partial_blocks_of_depthwise_may_have_another_kernel() -> None:
    """24 of 32 channels at a rate of their own: by their products, without padding; 32 channels keep the class's number."""
    own = profile(class_utilisation={"fp32": {"depthwise": 0.5, "depthwise_partial": 0.1}})
    partial = replace(CONV, kind="depthwise", input_channels=24, output_channels=24)
    whole = replace(CONV, kind="depthwise", input_channels=32, output_channels=32)
    assert estimate([partial], own).point_s == pytest.approx((5 * 1474.56 + 5) * 1e-6)
    assert estimate([whole], own).point_s == pytest.approx((1474.56 + 5) * 1e-6)


def test_the_first_convolution_may_have_a_number_of_its_own() -> None:
    """Three input channels go by `picture` where it is known."""
    own = profile(class_utilisation={"fp32": {"picture": 0.25}})
    assert estimate([replace(CONV, input_channels=3)], own).point_s == pytest.approx((2 * 1474.56 + 5) * 1e-6)


def test_winograd_saves_products_of_3x3_only() -> None:
    """2.25 times fewer products for stride 1; a 1x1 convolution and a measured class do without."""
    winograd = profile(winograd=["fp32"])
    assert estimate([CONV], winograd).point_s == pytest.approx((1474.56 / 2.25 + 5) * 1e-6)
    assert estimate([replace(CONV, kind="conv1x1")], winograd).point_s == pytest.approx(1479.56e-6)
    measured = profile(winograd=["fp32"], class_utilisation={"fp32": {"conv3x3s1": 0.5}})
    assert estimate([CONV], measured).point_s == pytest.approx(1479.56e-6)


def test_a_softmax_costs_by_the_element() -> None:
    """256,000 elements at 4 ns are 1,024 us; moving them would take 307."""
    softmax = replace(ADD, op_type="Softmax")
    assert estimate([softmax], profile(softmax_ns={"fp32": 4})).point_s == pytest.approx(1029e-6)
    assert estimate([softmax], profile()).point_s == pytest.approx(312.2e-6)


def test_a_resize_costs_by_the_element() -> None:
    """256,000 elements at 2 ns are 512 us; other operators that move data keep to the bandwidth."""
    resizing = profile(resize_ns={"fp32": 2})
    assert estimate([replace(ADD, op_type="Resize")], resizing).point_s == pytest.approx(517e-6)
    assert estimate([ADD], resizing).point_s == pytest.approx(312.2e-6)


def test_a_patch_costs_by_the_place() -> None:
    """4,000 places at 10 ns are 40 us on top of the products; neither 1x1 nor depthwise convolutions gather patches."""
    gathering = profile(place_ns={"fp32": 10})
    assert estimate([CONV], gathering).point_s == pytest.approx((1479.56 + 40) * 1e-6)
    assert estimate([replace(CONV, kind="conv_other")], gathering).point_s == pytest.approx((1479.56 + 40) * 1e-6)
    for kind in ("conv1x1", "depthwise"):
        own = replace(CONV, kind=kind)
        assert estimate([own], gathering).point_s == estimate([own], profile()).point_s


def test_few_channels_on_a_large_map_cost_as_much_as_many_on_a_small_one() -> None:
    """A 16->16 convolution at 4,000 places does a quarter of the products of a 64->64 one at 1,000, and takes longer by place."""
    large = replace(CONV, macs=144 * 16 * 4000, output_channels=16, output_elements=16 * 4000)
    small = replace(CONV, macs=576 * 64 * 1000, input_channels=64, input_elements=64 * 1000, output_elements=64 * 1000)
    assert estimate([large], profile()).point_s < estimate([small], profile()).point_s
    gathering = profile(place_ns={"fp32": 400})
    assert estimate([large], gathering).point_s > estimate([small], gathering).point_s


def test_places_that_do_not_fill_a_block_cost_more() -> None:
    """8 of 16 output channels take the products of 16 and 5 ns a place more; 24 fill one block and cost no more than 32."""
    own = profile(place_ns={"fp32": 10}, partial_place_ns={"fp32": 5})
    eight, sixteen, twenty_four, thirty_two = (
        replace(CONV, macs=144 * channels * 4000, output_channels=channels, output_elements=channels * 4000)
        for channels in (8, 16, 24, 32)
    )
    assert estimate([eight], own).point_s - estimate([sixteen], own).point_s == pytest.approx(20e-6)
    assert estimate([twenty_four], own).point_s == pytest.approx(estimate([thirty_two], own).point_s)


def test_places_of_the_picture_have_a_number_of_their_own() -> None:
    """25 ns at each of 4,000 places beside the rate of the class, and none of what other convolutions pay; without the class
    the first convolution is one of them."""
    stem = replace(CONV, input_channels=3)
    gathering = {"place_ns": {"fp32": 10}, "partial_place_ns": {"fp32": 5}, "picture_place_ns": {"fp32": 25}}
    own = profile(class_utilisation={"fp32": {"picture": 0.25}}, **gathering)
    assert estimate([stem], own).point_s == pytest.approx((2 * 1474.56 + 5 + 100) * 1e-6)
    assert estimate([stem], profile(**gathering)).point_s == pytest.approx((1479.56 + 40) * 1e-6)


def test_zero_points_cost_an_int8_convolution() -> None:
    """12 us more for an asymmetric input, in int8 alone."""
    own = profile(zero_point_us=12)
    asymmetric = replace(INT8_CONV, zero_point=True)
    assert estimate([asymmetric], own).point_s - estimate([INT8_CONV], own).point_s == pytest.approx(12e-6)
    assert estimate([asymmetric], profile()).point_s == estimate([INT8_CONV], profile()).point_s


def test_an_inference_costs_something_before_its_first_operator() -> None:
    """The base is paid once, not per operator."""
    assert estimate([CONV, CONV], profile(base_us={"fp32": 100})).point_s == pytest.approx((2 * 1479.56 + 100) * 1e-6)


@pytest.mark.parametrize(("networks", "error", "origin"), [(5, 0.3, "calibrated"), (4, 0.1, "estimated"), (40, 0.31, "estimated")])
def test_only_a_calibration_that_holds_is_called_one(networks: int, error: float, origin: str) -> None:
    """Five networks and an error of at most 30 %; anything less stays an estimate."""
    assert estimate([CONV], profile(calibration=calibrated(networks, error))).origin == origin


def test_nothing_to_estimate_is_an_error() -> None:
    """An empty list is a mistake upstream, not a network of 0 s."""
    with pytest.raises(ProfileError, match="the list of operators is empty"):
        estimate([], profile())
