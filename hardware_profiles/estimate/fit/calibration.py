"""A profile's numbers fitted on measured networks, with the error for networks that were left out of the fit.

Least squares on log times: a network of 1 ms that is 10 % off weighs as much as one of 100 ms. Several forms of the same roofline
are tried, from one constant to one per class of convolution; the one that predicts left-out networks best is taken, for on
published data more constants often predicted worse.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hardware_profiles.estimate.fit.least_squares import FORMS, Array, Coefficients, Form, networks_of, solve
from hardware_profiles.estimate.fit.measurements import MeasuredNetwork, MeasurementError
from hardware_profiles.estimate.model import cannot_run, computed_as
from hardware_profiles.schema.profile import MIN_MEASURED, Calibration, DType, HardwareProfile, PerClass, numbers_of

ZERO_POINT_MEASURED = 8
"""From this many networks on, and where they differ in it, what a zero point costs is fitted together with the overhead of an
operator; but only for a runtime of which it is known that zero points cost something."""
WORTH = 1.10
"""A later form has to predict left-out networks at least 10 % better, in log error, than an earlier one."""
FITTED = "fitted"
"""What the sources of fitted numbers begin with."""
NORMAL_90 = 1.64
"""Standard deviations to either side that hold 90 % of a normal distribution."""


@dataclass(frozen=True)
class HeldOut:
    """Times of networks as predicted by fits that had not seen their family."""

    measured_s: Array
    predicted_s: Array

    @property
    def mape(self) -> float:
        """Mean absolute percentage error, as a share."""
        return float(np.mean(np.abs(self.predicted_s / self.measured_s - 1)))

    @property
    def interval_factor(self) -> float:
        """k such that [t / k, t * k] holds 90 % of the times, were the log errors normal and without bias."""
        return math.exp(NORMAL_90 * math.sqrt(np.mean(np.log(self.predicted_s / self.measured_s) ** 2)))


def calibrate(
    profile: HardwareProfile, measured: Sequence[MeasuredNetwork], validated_on: str = "networks like the measured ones"
) -> HardwareProfile:
    """The profile with numbers fitted to the networks, type by type; MeasurementError where they do not suit it or are too few.

    Error and interval are those of networks, or of whole families where they have names, that were left out in turn.
    """
    for dtype in _dtypes(profile, measured):
        profile = _without_fits(profile, dtype)
        own = [network for network in measured if network.dtype == dtype]
        form, seen = _best_form(profile, own, dtype)
        fitted = solve(networks_of(profile, own, dtype), profile, dtype, form)
        whence = "; ".join(dict.fromkeys(network.origin for network in own if network.origin)) or "measured by the user"
        if versions := sorted({network.runtime_version for network in own if network.runtime_version}):
            whence += f" ({', '.join(versions)})"
        calibration = Calibration(
            networks=len(own),
            leave_one_out_mape=float(f"{seen.mape:.3g}"),
            validated_on=validated_on,
            origin=whence,
            cpu=next((network.cpu for network in own if network.cpu), None),
        )
        profile = _recorded(profile, fitted, dtype, form, seen, calibration)
    return profile


def held_out(profile: HardwareProfile, measured: Sequence[MeasuredNetwork], form: Form) -> HeldOut:
    """What the form predicts for each network of one type when it, or its family, is left out of the fit."""
    groups: dict[Hashable, list[int]] = {}
    for index, own in enumerate(measured):  # networks that differ in their weights alone say the same twice
        groups.setdefault(own.family if own.family is not None else own.operators, []).append(index)
    if len(groups) < 2:
        raise MeasurementError(
            f"{len(measured)} measured networks of one family or graph; an error needs at least two to leave out"
        )
    dtype, predicted_s = measured[0].dtype, np.zeros(len(measured))
    networks = networks_of(profile, measured, dtype)
    start = solve(networks, profile, dtype, form)
    for out in groups.values():
        kept = [index for index in range(len(measured)) if index not in set(out)]
        predicted_s[out] = networks.part(out).seconds(solve(networks.part(kept), profile, dtype, form, start))
    return HeldOut(networks.latency_s, predicted_s)


def _dtypes(profile: HardwareProfile, measured: Sequence[MeasuredNetwork]) -> list[DType]:
    """The networks' types, float first, for int8 files have float operators too; MeasurementError where one does not suit."""
    for network in measured:
        if network.threads is not None and network.threads != profile.threads:
            raise MeasurementError(
                f"{network.name}: measured with {network.threads} threads, {profile.id} is for {profile.threads}"
            )
        if computed_as(profile, network.dtype == "int8") != network.dtype:
            raise MeasurementError(
                f"{network.name}: measured in {network.dtype}; {profile.id} computes in {', '.join(profile.dtypes)}"
            )
        if reason := cannot_run(network.operators, profile):
            raise MeasurementError(f"{network.name}: {reason}; such networks cannot calibrate it")
    found = sorted({network.dtype for network in measured}, key=lambda dtype: dtype == "int8")
    for dtype in found:
        if (count := sum(network.dtype == dtype for network in measured)) < 2:
            raise MeasurementError(
                f"{count} measured {dtype} network; at least 2 are needed to fit, {MIN_MEASURED} to be called calibrated"
            )
    if not found:
        raise MeasurementError(f"no measured networks; at least {MIN_MEASURED} are needed for {profile.id} to be called calibrated")
    return found


