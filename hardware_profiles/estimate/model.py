"""Modelled latency: a roofline per operator with one utilisation per type, and an interval that says how little it knows.

What an operator costs is worked out for all operators at once, as arrays: an estimate adds them up, a fit tries hundreds of
coefficients on them (`estimate.fit`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.estimate.graph.graph import Operator, OperatorKind
from hardware_profiles.schema.profile import DType, HardwareProfile, PerClass, ProfileError

__all__ = ["ELEMENT_BYTES", "PICTURE_CHANNELS", "Estimate", "Operator", "OperatorKind", "cannot_run", "estimate", "main_dtype"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Origin = Literal["calibrated", "estimated"]
ELEMENT_BYTES: dict[DType, int] = {"fp32": 4, "fp16": 2, "int8": 1}
PICTURE_CHANNELS = 4
"""Up to this many input channels are a picture, which runtimes read as it is instead of in channel blocks."""
CLASSES = (*PerClass.model_fields, "other")
"""Those of `class_utilisation`, and operators without multiply-adds."""
DENSE_3X3, DEPTHWISE, PARTIAL_DEPTHWISE, PICTURE = map(CLASSES.index, ("conv3x3s1", "depthwise", "depthwise_partial", "picture"))
PATCHES = np.array([name in ("conv3x3s1", "conv_other") for name in CLASSES])
"""Convolutions that gather a patch of more than one position for every sum; depthwise kernels read theirs where it lies."""
BY_ELEMENT = ("Softmax", "Resize")
"""Operators whose elements have a cost of their own."""
UNFITTED = frozenset({
    "GridSample", "TopK", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "Gather", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "CumSum", "Erf", "Gelu",
})  # fmt: skip
"""Operators that no network had on which a profile was fitted: they count as what they move and the start of an operator."""
MOST_UNFITTED = 0.05
"""Share of the estimated time above which an estimate says so."""
WINOGRAD_SAVING = 2.25
"""Multiplications that F(2x2, 3x3) saves: 36 become 16 (Lavin and Gray, CVPR 2016, section 4.1)."""


@dataclass(frozen=True)
class Estimate:
    """Seconds for one picture; the true value is believed to lie in [low_s, high_s]."""

    point_s: float
    low_s: float
    high_s: float
    origin: Origin
    """Whether the profile's numbers for this type were fitted on enough measured networks, and fitted well, and are about these
    operators."""
    note: str | None = None
    """What the reader has to know, for instance that the device has no int8."""


def estimate(operators: Sequence[Operator], profile: HardwareProfile, host_cpu: HardwareProfile | None = None) -> Estimate:
    """Modelled latency of the operators, computed one after another, each in its type or in the nearest that the device has.

    `host_cpu` is the profile that `profile.host_cpu` names; what the device cannot run is computed there, and what passes between
    the two crosses the link. ProfileError where there are no operators, or some that nothing can run: see `cannot_run`.
    """
    if not operators:
        raise ProfileError(f"{profile.id}: nothing to estimate; the list of operators is empty")
    if host_cpu is None and (reason := cannot_run(operators, profile)):
        raise ProfileError(f"{profile.id}: {reason}")
    dtype = main_dtype(operators, profile)
    point_s, elsewhere_count = (profile.base_us.of(dtype) or 0.0) * 1e-6 + spill_s(operators, profile), 0
    for elsewhere, group in itertools.groupby(operators, key=lambda operator: not runs(operator, profile)):
        part, where = tuple(group), host_cpu if elsewhere else profile
        assert where is not None, "checked above: without a host_cpu every operator runs on the device"
        seconds = sum(Roofline(part, where).seconds().tolist())  # one by one, in the order of execution
        point_s += seconds + _crossing_s(part, profile) if elsewhere else seconds
        elsewhere_count += len(part) if elsewhere else 0
    factor, calibration = profile.interval_factor.of(dtype), profile.calibration.of(dtype)
    assert factor is not None, "a profile has an interval factor for every dtype it lists; loading checked it"
    notes, share = _notes(operators, profile, elsewhere_count, host_cpu), unfitted_share(operators, profile)
    holds = calibration is not None and calibration.holds and share <= MOST_UNFITTED
    origin: Origin = "calibrated" if holds else "estimated"
    if share > MOST_UNFITTED:
        kinds = sorted({name for operator in operators if (name := unfitted(operator)) is not None})
        notes.append(f"not fitted: {share:.0%} of this time is of {', '.join(kinds)}, on which no profile was fitted")
    return Estimate(point_s, point_s / factor, point_s * factor, origin, "; ".join(notes) or None)


def unfitted(operator: Operator) -> str | None:
    """What to call an operator whose like no profile was fitted on; None for all others. Attention multiplies what was computed."""
    if operator.macs and not operator.weight_elements:
        return "attention"
    return operator.op_type if operator.op_type in UNFITTED else None


def unfitted_share(operators: Sequence[Operator], profile: HardwareProfile) -> float:
    """Share of the estimated time that such operators take, of those that the device itself can run."""
    own = [operator for operator in operators if runs(operator, profile)]
    seconds = Roofline(own, profile).seconds()
    of = np.array([unfitted(operator) is not None for operator in own], bool)
    return float(seconds[of].sum() / total) if (total := seconds.sum()) else 0.0


def _notes(operators: Sequence[Operator], profile: HardwareProfile, elsewhere: int, host_cpu: HardwareProfile | None) -> list[str]:
    """What the reader of an estimate has to know."""
    notes = [f"{elsewhere} of {len(operators)} operators run on {host_cpu.id}"] if elsewhere and host_cpu else []
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


class Roofline:
    """What each operator costs on a device, as arrays over operators (Williams et al., CACM 52(4), 2009)."""

    def __init__(self, operators: Sequence[Operator], profile: HardwareProfile) -> None:
        names = ("macs", "input_elements", "output_elements", "weight_elements", "input_channels", "output_channels")
        sizes = np.array([[getattr(operator, name) for name in names] for operator in operators], np.int64).reshape(-1, len(names))
        self.macs, inputs, self.outputs, weights, self.input_channels, self.output_channels = sizes.T
        self.quantized = np.array([operator.quantized for operator in operators], np.intp)
        self.kinds = np.array([CLASSES.index(operator.kind) for operator in operators], np.intp)
        """Into CLASSES."""
        self.profile, self.dtypes = profile, (computed_as(profile, False), computed_as(profile, True))
        self.block = self.by_type(*(profile.channel_alignment.of(dtype) or 1 for dtype in self.dtypes))
        known = (
            (profile.class_utilisation.of(dtype) or PerClass()).of(name) or np.nan for dtype in self.dtypes for name in CLASSES
        )
        self.rates = np.fromiter(known, float).reshape(2, len(CLASSES))[self.quantized]
        """Of each operator's type, every class's utilisation; not a number where the profile has none."""
        self.classes = self._classes()
        """Which number of `class_utilisation` an operator goes by: into CLASSES."""
        self.given = self.rates[np.arange(len(self.classes)), self.classes]
        """That number; where there is none, `utilisation` counts."""
        self.positions = self.outputs // self.output_channels
        """Height times width of what is written."""
        self.gathers = PATCHES[self.classes]
        """Whether `place_ns` is about the operator."""
        partial = self.gathers & (self.output_channels < self.block)
        self.partial_s = np.where(partial, self.positions * self.number("partial_place_ns") * 1e-9, 0.0)
        """The part of `positions_s` that is owed to output channels which do not fill one block."""
        self.zero_points = np.array([operator.zero_point for operator in operators], bool) & self.computed_in("int8")
        self.moved_bytes = (inputs + self.outputs + weights) * self.by_type(*(ELEMENT_BYTES[dtype] for dtype in self.dtypes))
        self.by_element = [BY_ELEMENT.index(operator.op_type) if operator.op_type in BY_ELEMENT else -1 for operator in operators]

    def seconds(self) -> Array:
        """Of each operator: the slower of computing and moving, and what starting it costs."""
        rates = np.where(np.isnan(self.given), self.number("utilisation", np.nan), self.given)
        compute_s = np.where(self.macs > 0, self.ideal_s() / rates + self.positions_s(), self.elements_s())
        start_us = self.number("op_overhead_us") + np.where(self.zero_points, self.profile.zero_point_us or 0.0, 0.0)
        return np.asarray(np.maximum(compute_s, self.memory_s()) + start_us * 1e-6)

    def ideal_s(self) -> Array:
        """Seconds for the multiply-adds, padding included, at the full dense peak."""
        outputs, inputs = self._filled(self.output_channels), self._filled(self.input_channels)
        outputs_alone = (self.kinds == DEPTHWISE) | (self.input_channels <= PICTURE_CHANNELS)
        padding = np.where(outputs_alone, outputs, outputs * inputs)
        padding[self.classes == PARTIAL_DEPTHWISE] = 1.0  # computed by another kernel, at a rate of its own
        # Where a number for 3x3 convolutions is known, the saving by Winograd's method is in it.
        saving = self.by_type(*(WINOGRAD_SAVING if dtype in self.profile.winograd else 1.0 for dtype in self.dtypes))
        saving[(self.kinds != DENSE_3X3) | ~np.isnan(self.rates[:, DENSE_3X3])] = 1.0
        return np.asarray(2 * self.macs * padding / (self.number("peak_gops", np.nan) * saving * 1e9))

    def positions_s(self) -> Array:
        """Seconds that a convolution over patches costs by its output positions, however many channels are multiplied at each.

        On large maps with few channels that is most of it. It is no multiply-add, so it adds to them; it is bound by instructions
        and not by bandwidth, so it does not hide behind moving data. For the first convolution all of it was measured together.
        """
        gathered_s = self.positions * self.number("place_ns") * 1e-9 + self.partial_s
        picture_s = self.positions * self.number("picture_place_ns") * 1e-9
        return np.where(self.classes == PICTURE, picture_s, np.where(self.gathers, gathered_s, 0.0))

    def elements_s(self) -> Array:
        """Seconds that a softmax or a resize costs by its output elements."""
        costs_ns = np.stack([self.number("softmax_ns"), self.number("resize_ns"), np.zeros(len(self.macs))])
        return np.asarray(self.outputs * costs_ns[self.by_element, np.arange(len(self.macs))] * 1e-9)

    def memory_s(self) -> Array:
        """Seconds to move inputs, outputs and weights once; nothing where the bandwidth is unknown."""
        bandwidth_gbs = _bandwidth_gbs(self.profile)
        return np.asarray(self.moved_bytes / (bandwidth_gbs * 1e9) if bandwidth_gbs else np.zeros(len(self.macs)))

    def number(self, field: str, absent: float = 0.0) -> Array:
        """A number of the profile for the type that each operator is computed in."""
        of = getattr(self.profile, field).of
        return self.by_type(*(of(dtype) or absent for dtype in self.dtypes))

    def by_type(self, at_float: float, at_int8: float) -> Array:
        """One of the two for each operator."""
        return np.array((at_float, at_int8))[self.quantized]

    def computed_in(self, dtype: DType) -> Mask:
        """Whether each operator is computed in this type."""
        return np.array([own == dtype for own in self.dtypes])[self.quantized]

    def _filled(self, channels: NDArray[np.int64]) -> Array:
        """How many times the channels' own work is done because they come in blocks; 1 where they fill them."""
        return np.asarray(-(-channels // self.block) * self.block / channels)

    def _classes(self) -> NDArray[np.intp]:
        depthwise, known = self.kinds == DEPTHWISE, ~np.isnan(self.rates)
        partial = depthwise & (self.output_channels % self.block > 0) & known[:, PARTIAL_DEPTHWISE]
        picture = ~depthwise & (self.input_channels <= PICTURE_CHANNELS) & known[:, PICTURE]
        return np.where(partial, PARTIAL_DEPTHWISE, np.where(picture, PICTURE, self.kinds))


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
    """Seconds to hand the first operator's input over to the host_cpu and the last one's output back, as float32 or int8."""
    if profile.link is None:
        return 0.0
    moved_bytes = sum(
        elements * ELEMENT_BYTES["int8" if operator.quantized else "fp32"]
        for operator, elements in ((part[0], part[0].input_elements), (part[-1], part[-1].output_elements))
    )
    return moved_bytes / (profile.link.bandwidth_gbs * 1e9) + 2 * (profile.link.latency_us or 0.0) * 1e-6
