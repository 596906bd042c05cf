"""The latency model over arrays: what `estimate` says of many networks at once, for fits that try hundreds of coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.estimate.model import (
    WINOGRAD_SAVING,
    Operator,
    computed_as,
    gathers,
    ideal_s,
    memory_s,
    operator_s,
    partial_place_s,
    place_s,
    spill_s,
    start_us,
    utilisation_class,
)
from hardware_profiles.schema.profile import DType, HardwareProfile, PerClass

if TYPE_CHECKING:
    from hardware_profiles.estimate.fit.measurements import Anchor

Array = NDArray[np.float64]
CLASSES = ("conv3x3s1", "conv1x1", "conv_other", "depthwise")
"""Those that may be fitted; the others come from a micro-benchmark."""
MOST_SHARE = 5.0
"""Of the peak, saved products included; profiles refuse more."""
LEAST_SHARE = 0.02
"""A class with a smaller share of the multiply-adds in every network says nothing about itself."""


@dataclass(frozen=True)
class Coefficients:
    """The numbers of one type that a fit looks for."""

    utilisation: float
    overhead_us: float
    base_us: float
    by_class: Mapping[str, float]
    """Utilisation of classes that have one of their own, beside those that the profile gives."""
    zero_point_us: float = 0.0
    place_ns: float = 0.0

    @classmethod
    def of(cls, profile: HardwareProfile, dtype: DType) -> Coefficients:
        """What the profile has now."""
        utilisation = profile.utilisation.of(dtype)
        assert utilisation is not None, "a profile has a utilisation for every dtype it lists; loading checked it"
        zero_point_us = profile.zero_point_us or 0.0
        overhead_us, base_us = profile.op_overhead_us.of(dtype) or 0.0, profile.base_us.of(dtype) or 0.0
        return cls(utilisation, overhead_us, base_us, {}, zero_point_us, profile.place_ns.of(dtype) or 0.0)


@dataclass(frozen=True)
class Networks:
    """Measured networks as arrays over all their operators, network after network."""

    first: NDArray[np.intp]
    """Where each network's operators begin."""
    ideal_s: Array
    """Of each operator at full peak; 0 where its time does not depend on the coefficients."""
    floor_s: Array
    """What it takes at least, for instance to move its data."""
    class_index: NDArray[np.intp]
    """Into CLASSES; -1 for those whose utilisation the profile gives."""
    own_type: Array
    """1 where the operator is computed in the type that is fitted."""
    zero_points: Array
    """1 where the operator's input has a zero point."""
    places: Array
    """Of each operator that the cost of a place is about, else 0."""
    work_s: Array
    """What computing takes besides, whatever the coefficients: at rates that the profile gives, and for blocks not filled."""
    fixed_s: Array
    """Of each network: what does not depend on the coefficients."""
    latency_s: Array
    open_classes: tuple[str, ...]

    def seconds(self, found: Coefficients) -> Array:
        """Modelled seconds of each network."""
        rates = np.array([found.by_class.get(name, found.utilisation) for name in CLASSES])[self.class_index]
        starts_us = self.own_type * found.overhead_us + self.zero_points * found.zero_point_us
        compute_s = self.ideal_s / rates + self.places * found.place_ns * 1e-9 + self.work_s
        operators_s = np.maximum(compute_s, self.floor_s) + starts_us * 1e-6
        return np.asarray(np.add.reduceat(operators_s, self.first) + self.fixed_s + found.base_us * 1e-6)

    def part(self, chosen: Sequence[int]) -> Networks:
        """The chosen networks, in that order."""
        last = np.append(self.first[1:], len(self.ideal_s))
        rows = [np.arange(self.first[index], last[index]) for index in chosen]
        places = np.concatenate(rows)
        first = np.cumsum([0, *(len(row) for row in rows[:-1])])
        return Networks(
            first,
            self.ideal_s[places],
            self.floor_s[places],
            self.class_index[places],
            self.own_type[places],
            self.zero_points[places],
            self.places[places],
            self.work_s[places],
            self.fixed_s[list(chosen)],
            self.latency_s[list(chosen)],
            self.open_classes,
        )