def _without_fits(profile: HardwareProfile, dtype: DType) -> HardwareProfile:
    """The profile without what an earlier fit of this type left: a new fit starts from what was measured or derived."""

    def is_fitted(field: str) -> bool:
        return profile.sources.get(field, "").startswith(FITTED)

    changed: dict[str, object] = {}
    for field in ("op_overhead_us", "base_us", "place_ns"):
        if is_fitted(f"{field}.{dtype}"):
            changed[field] = getattr(profile, field).model_copy(update={dtype: None})
    if (classes := profile.class_utilisation.of(dtype)) is not None:
        gone = dict.fromkeys((name for name in PerClass.model_fields if is_fitted(f"class_utilisation.{dtype}.{name}")), None)
        changed["class_utilisation"] = profile.class_utilisation.model_copy(update={dtype: classes.model_copy(update=gone)})
    return profile.model_copy(update=changed)


def _best_form(profile: HardwareProfile, measured: Sequence[MeasuredNetwork], dtype: DType) -> tuple[Form, HeldOut]:
    """The simplest form whose left-out networks are predicted almost as well as by the best."""
    count = len({network.operators for network in measured})
    allowed = [form for form in FORMS if count >= form.fewest]
    known = dtype == "int8" and profile.zero_point_us is not None
    with_zero_points = {any(operator.zero_point for operator in network.operators) for network in measured}
    if known and count >= ZERO_POINT_MEASURED and len(with_zero_points) == 2:
        allowed = [
            replace(form, fields=(*form.fields, "zero_point_us")) if "op_overhead_us" in form.fields else form for form in allowed
        ]
    alone = [replace(network, family=None) for network in measured]  # families are too few to choose by: two or three draws
    errors = [math.log(held_out(profile, alone, form).interval_factor) for form in allowed]
    best = next(form for form, error in zip(allowed, errors, strict=True) if error <= min(errors) * WORTH)
    return best, held_out(profile, measured, best)


def _recorded(
    profile: HardwareProfile, found: Coefficients, dtype: DType, form: Form, seen: HeldOut, calibration: Calibration
) -> HardwareProfile:
    """The profile with the numbers, their sources, its error and its interval."""
    whence = f"{FITTED} by least squares on log times of {calibration.networks} networks ({form.name}); {calibration.origin}"
    known = profile.interval_factor.of(dtype) or 1.0
    factor = seen.interval_factor if calibration.holds else max(known, seen.interval_factor)
    changed = found.put_into(profile, dtype)
    new = dict.fromkeys(form.sources(dtype, found), whence)
    new[f"interval_factor.{dtype}"] = f"derived: {NORMAL_90} standard deviations of log errors of left-out networks" + (
        "" if calibration.holds else ", not below what it was before: too few networks, or too great an error"
    )
    document = changed.model_dump(by_alias=True)
    document["interval_factor"][dtype] = math.ceil(max(factor, 1.0) * 100) / 100
    document["calibration"][dtype] = calibration.model_dump()
    numbers = numbers_of(document)
    document["sources"] = {field: text for field, text in (changed.sources | new).items() if field in numbers}
    return HardwareProfile.model_validate(document)
