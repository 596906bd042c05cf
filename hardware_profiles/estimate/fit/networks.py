"""Measured networks as arrays over all their operators, for fits that try hundreds of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.estimate.fit.coefficients import CLASSES, Coefficients
from hardware_profiles.estimate.model import Roofline, spill_s
from hardware_profiles.schema.profile import DType, HardwareProfile, PerClass

if TYPE_CHECKING:
    from hardware_profiles.estimate.fit.measurements import MeasuredNetwork

Array = NDArray[np.float64]
LEAST_SHARE = 0.02
"""A class with a smaller share of the multiply-adds in every network says nothing about itself."""


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
