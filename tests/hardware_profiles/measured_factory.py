"""Networks of which it is known what a profile says about them, for the tests of fitting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hardware_profiles.estimate.fit.measurements import MeasuredNetwork
from hardware_profiles.estimate.model import Operator, OperatorKind, estimate
from hardware_profiles.schema.profile import DType, HardwareProfile
from tests.hardware_profiles.profile_factory import tree

KINDS: tuple[OperatorKind, ...] = ("conv3x3s1", "conv1x1", "conv_other", "depthwise")


def device(**changes: Any) -> HardwareProfile:
    """100 G float and 400 G int8 operations a second, memory as fast as you like, nothing else known."""
    plain = {"channel_alignment": {}, "memory": {}, "op_overhead_us": {}}
    return HardwareProfile.model_validate(tree(**plain | changes))


def operator(kind: OperatorKind, macs: int, quantized: bool = False, zero_point: bool = False) -> Operator:
    """One of so many multiply-adds."""
    return Operator(kind, macs, 1000, 1000, 100, 16, 16, quantized=quantized, zero_point=zero_point)


def network(index: int, quantized: bool = False) -> tuple[Operator, ...]:
    """The index-th of many that differ in work, in length and in which class does most; every third has zero points."""
    length = 5 + 7 * index % 31
    macs = 1_000_000 * (1 + index * index % 17)
    return tuple(operator(KINDS[(index + place * place) % 4], macs, quantized, index % 3 == 0) for place in range(length))


def on_maps(operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """The same work on maps of 1,000 to 13,000 places, after a picture and before a Resize."""
    spread = [replace(own, output_elements=16_000 * (1 + 5 * place % 13)) for place, own in enumerate(operators)]
    first = replace(operators[0], kind="conv_other", input_channels=3)
    last = replace(operators[0], kind="other", macs=0, weight_elements=0, op_type="Resize")
    return (first, *spread, last)


def measured(
    truth: HardwareProfile,
    count: int,
    dtype: DType = "fp32",
    scale: tuple[float, ...] = (1.0,),
    spread_places: bool = False,
    **about: Any,
) -> list[MeasuredNetwork]:
    """Networks that take exactly as long as the profile says, times the factors in turn; on maps of one size, or of many."""
    quantized = dtype == "int8"
    return [
        MeasuredNetwork(f"n{index}", own, dtype, estimate(own, truth).point_s * scale[index % len(scale)], **about)
        for index in range(count)
        for own in [on_maps(network(index, quantized)) if spread_places else network(index, quantized)]
    ]
