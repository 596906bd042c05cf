"""The least squares that finds a profile's numbers on measured networks: which numbers, between which bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hardware_profiles.estimate.fit.measurements import MeasuredNetwork
from hardware_profiles.estimate.model import WINOGRAD_SAVING, Roofline, spill_s
from hardware_profiles.schema.profile import DType, HardwareProfile, PerClass

Array = NDArray[np.float64]
CLASSES = ("conv3x3s1", "conv1x1", "conv_other", "depthwise")
"""The first of the model's, those that may be fitted; the others come from a micro-benchmark."""
MOST_SHARE = 5.0
"""Of the peak, saved products included; profiles refuse more."""
CLASS_MEASURED = 16
"""From this many measured networks on, classes of convolutions get constants of their own."""
LEAST_SHARE = 0.02
"""A class with a smaller share of the multiply-adds in every network says nothing about itself."""
PER_TYPE = ("op_overhead_us", "base_us", "place_ns")
"""What is fitted besides utilisations, one number per type."""
LEAST_UTILISATION, MOST_UTILISATION = 1e-5, 4.0
"""Bounds. Winograd's method saves up to 4 of 9 multiplications."""
MOST = {"op_overhead_us": 2_000.0, "base_us": 1e6, "zero_point_us": 2_000.0, "place_ns": 1e5}
"""An operator of 2 ms or a call of 1 s is no overhead, and what takes 0.1 ms at a single position is not gathering."""
CLASS_PRIOR = 0.1
"""How strongly a class is held to the constant of all: a class off by e costs as much as a network off by 10 %. Classes with
little to do stay where nothing says otherwise."""
START_SHARE = 0.2
"""Of its unit that a number nobody knows is looked for from."""


@dataclass(frozen=True)
class Coefficients:
    """The numbers of one type that a fit looks for, under the names of the profile."""

    utilisation: float
    by_class: Mapping[str, float]
    """Utilisation of classes that have one of their own, besides those that the profile gives."""
    op_overhead_us: float
    base_us: float
    place_ns: float
    zero_point_us: float

    @classmethod
    def of(cls, profile: HardwareProfile, dtype: DType) -> Coefficients:
        """What the profile has now."""
        utilisation = profile.utilisation.of(dtype)
        assert utilisation is not None, "a profile has a utilisation for every dtype it lists; loading checked it"
        numbers = {name: getattr(profile, name).of(dtype) or 0.0 for name in PER_TYPE}
        return cls(utilisation, {}, zero_point_us=profile.zero_point_us or 0.0, **numbers)

    def put_into(self, profile: HardwareProfile, dtype: DType) -> HardwareProfile:
        """The profile with these numbers in it; sources are the caller's."""
        by_class = profile.class_utilisation.of(dtype) or PerClass()
        # A number for 3x3 convolutions has the saving by Winograd's method in it; the fit has not.
        saving = {"conv3x3s1": WINOGRAD_SAVING} if dtype in profile.winograd else {}
        shares = {name: min(_rounded(value * saving.get(name, 1.0)), MOST_SHARE) for name, value in self.by_class.items()}
        by_class = by_class.model_copy(update=shares)
        numbers: dict[str, object] = {name: _or_null(getattr(self, name)) for name in PER_TYPE}
        numbers |= {"utilisation": _rounded(self.utilisation), "class_utilisation": by_class if by_class != PerClass() else None}
        update = {name: getattr(profile, name).model_copy(update={dtype: value}) for name, value in numbers.items()}
        zero_point = {"zero_point_us": _or_null(self.zero_point_us)} if dtype == "int8" else {}
        return profile.model_copy(update=update | zero_point)


@dataclass(frozen=True)
class Form:
    """Which numbers are fitted besides a utilisation; those not named stay as the profile has them."""

    name: str
    fewest: int
    """Measured networks it needs: about three for each number, `CLASS_MEASURED` for classes."""
    fields: tuple[str, ...] = ()
    """Of `Coefficients`."""
    classes: bool = False

    def sources(self, dtype: DType, found: Coefficients) -> tuple[str, ...]:
        """Dotted names of the profile's numbers that it fits."""
        fields = (name if name == "zero_point_us" else f"{name}.{dtype}" for name in ("utilisation", *self.fields))
        return (*fields, *(f"class_utilisation.{dtype}.{name}" for name in found.by_class))


