"""Modelled latency: a roofline per operator with one utilisation constant, and an interval that says how little it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hardware_profiles.profile import DType, HardwareProfile, ProfileError

OperatorKind = Literal["conv3x3s1", "conv1x1", "conv_other", "depthwise", "other"]
ELEMENT_BYTES: dict[DType, int] = {"fp32": 4, "fp16": 2, "int8": 1}
PICTURE_CHANNELS = 4
"""Up to so many input channels are a picture, which runtimes read as it is instead of in channel blocks."""


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
    fused: bool = False
    """Computed inside its neighbour by every runtime (activation after a convolution): costs nothing of its own."""


@dataclass(frozen=True)
class Estimate:
    """Seconds for one picture; the true value is believed to lie in [low_s, high_s]."""

    point_s: float
    low_s: float
    high_s: float
    note: str | None = None
    """What the reader has to know, for instance that the device has no int8."""


def estimate(operators: Sequence[Operator], profile: HardwareProfile, dtype: DType) -> Estimate:
    """Modelled latency of the operators, computed one after another in dtype or in the nearest type that the device has."""
    if not operators:
        raise ProfileError(f"{profile.id}: nothing to estimate; the list of operators is empty")
    used = computed_as(profile, dtype)
    point_s = sum(_operator_s(operator, profile, used) for operator in operators)
    note = None if used == dtype else f"{profile.name} has no {dtype}: estimated at the speed of {used}"
    return Estimate(point_s, point_s / profile.interval_factor, point_s * profile.interval_factor, note)


def computed_as(profile: HardwareProfile, dtype: DType) -> DType:
    """The type that the device really multiplies in: dtype itself where it has it, its float type otherwise."""
    return dtype if dtype in profile.dtypes else profile.float_dtype


def fits_memory(operators: Sequence[Operator], profile: HardwareProfile, dtype: DType) -> bool | None:
    """Whether weights and activations keep to the memory budget; None where no budget is set or bounds leave it open.

    Below: the weights and the one operator that needs most. Above: the weights and every activation at once. The runtime's own
    memory is not known and not counted.
    """
    budget_bytes = profile.memory.budget_bytes
    if budget_bytes is None:
        return None
    element_bytes = ELEMENT_BYTES[computed_as(profile, dtype)]
    weights = sum(operator.weight_elements for operator in operators)
    largest = max(operator.input_elements + operator.output_elements for operator in operators)
    every = operators[0].input_elements + sum(operator.output_elements for operator in operators)
    if (weights + largest) * element_bytes > budget_bytes:
        return False
    return True if (weights + every) * element_bytes <= budget_bytes else None


def _operator_s(operator: Operator, profile: HardwareProfile, dtype: DType) -> float:
    """Roofline (Williams et al., CACM 52(4), 2009): the slower of computing and moving, and what starting it costs."""
    if operator.fused:
        return 0.0
    overhead_us = profile.op_overhead_us.of(dtype) or 0.0
    return max(_compute_s(operator, profile, dtype), _memory_s(operator, profile, dtype)) + overhead_us * 1e-6


def _compute_s(operator: Operator, profile: HardwareProfile, dtype: DType) -> float:
    peak_gops, utilisation = profile.peak_gops.of(dtype), profile.utilisation.of(dtype)
    block = profile.channel_alignment.of(dtype) or 1
    assert peak_gops is not None, "a profile has a peak for every dtype it lists; loading checked it"
    assert utilisation is not None, "a profile has a utilisation for every dtype it lists; loading checked it"
    return 2 * operator.macs * _padding(operator, block) / (peak_gops * utilisation * 1e9)


def _padding(operator: Operator, block: int) -> float:
    """How many times its own work an operator does because channels come in blocks; 1 where they fill them."""
    outputs = _filled(operator.output_channels, block)
    if operator.kind == "depthwise" or operator.input_channels <= PICTURE_CHANNELS:
        return outputs
    return outputs * _filled(operator.input_channels, block)


def _filled(channels: int, block: int) -> float:
    return -(-channels // block) * block / channels


def _memory_s(operator: Operator, profile: HardwareProfile, dtype: DType) -> float:
    """Seconds to move inputs, outputs and weights once; nothing where the bandwidth is unknown."""
    memory = profile.memory
    bandwidth_gbs = memory.bandwidth_effective_gbs or memory.bandwidth_theoretical_gbs
    if bandwidth_gbs is None:
        return 0.0
    elements = operator.input_elements + operator.output_elements + operator.weight_elements
    return elements * ELEMENT_BYTES[dtype] / (bandwidth_gbs * 1e9)
