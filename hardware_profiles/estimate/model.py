"""Modelled latency: a roofline per operator with one utilisation per type, and an interval that says how little it knows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hardware_profiles.schema.profile import DType, HardwareProfile, ProfileError

OperatorKind = Literal["conv3x3s1", "conv1x1", "conv_other", "depthwise", "other"]
Origin = Literal["calibrated", "estimated"]
ELEMENT_BYTES: dict[DType, int] = {"fp32": 4, "fp16": 2, "int8": 1}
PICTURE_CHANNELS = 4
"""Up to so many input channels are a picture, which runtimes read as it is instead of in channel blocks."""
PATCH_KINDS: frozenset[OperatorKind] = frozenset({"conv3x3s1", "conv_other"})
"""Convolutions that gather a patch of more than one place for every sum; depthwise kernels read theirs where it lies."""
WINOGRAD_SAVING = 2.25
"""Multiplications that F(2x2, 3x3) saves: 36 become 16 (Lavin and Gray, CVPR 2016, section 4.1)."""


@dataclass(frozen=True)
class Operator:
    """One operator of the graph as it is exported: after pruning, factoring and folding, for one picture."""

    kind: OperatorKind
    macs: int
    """Multiply-adds; 0 for operators that only move or add."""
    input_elements: int
    output_elements: int
    weight_elements: int
    input_channels: int
    output_channels: int
    op_type: str = "Conv"
    """As ONNX calls it."""
    quantized: bool = False
    """Computed in int8 where the device has it."""
    zero_point: bool = False
    """An int8 convolution over more than one place whose input stores the real value 0 as another number, as a signed range without
    symmetry does. For 1x1 its share of the sums is the same everywhere, a bias."""

    @property
    def places(self) -> int:
        """Height times width of what it writes."""
        return self.output_elements // self.output_channels


@dataclass(frozen=True)
class Estimate:
    """Seconds for one picture; the true value is believed to lie in [low_s, high_s]."""

    point_s: float
    low_s: float
    high_s: float
    origin: Origin
    """Whether the profile's numbers for this type were fitted on enough measured networks, and fitted well."""
    note: str | None = None
    """What the reader has to know, for instance that the device has no int8."""


def estimate(operators: Sequence[Operator], profile: HardwareProfile, fallback: HardwareProfile | None = None) -> Estimate:
    """Modelled latency of the operators, computed one after another, each in its type or in the nearest that the device has.

    `fallback` is the profile that `profile.fallback` names; what the device cannot run is computed there, and what passes between
    the two crosses the link. ProfileError where there are no operators, or some that nothing can run: see `cannot_run`.
    """
    if not operators:
        raise ProfileError(f"{profile.id}: nothing to estimate; the list of operators is empty")
    if fallback is None and (reason := cannot_run(operators, profile)):
        raise ProfileError(f"{profile.id}: {reason}")
    point_s, elsewhere_count = (profile.base_us.of(main_dtype(operators, profile)) or 0.0) * 1e-6 + spill_s(operators, profile), 0
    for elsewhere, group in itertools.groupby(operators, key=lambda operator: not runs(operator, profile)):
        part = tuple(group)
        if elsewhere:
            assert fallback is not None, "checked above: without a fallback every operator runs on the device"
            point_s += sum(operator_s(operator, fallback) for operator in part) + _crossing_s(part, profile)
            elsewhere_count += len(part)
        else:
            point_s += sum(operator_s(operator, profile) for operator in part)
    dtype = main_dtype(operators, profile)
    factor, calibration = profile.interval_factor.of(dtype), profile.calibration.of(dtype)
    assert factor is not None, "a profile has an interval factor for every dtype it lists; loading checked it"
    origin: Origin = "calibrated" if calibration is not None and calibration.holds else "estimated"
    notes = _notes(operators, profile, elsewhere_count, fallback)
    return Estimate(point_s, point_s / factor, point_s * factor, origin, "; ".join(notes) or None)


def _notes(operators: Sequence[Operator], profile: HardwareProfile, elsewhere: int, fallback: HardwareProfile | None) -> list[str]:
    """What the reader of an estimate has to know."""
    notes = [f"{elsewhere} of {len(operators)} operators run on {fallback.id}"] if elsewhere and fallback else []
    if any(operator.quantized for operator in operators):
        if "int8" not in profile.dtypes:
            notes.append(f"{profile.name} has no int8: estimated at the speed of {profile.float_dtype}")
        elif "per_channel" not in profile.weight_granularity:
            notes.append(
                f"{profile.name} runs int8 at this speed with one scale per tensor; files with one per channel take longer"
            )
    return notes


