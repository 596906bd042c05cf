"""Networks of which it is known what a profile says about them, for the tests of fitting."""

from __future__ import annotations

from typing import Any

from hardware_profiles.anchors import Anchor
from hardware_profiles.estimate import Operator, OperatorKind, estimate
from hardware_profiles.profile import DType, HardwareProfile
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


def anchors(
    truth: HardwareProfile, count: int, dtype: DType = "fp32", scale: tuple[float, ...] = (1.0,), **about: Any
) -> list[Anchor]:
    """Networks that take exactly as long as the profile says, times the factors in turn."""
    quantized = dtype == "int8"
    return [
        Anchor(f"n{index}", own, dtype, estimate(own, truth).point_s * scale[index % len(scale)], **about)
        for index in range(count)
        for own in [network(index, quantized)]
    ]
