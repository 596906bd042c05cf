"""What a hardware profile says, laid out for people: the list of all, and one with its sources, its doubts and its limits."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

from hardware_profiles.runtimes.table import RUNTIMES, SessionError, runtime_version
from hardware_profiles.schema.profile import MIN_MEASURED, WORST_MAPE, DType, HardwareProfile
from hardware_profiles.timing.environment import cores_here

Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Heads and lines."""
PER_TYPE = (
    ("peak_gops", "1e9 op/s"),
    ("utilisation", "of peak"),
    ("channel_alignment", "channels"),
    ("op_overhead_us", "us"),
    ("base_us", "us"),
    ("place_ns", "ns"),
    ("partial_place_ns", "ns"),
    ("picture_place_ns", "ns"),
    ("softmax_ns", "ns"),
    ("resize_ns", "ns"),
    ("interval_factor", "times"),
)
"""Numbers per type of the multiplied values, in the order of reading, with their units."""


def profiles_table(profiles: Sequence[HardwareProfile]) -> Table:
    """One line a profile."""
    heads = ("profile", "device", "runtime", "threads", "types", "times", "fitted on, error", "files from sixfold")
    return heads, [
        (
            profile.id,
            profile.name,
            profile.runtime,
            str(profile.threads),
            " ".join(profile.dtypes),
            times_from(profile),
            ", ".join(_fit(profile, dtype) for dtype in profile.dtypes if profile.calibration.of(dtype)) or "not fitted",
            profile.file_format if profile.producible else f"no: {profile.file_format}",
        )
        for profile in profiles
    ]


def times_from(profile: HardwareProfile) -> str:
    """Where this profile's times come from on the machine that asks."""
    if not profile.producible:
        return "estimated only"
    if profile.kind == "device":
        return "on the device, else estimated"
    if profile.machine != platform.machine():
        return f"on a {profile.machine} machine"
    try:
        runtime_version(profile.runtime)
    except SessionError:
        return f"here, once {RUNTIMES[profile.runtime].package} is installed"
    if profile.threads > cores_here():
        return f"on a machine with {profile.threads} cores"
    return "measured here"


def facts(profile: HardwareProfile) -> list[str]:
    """What the device is, in lines."""
    version = profile.runtime_version or "version not stated"
    return [
        f"device    {profile.device_class}, {profile.machine}; {times_from(profile)}",
        f"runtime   {profile.runtime} ({version}), opens {profile.file_format}",
        f"types     {', '.join(profile.dtypes)}; detectors that are not quantized: {profile.float_dtype or 'run elsewhere'}",
        f"weights   int8 scales {' or '.join(profile.weight_granularity)}; sparsity {profile.sparsity}; "
        f"Winograd in {', '.join(profile.winograd) or 'no type'}",
    ]


def numbers_table(profile: HardwareProfile) -> Table:
    """Every number with unit and source; what nobody knows stands there as unknown."""
    lines = []
    for name, value, unit in _numbers(profile):
        shown = "unknown" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"
        lines.append((name, shown, unit, profile.sources.get(name, "")))
    return ("number", "value", "unit", "source"), lines


def _numbers(profile: HardwareProfile) -> Iterator[tuple[str, float | None, str]]:
    """(dotted field, value, unit) in the order of reading."""
    yield "threads", profile.threads, ""
    for field, unit in PER_TYPE:
        for dtype in profile.dtypes:
            yield f"{field}.{dtype}", getattr(profile, field).of(dtype), unit
            by_class = profile.class_utilisation.of(dtype) if field == "utilisation" else None
            for kind, value in by_class or ():
                yield f"class_utilisation.{dtype}.{kind}", value, unit
    yield "zero_point_us", profile.zero_point_us, "us"
    memory = profile.memory
    yield "memory.bandwidth_theoretical_gbs", memory.bandwidth_theoretical_gbs, "1e9 bytes/s"
    yield "memory.bandwidth_effective_gbs", memory.bandwidth_effective_gbs, "1e9 bytes/s"
    yield "memory.budget_bytes", memory.budget_bytes, "bytes"
    if memory.on_chip_bytes is not None:
        yield "memory.on_chip_bytes", memory.on_chip_bytes, "bytes"
    if profile.link is not None:
        yield "link.bandwidth_gbs", profile.link.bandwidth_gbs, "1e9 bytes/s"
        yield "link.latency_us", profile.link.latency_us, "us"