def runs(operator: Operator, profile: HardwareProfile) -> bool:
    """Whether the device itself can run the operator."""
    return operator.op_type not in profile.unsupported_ops and (operator.quantized or profile.float_dtype is not None)


def cannot_run(operators: Sequence[Operator], profile: HardwareProfile) -> str | None:
    """Why the device alone cannot run the operators, or None."""
    left_out = [operator for operator in operators if not runs(operator, profile)]
    if not left_out:
        return None
    unsupported = sorted({operator.op_type for operator in left_out if operator.op_type in profile.unsupported_ops})
    if unsupported:
        return f"{profile.name} cannot run {', '.join(unsupported)}"
    return f"{profile.name} takes int8 alone; {len(left_out)} of {len(operators)} operators are float"


def main_dtype(operators: Sequence[Operator], profile: HardwareProfile) -> DType:
    """The type that most multiply-adds of the device's own operators are computed in."""
    own = [operator for operator in operators if runs(operator, profile)] or operators
    int8_macs = sum(operator.macs for operator in own if operator.quantized)
    return computed_as(profile, 2 * int8_macs > sum(operator.macs for operator in own))


def computed_as(profile: HardwareProfile, quantized: bool) -> DType:
    """The type that the device computes an int8 or a float operator in."""
    return "int8" if profile.float_dtype is None or (quantized and "int8" in profile.dtypes) else profile.float_dtype


def operator_s(operator: Operator, profile: HardwareProfile) -> float:
    """Roofline (Williams et al., CACM 52(4), 2009): the slower of computing and moving, and what starting it costs."""
    dtype = computed_as(profile, operator.quantized)
    compute_s = _by_element_s(operator, profile, dtype) if operator.macs == 0 else _compute_s(operator, profile, dtype)
    return max(compute_s, memory_s(operator, profile)) + start_us(operator, profile) * 1e-6


def start_us(operator: Operator, profile: HardwareProfile) -> float:
    """Microseconds that the operator costs besides its work."""
    dtype = computed_as(profile, operator.quantized)
    zero_point_us = profile.zero_point_us if operator.zero_point and dtype == "int8" else None
    return (profile.op_overhead_us.of(dtype) or 0.0) + (zero_point_us or 0.0)


def _compute_s(operator: Operator, profile: HardwareProfile, dtype: DType) -> float:
    name, utilisation = utilisation_class(operator, profile), profile.utilisation.of(dtype)
    assert utilisation is not None, "a profile has a utilisation for every dtype it lists; loading checked it"
    return ideal_s(operator, profile) / (_of_class(profile, dtype, name) or utilisation) + place_s(operator, profile)


def place_s(operator: Operator, profile: HardwareProfile) -> float:
    """Seconds that a convolution over patches costs by its output places, however many channels are multiplied at each.

    On large maps with few channels that is most of it. It is no multiply-add, so it adds to them; it is bound by instructions and
    not by bandwidth, so it does not hide behind moving data.
    """
    dtype = computed_as(profile, operator.quantized)
    if utilisation_class(operator, profile) == "picture":  # all of it was measured together
        return operator.places * (profile.picture_place_ns.of(dtype) or 0.0) * 1e-9
    if not gathers(operator, profile):
        return 0.0
    return operator.places * (profile.place_ns.of(dtype) or 0.0) * 1e-9 + partial_place_s(operator, profile)


def partial_place_s(operator: Operator, profile: HardwareProfile) -> float:
    """The part of `place_s` that is owed to output channels which do not fill one block."""
    dtype = computed_as(profile, operator.quantized)
    partial = gathers(operator, profile) and operator.output_channels < (profile.channel_alignment.of(dtype) or 1)
    return operator.places * (profile.partial_place_ns.of(dtype) or 0.0) * 1e-9 if partial else 0.0


def gathers(operator: Operator, profile: HardwareProfile) -> bool:
    """Whether `place_ns` is about the operator."""
    return operator.kind in PATCH_KINDS and utilisation_class(operator, profile) != "picture"


