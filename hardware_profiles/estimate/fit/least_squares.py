"""The least squares that finds a profile's numbers on measured networks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hardware_profiles.estimate.fit.coefficients import Coefficients, Form
from hardware_profiles.estimate.fit.networks import Networks
from hardware_profiles.schema.profile import DType, HardwareProfile

Array = NDArray[np.float64]
LEAST_UTILISATION, MOST_UTILISATION = 1e-5, 4.0
"""Bounds. Winograd's method saves up to 4 of 9 multiplications."""
MOST = {"op_overhead_us": 2_000.0, "base_us": 1e6, "zero_point_us": 2_000.0, "place_ns": 1e5}
"""An operator of 2 ms or a call of 1 s is no overhead, and what takes 0.1 ms at a single position is not gathering."""
CLASS_PRIOR = 0.1
"""How strongly a class is held to the constant of all: a class off by e costs as much as a network off by 10 %. Classes with
little to do stay where nothing says otherwise."""
START_SHARE = 0.2
"""Of its unit that a number nobody knows is looked for from."""


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
    middle_positions = max(float(np.median(np.add.reduceat(networks.positions, networks.first))), 1.0)
    part_us = middle_us / 100
    return {
        "op_overhead_us": part_us,
        "base_us": middle_us,
        "zero_point_us": part_us,
        "place_ns": middle_us * 1e3 / middle_positions,
    }