def networks_of(profile: HardwareProfile, anchors: Sequence[Anchor], dtype: DType) -> Networks:
    """The anchors of one type as arrays; operators of another type, and classes that the profile knows, keep their numbers."""
    given = profile.class_utilisation.of(dtype) or PerClass()
    rows = [[_row(operator, profile, dtype, given) for operator in anchor.operators] for anchor in anchors]
    table = np.array([values for row in rows for values in row], dtype=float)
    lengths = [len(row) for row in rows]
    return Networks(
        first=np.cumsum([0, *lengths[:-1]]),
        ideal_s=table[:, 0],
        floor_s=table[:, 1],
        class_index=table[:, 2].astype(np.intp),
        own_type=table[:, 3],
        zero_points=table[:, 4],
        places=table[:, 5],
        work_s=table[:, 6],
        fixed_s=np.array([spill_s(anchor.operators, profile) for anchor in anchors]),
        latency_s=np.array([anchor.latency_s for anchor in anchors]),
        open_classes=_open_classes(profile, anchors, dtype, given),
    )


def _row(operator: Operator, profile: HardwareProfile, dtype: DType, given: PerClass) -> tuple[float, ...]:
    """The operator's entry in each array of `Networks` from `ideal_s` to `work_s`."""
    if computed_as(profile, operator.quantized) != dtype:
        return 0.0, operator_s(operator, profile), 0, 0, 0, 0, 0.0
    name, zero_point = utilisation_class(operator, profile), int(operator.zero_point and dtype == "int8")
    places = operator.places if gathers(operator, profile) else 0
    if operator.macs and (rate := given.of(name)) is not None:
        known_s = ideal_s(operator, profile) / rate
        work_s = known_s + (partial_place_s(operator, profile) if places else place_s(operator, profile))
        return 0.0, memory_s(operator, profile), 0, 1, zero_point, places, work_s
    if operator.macs == 0:
        return 0.0, operator_s(operator, profile) - start_us(operator, profile) * 1e-6, 0, 1, zero_point, 0, 0.0
    own = CLASSES.index(name)
    return ideal_s(operator, profile), memory_s(operator, profile), own, 1, zero_point, places, partial_place_s(operator, profile)


def _open_classes(profile: HardwareProfile, anchors: Sequence[Anchor], dtype: DType, given: PerClass) -> tuple[str, ...]:
    """Classes that no number is known of and that do enough somewhere to tell it."""
    shares = dict.fromkeys(CLASSES, 0.0)
    for anchor in anchors:
        own = [operator for operator in anchor.operators if operator.macs and computed_as(profile, operator.quantized) == dtype]
        total = sum(operator.macs for operator in own)
        for name, most in shares.items():
            part = sum(operator.macs for operator in own if operator.kind == name)
            shares[name] = max(most, part / total if total else 0.0)
    return tuple(name for name in CLASSES if given.of(name) is None and shares[name] >= LEAST_SHARE)


def put_in(profile: HardwareProfile, dtype: DType, found: Coefficients) -> HardwareProfile:
    """The profile with the coefficients in it; sources are the caller's."""
    by_class = profile.class_utilisation.of(dtype) or PerClass()
    # A number for 3x3 convolutions has the saving by Winograd's method in it; the fit has not.
    saving = {"conv3x3s1": WINOGRAD_SAVING} if dtype in profile.winograd else {}
    own = by_class.model_copy(
        update={name: min(_rounded(value * saving.get(name, 1.0)), MOST_SHARE) for name, value in found.by_class.items()}
    )
    return profile.model_copy(
        update={
            "utilisation": profile.utilisation.model_copy(update={dtype: _rounded(found.utilisation)}),
            "op_overhead_us": profile.op_overhead_us.model_copy(update={dtype: _or_null(found.overhead_us)}),
            "zero_point_us": _or_null(found.zero_point_us) if dtype == "int8" else profile.zero_point_us,
            "base_us": profile.base_us.model_copy(update={dtype: _or_null(found.base_us)}),
            "place_ns": profile.place_ns.model_copy(update={dtype: _or_null(found.place_ns)}),
            "class_utilisation": profile.class_utilisation.model_copy(update={dtype: own if own != PerClass() else None}),
        }
    )


def _or_null(value: float) -> float | None:
    """Null for less than a hundredth of a microsecond, or nanosecond a place: the fit found none."""
    return _rounded(value) if value >= 0.01 else None


def _rounded(value: float) -> float:
    """Three significant digits: more than any fit here is sure of."""
    return float(f"{value:.3g}")