def _by_element_s(operator: Operator, profile: HardwareProfile, dtype: DType) -> float:
    costs_ns = {"Softmax": profile.softmax_ns, "Resize": profile.resize_ns}.get(operator.op_type)
    return operator.output_elements * (costs_ns.of(dtype) or 0.0) * 1e-9 if costs_ns else 0.0


def utilisation_class(operator: Operator, profile: HardwareProfile) -> str:
    """Which number of `class_utilisation` an operator with multiply-adds goes by; where that is null, `utilisation`."""
    dtype = computed_as(profile, operator.quantized)
    if operator.kind == "depthwise":
        partial = _filled(operator.output_channels, profile.channel_alignment.of(dtype) or 1) > 1
        return "depthwise_partial" if partial and _of_class(profile, dtype, "depthwise_partial") else "depthwise"
    if operator.input_channels <= PICTURE_CHANNELS and _of_class(profile, dtype, "picture"):
        return "picture"
    return operator.kind


def _of_class(profile: HardwareProfile, dtype: DType, name: str) -> float | None:
    by_class = profile.class_utilisation.of(dtype)
    return by_class.of(name) if by_class else None


def ideal_s(operator: Operator, profile: HardwareProfile) -> float:
    """Seconds for the multiply-adds, padding included, at the full dense peak."""
    dtype = computed_as(profile, operator.quantized)
    peak_gops = profile.peak_gops.of(dtype)
    assert peak_gops is not None, "a profile has a peak for every dtype it lists; loading checked it"
    own = _of_class(profile, dtype, operator.kind)  # where it is known, the saving is in it
    saving = WINOGRAD_SAVING if own is None and operator.kind == "conv3x3s1" and dtype in profile.winograd else 1.0
    return 2 * operator.macs * _padding(operator, profile, dtype) / (peak_gops * saving * 1e9)


def _padding(operator: Operator, profile: HardwareProfile, dtype: DType) -> float:
    """How many times its own work an operator does because channels come in blocks; 1 where they fill them."""
    block, name = profile.channel_alignment.of(dtype) or 1, utilisation_class(operator, profile)
    if name == "depthwise_partial":  # computed by another kernel, at a rate of its own
        return 1.0
    outputs = _filled(operator.output_channels, block)
    if operator.kind == "depthwise" or operator.input_channels <= PICTURE_CHANNELS:
        return outputs
    return outputs * _filled(operator.input_channels, block)


def _filled(channels: int, block: int) -> float:
    return -(-channels // block) * block / channels


def memory_s(operator: Operator, profile: HardwareProfile) -> float:
    """Seconds to move inputs, outputs and weights once; nothing where the bandwidth is unknown."""
    bandwidth_gbs = _bandwidth_gbs(profile)
    if bandwidth_gbs is None:
        return 0.0
    elements = operator.input_elements + operator.output_elements + operator.weight_elements
    return elements * ELEMENT_BYTES[computed_as(profile, operator.quantized)] / (bandwidth_gbs * 1e9)


def _bandwidth_gbs(profile: HardwareProfile) -> float | None:
    return profile.memory.bandwidth_effective_gbs or profile.memory.bandwidth_theoretical_gbs


def spill_s(operators: Sequence[Operator], profile: HardwareProfile) -> float:
    """Seconds to fetch, in every inference, the parameters for which there is no room on the chip."""
    bandwidth_gbs = profile.link.bandwidth_gbs if profile.link else _bandwidth_gbs(profile)
    if profile.memory.on_chip_bytes is None or bandwidth_gbs is None:
        return 0.0
    parameter_bytes = sum(
        operator.weight_elements * ELEMENT_BYTES[computed_as(profile, operator.quantized)]
        for operator in operators
        if runs(operator, profile)
    )
    return max(0, parameter_bytes - profile.memory.on_chip_bytes) / (bandwidth_gbs * 1e9)


def _crossing_s(part: Sequence[Operator], profile: HardwareProfile) -> float:
    """Seconds to hand the first operator's input over to the fallback and the last one's output back, as float32 or int8."""
    if profile.link is None:
        return 0.0
    moved_bytes = sum(
        elements * ELEMENT_BYTES["int8" if operator.quantized else "fp32"]
        for operator, elements in ((part[0], part[0].input_elements), (part[-1], part[-1].output_elements))
    )
    return moved_bytes / (profile.link.bandwidth_gbs * 1e9) + 2 * (profile.link.latency_us or 0.0) * 1e-6
