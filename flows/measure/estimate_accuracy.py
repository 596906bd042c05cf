"""Does a profile describe the machine that was just measured? Its estimates beside the times; searches design by the former.

Where it does not, the same times, as a table, are what `sixfold profiles calibrate` fits it to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from flows.measure.estimated_rows import OperatorsOf
from flows.records.schema import CellRecord, CellsFile, LatencyRow
from hardware_profiles.estimate.fit.measurements import Measurement, write_measurements
from hardware_profiles.estimate.model import cannot_run, estimate
from hardware_profiles.schema.profile import MIN_ANCHORS, WORST_MAPE, HardwareProfile
from hardware_profiles.timing.environment import cpu_model


class Timed(NamedTuple):
    """A file, what it took here, and what the profile says."""

    record: CellRecord
    measured_s: float
    estimated_s: float


class Foretold(NamedTuple):
    """How well a profile's estimates foretell the files that were measured on its device."""

    profile: HardwareProfile
    files: tuple[Timed, ...]

    @property
    def by_dtype(self) -> dict[str, tuple[Timed, ...]]:
        """fp32 and int8 apart, each with its files where there are five: a profile may hold for one and not for the other."""
        groups = {dtype: tuple(own for own in self.files if dtype_of(own.record) == dtype) for dtype in ("fp32", "int8")}
        return {dtype: files for dtype, files in groups.items() if len(files) >= MIN_ANCHORS}

    def sentence(self) -> str:
        """For a terminal."""
        told = (
            f"{off(files):.0%} off for {len(files)} files in {dtype} (their order by Kendall's tau: {order(files):.2f})"
            for dtype, files in self.by_dtype.items()
        )
        return f"{self.profile.id}: what a search would estimate is {' and '.join(told)}"


def off(files: Sequence[Timed]) -> float:
    """Mean absolute error of the estimates, as a share of the measured times."""
    return float(np.mean([abs(own.estimated_s / own.measured_s - 1) for own in files]))


def order(files: Sequence[Timed]) -> float:
    """Kendall's tau of estimates and times: 1 where the estimates have the files in their order."""
    return float(kendalltau([own.estimated_s for own in files], [own.measured_s for own in files]).statistic)


def foretold(
    cells: CellsFile, rows: Sequence[LatencyRow], profiles: Sequence[HardwareProfile], operators_of: OperatorsOf
) -> tuple[Foretold, ...]:
    """Each profile with all its measured files, every file once; without profiles on which fewer than five of a type were.

    operators_of: what a search would take the networks to consist of, which is their blueprints; it has no files yet.
    """
    records = {record.cell: record for record in (*cells.cells, *cells.references)}
    found = (Foretold(profile, _files(profile, records, rows, operators_of)) for profile in profiles)
    return tuple(own for own in found if own.by_dtype)


def measurements_of(own: Foretold, fetch: Callable[[str], Path]) -> tuple[Measurement, ...]:
    """For `sixfold profiles calibrate`: the measured files and times; cells of one shape are of one family."""
    return tuple(
        Measurement(
            model=fetch(timed.record.artifacts[own.profile.runtime].url).resolve(),
            dtype=dtype_of(timed.record),
            latency_s=timed.measured_s,
            family=f"{timed.record.params}-{timed.record.macs}",
            threads=own.profile.threads,
            cpu=cpu_model() if own.profile.kind == "host" else None,
        )
        for timed in own.files
    )


def advice(found: Sequence[Foretold], fetch: Callable[[str], Path], folder: Path) -> tuple[str, ...]:
    """A line per profile and, where the estimates are further off than a calibrated profile's may be, what to do about it.

    For that the table of the times is written into the folder.
    """
    lines = []
    for own in found:
        lines.append(own.sentence())
        if max(off(files) for files in own.by_dtype.values()) > WORST_MAPE:
            target = folder / f"{own.profile.id}.csv"
            write_measurements(measurements_of(own, fetch), target)
            lines.append(
                f"  What is searched for by it is made for another machine, or for other networks. `sixfold profiles calibrate "
                f"{own.profile.id} {target}` fits it to these times; then let grid.design_profile name what it writes."
            )
    return tuple(lines)


def _files(
    profile: HardwareProfile, records: dict[str, CellRecord], rows: Sequence[LatencyRow], operators_of: OperatorsOf
) -> tuple[Timed, ...]:
    timed: dict[str, Timed] = {}
    for row in rows:
        if row.profile != profile.id or row.source != "measured" or row.p50_s is None:
            continue
        if row.artifact_digest is None or row.artifact_digest in timed:
            continue
        operators = operators_of(records[row.cell], profile)
        if cannot_run(operators, profile) is None:
            timed[row.artifact_digest] = Timed(records[row.cell], row.p50_s, estimate(operators, profile).point_s)
    return tuple(timed.values())


def dtype_of(record: CellRecord) -> str:
    """What its file computes in; float16 weights are widened when they are loaded."""
    return "int8" if record.variant.get("quantization", {}).get("precision") == "int8" else "fp32"
