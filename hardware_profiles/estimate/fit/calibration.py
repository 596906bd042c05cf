"""A profile's numbers fitted on measured networks, with the error for networks that were left out of the fit.

Least squares on log times: a network of 1 ms that is 10 % off weighs as much as one of 100 ms. Several forms of the same roofline
are tried, from one constant to one per class of convolution; the one that foretells left-out networks best is taken, for on
published data more constants often foretold worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hardware_profiles.estimate.fit.coefficients import FORMS, Form, solve
from hardware_profiles.estimate.fit.measurements import Anchor, AnchorError
from hardware_profiles.estimate.fit.vectorised import Coefficients, networks_of, put_in
from hardware_profiles.estimate.model import cannot_run, computed_as
from hardware_profiles.schema.profile import MIN_ANCHORS, Calibration, DType, HardwareProfile, PerClass
from hardware_profiles.schema.validation import numbers_of

Array = NDArray[np.float64]
Proxy = Literal["macs", "parameters"]
ZERO_POINT_ANCHORS = 8
"""From so many on, and where they differ in it, what a zero point costs is fitted together with the overhead of an operator; but
only for a runtime of which it is known that zero points cost something."""
WORTH = 1.10
"""A later form has to foretell left-out networks at least 10 % better, in log error, than an earlier one."""
FITTED = "fitted"
"""What the sources of fitted numbers begin with."""
NORMAL_90 = 1.64
"""Standard deviations to either side that hold 90 % of a normal distribution."""


@dataclass(frozen=True)
class HeldOut:
    """Times of networks as foretold by fits that had not seen their family."""

    measured_s: tuple[float, ...]
    foretold_s: tuple[float, ...]

    @property
    def mape(self) -> float:
        """Mean absolute percentage error, as a share."""
        pairs = zip(self.foretold_s, self.measured_s, strict=True)
        return sum(abs(foretold / measured - 1) for foretold, measured in pairs) / len(self.measured_s)

    @property
    def interval_factor(self) -> float:
        """k such that [t / k, t * k] holds 90 % of the times, were the log errors normal and without bias."""
        errors = [math.log(foretold / measured) for foretold, measured in zip(self.foretold_s, self.measured_s, strict=True)]
        return math.exp(NORMAL_90 * math.sqrt(sum(error**2 for error in errors) / len(errors)))


def calibrate(
    profile: HardwareProfile, anchors: Sequence[Anchor], validated_on: str = "networks like the anchors", origin: str | None = None
) -> HardwareProfile:
    """The profile with numbers fitted to the anchors, type by type; AnchorError where they do not suit it or are fewer than two.

    Error and interval are those of anchors, or of whole families where they have names, that were left out in turn. `origin`
    says where the times come from; otherwise the anchors do.
    """
    for dtype in _dtypes(profile, anchors):
        profile = _without_fits(profile, dtype)
        own = [anchor for anchor in anchors if anchor.dtype == dtype]
        form, seen = _best_form(profile, own, dtype)
        fitted = solve(networks_of(profile, own, dtype), profile, dtype, form)
        whence = origin or "; ".join(dict.fromkeys(anchor.origin for anchor in own if anchor.origin)) or "measured by the user"
        if versions := sorted({anchor.runtime_version for anchor in own if anchor.runtime_version}):
            whence += f" ({', '.join(versions)})"
        calibration = Calibration(
            anchors=len(own),
            leave_one_out_mape=float(f"{seen.mape:.3g}"),
            validated_on=validated_on,
            origin=whence,
            cpu=next((anchor.cpu for anchor in own if anchor.cpu), None),
        )
        profile = _recorded(profile, fitted, dtype, form, seen, calibration)
    return profile


def fitted(profile: HardwareProfile, anchors: Sequence[Anchor]) -> HardwareProfile:
    """The profile with numbers fitted to the anchors and nothing else changed: for errors on networks that are kept apart."""
    for dtype in _dtypes(profile, anchors):
        profile = _without_fits(profile, dtype)
        own = [anchor for anchor in anchors if anchor.dtype == dtype]
        form, _ = _best_form(profile, own, dtype)
        profile = put_in(profile, dtype, solve(networks_of(profile, own, dtype), profile, dtype, form))
    return profile


def held_out(profile: HardwareProfile, anchors: Sequence[Anchor], form: Form) -> HeldOut:
    """What the form foretells for each anchor of one type when it, or its family, is left out of the fit."""
    dtype = anchors[0].dtype
    networks = networks_of(profile, anchors, dtype)
    start = solve(networks, profile, dtype, form)

    def foretell(kept: Sequence[int], out: Sequence[int]) -> Array:
        found = solve(networks.part(kept), profile, dtype, form, start)
        return networks.part(out).seconds(found)

    return _leave_out(anchors, foretell)


def proxy_held_out(anchors: Sequence[Anchor], proxy: Proxy) -> HeldOut:
    """What `macs` (or FLOPs: twice as many) or `parameters` times a constant foretells, fitted on the other families alike."""
    counts: Mapping[Proxy, Callable[[Anchor], int]] = {
        "macs": lambda anchor: sum(operator.macs for operator in anchor.operators),
        "parameters": lambda anchor: sum(operator.weight_elements for operator in anchor.operators if operator.macs),
    }
    size = np.array([counts[proxy](anchor) for anchor in anchors], dtype=float)
    measured_s = np.array([anchor.latency_s for anchor in anchors])

    def foretell(kept: Sequence[int], out: Sequence[int]) -> Array:
        constant = math.exp(float(np.mean(np.log(measured_s[list(kept)] / size[list(kept)]))))
        return size[list(out)] * constant

    return _leave_out(anchors, foretell)


def _leave_out(anchors: Sequence[Anchor], foretell: Callable[[Sequence[int], Sequence[int]], Array]) -> HeldOut:
    groups: dict[Hashable, list[int]] = {}
    for index, anchor in enumerate(anchors):  # networks that differ in their weights alone say the same twice
        groups.setdefault(anchor.family if anchor.family is not None else anchor.operators, []).append(index)
    if len(groups) < 2:
        raise AnchorError(
            f"{len(anchors)} anchors of one family or graph; an error needs at least two networks or families to leave out"
        )
    foretold_s = np.zeros(len(anchors))
    for out in groups.values():
        kept = [index for index in range(len(anchors)) if index not in set(out)]
        foretold_s[out] = foretell(kept, out)
    return HeldOut(tuple(anchor.latency_s for anchor in anchors), tuple(float(value) for value in foretold_s))


def _dtypes(profile: HardwareProfile, anchors: Sequence[Anchor]) -> list[DType]:
    """The anchors' types, float first, for int8 files have float operators too; AnchorError where one does not suit the profile."""
    for anchor in anchors:
        if anchor.threads is not None and anchor.threads != profile.threads:
            raise AnchorError(f"{anchor.name}: measured with {anchor.threads} threads, {profile.id} is for {profile.threads}")
        if computed_as(profile, anchor.dtype == "int8") != anchor.dtype:
            raise AnchorError(f"{anchor.name}: measured in {anchor.dtype}; {profile.id} computes in {', '.join(profile.dtypes)}")
        if reason := cannot_run(anchor.operators, profile):
            raise AnchorError(f"{anchor.name}: {reason}; such networks cannot calibrate it")
    found = sorted({anchor.dtype for anchor in anchors}, key=lambda dtype: dtype == "int8")
    for dtype in found:
        if (count := sum(anchor.dtype == dtype for anchor in anchors)) < 2:
            raise AnchorError(
                f"{count} measured {dtype} network; at least 2 are needed to fit, {MIN_ANCHORS} to be called calibrated"
            )
    if not found:
        raise AnchorError(f"no measured networks; at least {MIN_ANCHORS} are needed for {profile.id} to be called calibrated")
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