FORMS: tuple[Form, ...] = (
    Form("one utilisation", 2),
    Form("utilisation and operator overhead", 5, ("op_overhead_us",)),
    Form("utilisation and base", 5, ("base_us",)),
    Form("utilisation, operator overhead and base", 8, ("op_overhead_us", "base_us")),
    Form("utilisation, operator overhead, and per place", 8, ("op_overhead_us", "place_ns")),
    Form("utilisation, operator overhead, base, and per place", 11, PER_TYPE),
    Form("utilisation by class, operator overhead and base", CLASS_MEASURED, ("op_overhead_us", "base_us"), classes=True),
    Form("utilisation by class, operator overhead, base, and per place", CLASS_MEASURED + 3, PER_TYPE, classes=True),
)
"""From few numbers to many; of forms that predict about equally well the first is taken."""


@dataclass(frozen=True)
class Networks:
    """Measured networks, one after another: the terms of `Roofline` by what a fit changes of them."""

    first: NDArray[np.intp]
    """Where each network's operators begin."""
    ideal_s: Array
    """Of each operator at full peak; 0 where its time does not depend on the utilisations that are looked for."""
    floor_s: Array
    """What it takes at least, for instance to move its data."""
    class_index: NDArray[np.intp]
    """Into CLASSES."""
    own_type: Array
    """1 where the operator is computed in the type that is fitted."""
    zero_points: Array
    """1 where the operator's input has a zero point."""
    positions: Array
    """Of each operator that the cost of a position is about, else 0."""
    work_s: Array
    """What computing takes besides, whatever the coefficients: at rates that the profile gives, and for blocks not filled."""
    fixed_s: Array
    """Of each network: what does not depend on the coefficients."""
    latency_s: Array
    open_classes: tuple[str, ...]
    """Classes that no number is known of and that do enough somewhere to tell it."""

    def seconds(self, found: Coefficients) -> Array:
        """Modelled seconds of each network."""
        rates = np.array([found.by_class.get(name, found.utilisation) for name in CLASSES])[self.class_index]
        starts_us = self.own_type * found.op_overhead_us + self.zero_points * found.zero_point_us
        compute_s = self.ideal_s / rates + self.positions * found.place_ns * 1e-9 + self.work_s
        operators_s = np.maximum(compute_s, self.floor_s) + starts_us * 1e-6
        return np.asarray(np.add.reduceat(operators_s, self.first) + self.fixed_s + found.base_us * 1e-6)

    def part(self, chosen: Sequence[int]) -> Networks:
        """The chosen networks, in that order."""
        last = np.append(self.first[1:], len(self.ideal_s))
        rows = [np.arange(self.first[index], last[index]) for index in chosen]
        names = ("ideal_s", "floor_s", "class_index", "own_type", "zero_points", "positions", "work_s")
        of_operators = {name: getattr(self, name)[np.concatenate(rows)] for name in names}
        of_networks = {name: getattr(self, name)[list(chosen)] for name in ("fixed_s", "latency_s")}
        return replace(self, first=np.cumsum([0, *(len(row) for row in rows[:-1])]), **of_operators, **of_networks)


