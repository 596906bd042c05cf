"""Rows of `results/latency.json` for devices that are not here: modelled times and their intervals, no rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flows.measure.measured_rows import empty_row, why_not_made
from flows.records.schema import CellRecord, LatencyRow
from hardware_profiles.estimate.model import Estimate, Operator, cannot_run, estimate, main_dtype
from hardware_profiles.schema.profile import HardwareProfile

OperatorsOf = Callable[[CellRecord, HardwareProfile], Sequence[Operator]]
"""What a cell's network consists of in the file that a profile's device would run."""


def estimated_row(
    record: CellRecord,
    control: CellRecord | None,
    profile: HardwareProfile,
    operators_of: OperatorsOf,
    host_cpu: HardwareProfile | None = None,
) -> LatencyRow:
    """The row of one cell on a profile that only describes a device; where it cannot run, no number and `why`.

    `host_cpu` is the profile that `profile.host_cpu` names, or None.
    """
    if record.status != "ok":
        return empty_row(record, profile, "estimated", why=why_not_made(record))
    own = _estimate(record, profile, operators_of, host_cpu)
    if isinstance(own, str):
        return empty_row(record, profile, "estimated", fits=False, why=own)
    reference = _estimate(control, profile, operators_of, host_cpu) if control is not None and control.status == "ok" else None
    return empty_row(
        record,
        profile,
        own.origin,
        p50_s=own.point_s,
        interval_s=(own.low_s, own.high_s),
        speedup=reference.point_s / own.point_s if isinstance(reference, Estimate) else None,
        why=own.note,
        validated_on=_validated_on(operators_of(record, profile), profile),
    )


def _validated_on(operators: Sequence[Operator], profile: HardwareProfile) -> str | None:
    """Which networks the error of the profile's numbers was found on; None where they were fitted on none."""
    calibration = profile.calibration.of(main_dtype(operators, profile))
    return None if calibration is None else calibration.validated_on


def _estimate(
    record: CellRecord, profile: HardwareProfile, operators_of: OperatorsOf, host_cpu: HardwareProfile | None
) -> Estimate | str:
    """The modelled time, or why there can be none."""
    operators = operators_of(record, profile)
    if host_cpu is None and (reason := cannot_run(operators, profile)):
        return reason
    return estimate(operators, profile, host_cpu)