def _best_form(profile: HardwareProfile, anchors: Sequence[Anchor], dtype: DType) -> tuple[Form, HeldOut]:
    """The simplest form whose left-out anchors are foretold almost as well as by the best."""
    networks = len({anchor.operators for anchor in anchors})
    allowed = [form for form in FORMS if networks >= form.fewest]
    known = dtype == "int8" and profile.zero_point_us is not None
    if known and networks >= ZERO_POINT_ANCHORS and _zero_points_vary(anchors):
        allowed = [replace(form, zero_point=form.overhead) for form in allowed]
    alone = [replace(anchor, family=None) for anchor in anchors]  # families are too few to choose by: two or three draws
    errors = [math.log(held_out(profile, alone, form).interval_factor) for form in allowed]
    best = next(form for form, error in zip(allowed, errors, strict=True) if error <= min(errors) * WORTH)
    return best, held_out(profile, anchors, best)


def _zero_points_vary(anchors: Sequence[Anchor]) -> bool:
    """Whether some anchors have zero points and others none."""
    return len({any(operator.zero_point for operator in anchor.operators) for anchor in anchors}) == 2


def _recorded(
    profile: HardwareProfile, found: Coefficients, dtype: DType, form: Form, seen: HeldOut, calibration: Calibration
) -> HardwareProfile:
    """The profile with the numbers, their sources, its error and its interval."""
    whence = f"{FITTED} by least squares on log times of {calibration.anchors} networks ({form.name}); {calibration.origin}"
    known = profile.interval_factor.of(dtype) or 1.0
    factor = seen.interval_factor if calibration.holds else max(known, seen.interval_factor)
    changed = put_in(profile, dtype, found)
    new = {
        f"utilisation.{dtype}": whence,
        f"interval_factor.{dtype}": (
            f"derived: {NORMAL_90} standard deviations of log errors of left-out networks"
            + ("" if calibration.holds else ", not below what it was before: too few networks, or too great an error")
        ),
    }
    new |= {f"op_overhead_us.{dtype}": whence} if form.overhead else {}
    new |= {f"base_us.{dtype}": whence} if form.base else {}
    new |= {f"place_ns.{dtype}": whence} if form.place else {}
    new |= {f"class_utilisation.{dtype}.{name}": whence for name in found.by_class}
    new |= {"zero_point_us": whence} if form.zero_point else {}
    document = changed.model_dump(by_alias=True)
    document["interval_factor"][dtype] = math.ceil(max(factor, 1.0) * 100) / 100
    document["calibration"][dtype] = calibration.model_dump()
    numbers = set(numbers_of(document))
    document["sources"] = {field: text for field, text in (changed.sources | new).items() if field in numbers}
    return HardwareProfile.model_validate(document)