def networks_of(profile: HardwareProfile, measured: Sequence[MeasuredNetwork], dtype: DType) -> Networks:
    """The networks of one type as arrays; operators of another type, and classes that the profile knows, keep their numbers."""
    every = Roofline([operator for network in measured for operator in network.operators], profile)
    first = np.cumsum([0, *(len(network.operators) for network in measured[:-1])])
    ideal_s, memory_s, own, known = every.ideal_s(), every.memory_s(), every.computed_in(dtype), ~np.isnan(every.given)
    multiplies = every.macs > 0
    searched = own & multiplies & ~known
    known_s = ideal_s / np.where(known, every.given, 1.0) + np.where(every.gathers, every.partial_s, every.positions_s())
    macs = np.where(own, every.macs, 0)
    total = np.maximum(np.add.reduceat(macs, first), 1)
    shares = [np.max(np.add.reduceat(macs * (every.kinds == index), first) / total) for index in range(len(CLASSES))]
    given = profile.class_utilisation.of(dtype) or PerClass()
    return Networks(
        first=first,
        ideal_s=np.where(searched, ideal_s, 0.0),
        floor_s=np.where(own, np.where(multiplies, memory_s, np.maximum(every.elements_s(), memory_s)), every.seconds()),
        class_index=np.where(searched, every.classes, 0),
        own_type=own.astype(float),
        zero_points=np.where(own, every.zero_points, 0.0),
        positions=np.where(own & multiplies & every.gathers, every.positions, 0.0),
        work_s=np.where(searched, every.partial_s, np.where(own & multiplies, known_s, 0.0)),
        fixed_s=np.array([spill_s(network.operators, profile) for network in measured]),
        latency_s=np.array([network.latency_s for network in measured]),
        open_classes=tuple(
            name for name, share in zip(CLASSES, shares, strict=True) if given.of(name) is None and share >= LEAST_SHARE
        ),
    )


def solve(
    networks: Networks, profile: HardwareProfile, dtype: DType, form: Form, start: Coefficients | None = None
) -> Coefficients:
    """The form's numbers with the least squared errors of log time; the others are the profile's.

    Each number is looked for as a multiple of its unit, so that all of them are of the same order.
    """
    given = Coefficients.of(profile, dtype)
    first = start or replace(given, zero_point_us=0.0)
    classes, units = networks.open_classes if form.classes else (), _units(networks)

    def coefficients(values: Array) -> Coefficients:
        utilisation = math.exp(values[0])
        numbers = {name: value * units[name] for name, value in zip(form.fields, values[1:], strict=False)}
        shifts = zip(classes, values[1 + len(form.fields) :], strict=True)
        by_class = {name: min(utilisation * math.exp(shift), MOST_UTILISATION) for name, shift in shifts}
        return replace(given, utilisation=utilisation, by_class=by_class, **numbers)

    def errors(values: Array) -> Array:
        logs = np.log(networks.seconds(coefficients(values)) / networks.latency_s)
        return np.concatenate([logs, CLASS_PRIOR * values[len(values) - len(classes) :]]) if classes else logs

    begin = [math.log(min(max(first.utilisation, 2 * LEAST_UTILISATION), MOST_UTILISATION))]
    # At the bound itself the search would not leave it.
    begin += [min(getattr(first, name) or START_SHARE * units[name], MOST[name]) / units[name] for name in form.fields]
    begin += [math.log(first.by_class.get(name, first.utilisation) / first.utilisation) for name in classes]
    low = [math.log(LEAST_UTILISATION)] + [0.0] * len(form.fields) + [-5.0] * len(classes)
    high = [math.log(MOST_UTILISATION)] + [MOST[name] / units[name] for name in form.fields] + [3.0] * len(classes)
    found = least_squares(errors, np.clip(begin, low, high), bounds=(low, high), max_nfev=200)
    return coefficients(found.x)


def _units(networks: Networks) -> dict[str, float]:
    """Shares of what the median network takes."""
    middle_us = float(np.median(networks.latency_s)) * 1e6
    place_ns = middle_us * 1e3 / max(float(np.median(np.add.reduceat(networks.positions, networks.first))), 1.0)
    return {"op_overhead_us": middle_us / 100, "base_us": middle_us, "zero_point_us": middle_us / 100, "place_ns": place_ns}


def _or_null(value: float) -> float | None:
    """Null for less than a hundredth of a microsecond, or nanosecond a position: the fit found none."""
    return _rounded(value) if value >= 0.01 else None


def _rounded(value: float) -> float:
    """Three significant digits: more than any fit here is sure of."""
    return float(f"{value:.3g}")