def reliability(profile: HardwareProfile) -> list[str]:
    """Per type: what the numbers were fitted on, and the interval that an estimate stands for."""
    lines = []
    for dtype in profile.dtypes:
        calibration, factor = profile.calibration.of(dtype), profile.interval_factor.of(dtype)
        interval = f"an estimate t stands for [t / {factor:g}, t x {factor:g}]"
        if calibration is None:
            lines.append(f"{dtype}: estimated; not fitted on networks measured on this device; {interval}")
            continue
        word = "calibrated" if calibration.holds else "estimated"
        because = "" if calibration.holds else f" (calibrated needs {MIN_MEASURED} networks and {WORST_MAPE:.0%} error at most)"
        lines.append(
            f"{dtype}: {word}{because}; {_fit(profile, dtype)}, {calibration.validated_on}; {calibration.origin}; {interval}"
        )
    return lines


def _fit(profile: HardwareProfile, dtype: DType) -> str:
    calibration = profile.calibration.of(dtype)
    return f"{dtype} n={calibration.networks}, {calibration.leave_one_out_mape:.0%}" if calibration else f"{dtype} not fitted"


def limits(profile: HardwareProfile, host_cpu: HardwareProfile | None) -> list[str]:
    """What the device cannot do, and what happens then."""
    lines = []
    elsewhere = f"runs on {host_cpu.id} instead" if host_cpu else "does not run"
    if not profile.producible:
        lines.append(
            f"Open what sixfold makes: it needs {profile.file_format}. Its times are estimates, unless you fit them yourself."
        )
    if profile.float_dtype is None:
        lines.append(f"Compute in float: what is not quantized {elsewhere}.")
    if "int8" not in profile.dtypes:
        lines.append(f"Multiply in int8: int8 files are estimated at the speed of {profile.float_dtype}.")
    if profile.unsupported_ops:
        lines.append(f"Run {', '.join(profile.unsupported_ops)}: a detector that has them {elsewhere}.")
    if profile.sparsity == "none":
        lines.append("Skip zeros: weights set to zero cost as much as others.")
    for granularity in ("per_channel", "per_tensor"):
        if "int8" in profile.dtypes and granularity not in profile.weight_granularity:
            lines.append(f"Run int8 weights with {granularity} scales at full speed.")
    if profile.memory.on_chip_bytes is not None:
        lines.append(
            f"Keep more than {profile.memory.on_chip_bytes:,} bytes of parameters: the rest is fetched in every inference."
        )
    return lines


def fit_table(before: HardwareProfile, fitted: HardwareProfile) -> Table:
    """What the fit found, next to what the profile said before."""
    lines: list[tuple[str, ...]] = []
    for dtype in fitted.dtypes:
        calibration = fitted.calibration.of(dtype)
        if calibration is None:
            continue
        start: tuple[str, str, str] = (dtype, str(calibration.networks), f"{calibration.leave_one_out_mape:.1%}")
        word = "calibrated" if calibration.holds else "estimated"
        for field in ("utilisation", "op_overhead_us", "base_us", "place_ns", "interval_factor"):
            old, new = getattr(before, field).of(dtype), getattr(fitted, field).of(dtype)
            lines.append((*start, field, _short(old), _short(new), word))
            start, word = ("", "", ""), ""
        for kind, value in fitted.class_utilisation.of(dtype) or ():
            lines.append(("", "", "", f"class_utilisation {kind}", "", _short(value), ""))
    return ("type", "networks", "leave-one-out error", "number", "before", "fitted", "estimates are"), lines


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
