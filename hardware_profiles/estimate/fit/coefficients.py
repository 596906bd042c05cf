"""Which numbers of a profile a fit looks for, and the least squares that finds them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hardware_profiles.estimate.fit.vectorised import Coefficients, Networks
from hardware_profiles.schema.profile import DType, HardwareProfile

Array = NDArray[np.float64]
CLASS_ANCHORS = 16
"""From so many measured networks on, classes of convolutions get constants of their own."""
MOST_UTILISATION, MOST_OVERHEAD_US, MOST_BASE_US, MOST_PLACE_NS = 4.0, 2_000.0, 1e6, 1e5
"""Bounds. Winograd's method saves up to 4 of 9 multiplications; an operator of 2 ms or a call of 1 s is no overhead, and what
takes 0.1 ms at a single place is not gathering."""
CLASS_PRIOR = 0.1
"""How strongly a class is held to the constant of all: a class off by e costs as much as a network off by 10 %. Classes with
little to do stay where nothing says otherwise."""
START_SHARE = 0.2
"""Of its unit that a number nobody knows is looked for from."""


@dataclass(frozen=True)
class Form:
    """Which numbers are fitted; those not named stay as the profile has them."""

    name: str
    fewest: int
    """Anchors it needs: about three for each number, `CLASS_ANCHORS` for classes."""
    overhead: bool = False
    base: bool = False
    classes: bool = False
    place: bool = False
    zero_point: bool = False


FORMS: tuple[Form, ...] = (
    Form("one utilisation", 2),
    Form("utilisation and operator overhead", 5, overhead=True),
    Form("utilisation and base", 5, base=True),
    Form("utilisation, operator overhead and base", 8, overhead=True, base=True),
    Form("utilisation, operator overhead, and per place", 8, overhead=True, place=True),
    Form("utilisation, operator overhead, base, and per place", 11, overhead=True, base=True, place=True),
    Form("utilisation by class, operator overhead and base", CLASS_ANCHORS, overhead=True, base=True, classes=True),
    Form(
        "utilisation by class, operator overhead, base, and per place",
        CLASS_ANCHORS + 3,
        overhead=True,
        base=True,
        classes=True,
        place=True,
    ),
)
"""From few numbers to many; of forms that foretell about equally well the first is taken."""


@dataclass(frozen=True)
class _Unknown:
    """A number that is looked for as a multiple of its unit, so that all of them are of the same order."""

    field: str
    """Of `Coefficients`."""
    unit: float
    most: float

    def start(self, first: Coefficients) -> float:
        """Where the search begins; at the bound itself it would not leave it."""
        return min(float(getattr(first, self.field)) or START_SHARE * self.unit, self.most) / self.unit


def solve(
    networks: Networks, profile: HardwareProfile, dtype: DType, form: Form, start: Coefficients | None = None
) -> Coefficients:
    """The form's numbers with the least squared errors of log time; the others are the profile's."""
    given = Coefficients.of(profile, dtype)
    first = start or Coefficients(given.utilisation, given.overhead_us, given.base_us, {}, place_ns=given.place_ns)
    classes = networks.open_classes if form.classes else ()
    unknowns = _unknowns(networks, form)

    def coefficients(values: Array) -> Coefficients:
        utilisation = math.exp(values[0])
        numbers = {"overhead_us": given.overhead_us, "base_us": given.base_us, "zero_point_us": given.zero_point_us}
        numbers["place_ns"] = given.place_ns
        numbers |= {own.field: value * own.unit for own, value in zip(unknowns, values[1:], strict=False)}
        shifts = zip(classes, values[1 + len(unknowns) :], strict=True)
        by_class = {name: min(utilisation * math.exp(shift), MOST_UTILISATION) for name, shift in shifts}
        return Coefficients(utilisation=utilisation, by_class=by_class, **numbers)

    def errors(values: Array) -> Array:
        logs = np.log(networks.seconds(coefficients(values)) / networks.latency_s)
        return np.concatenate([logs, CLASS_PRIOR * values[len(values) - len(classes) :]]) if classes else logs

    begin = [math.log(min(max(first.utilisation, 2e-5), MOST_UTILISATION))]
    begin += [own.start(first) for own in unknowns]
    begin += [math.log(first.by_class.get(name, first.utilisation) / first.utilisation) for name in classes]
    low = [math.log(1e-5)] + [0.0] * len(unknowns) + [-5.0] * len(classes)
    high = [math.log(MOST_UTILISATION)] + [own.most / own.unit for own in unknowns] + [3.0] * len(classes)
    found = least_squares(errors, np.clip(begin, low, high), bounds=(low, high), max_nfev=200)
    return coefficients(found.x)


def _unknowns(networks: Networks, form: Form) -> list[_Unknown]:
    """Beside the utilisations; units are shares of what the median network takes."""
    middle_us = float(np.median(networks.latency_s)) * 1e6
    middle_places = max(float(np.median(np.add.reduceat(networks.places, networks.first))), 1.0)
    wanted = {
        "overhead_us": (form.overhead, middle_us / 100, MOST_OVERHEAD_US),
        "base_us": (form.base, middle_us, MOST_BASE_US),
        "zero_point_us": (form.zero_point, middle_us / 100, MOST_OVERHEAD_US),
        "place_ns": (form.place, middle_us * 1e3 / middle_places, MOST_PLACE_NS),
    }
    return [_Unknown(field, unit, most) for field, (is_wanted, unit, most) in wanted.items() if is_wanted]
