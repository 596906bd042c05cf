"""How well a profile predicts the machine that was just measured: searches are designed by its predictions.

Where it predicts badly, the same times, as a table, are what `sixfold profiles calibrate` fits it to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from flows.measure.estimated_rows import OperatorsOf
from flows.measure.session import MeasureSession
from flows.records.schema import CellRecord, CellsFile, ComputeType, LatencyFile, LatencyRow
from flows.records.store import Store
from flows.sweep import workspace
from hardware_profiles.estimate.fit.measurements import Measurement, write_measurements
from hardware_profiles.estimate.model import cannot_run, estimate
from hardware_profiles.schema.profile import MIN_MEASURED, WORST_MAPE, HardwareProfile
from hardware_profiles.timing.environment import cpu_model

DESIGNING = {"nas", "pruning"}
"""Methods that choose by a profile's estimates."""
COMPUTE_TYPES: tuple[ComputeType, ...] = ("fp32", "int8")


class FileTimes(NamedTuple):
    """A file, what it took here, and what the profile predicts."""

    record: CellRecord
    measured_s: float
    predicted_s: float


class Predictions(NamedTuple):
    """A profile's predictions of the files that were measured on its device."""

    profile: HardwareProfile
    files: tuple[FileTimes, ...]

    @property
    def by_dtype(self) -> dict[ComputeType, tuple[FileTimes, ...]]:
        """fp32 and int8 apart, each with its files where there are five: a profile may hold for one and not for the other."""
        groups = {dtype: tuple(own for own in self.files if own.record.computes_in == dtype) for dtype in COMPUTE_TYPES}
        return {dtype: files for dtype, files in groups.items() if len(files) >= MIN_MEASURED}

    def sentence(self) -> str:
        """For a terminal."""
        parts = []
        for dtype, files in self.by_dtype.items():
            order = f"their order by Kendall's tau: {rank_correlation(files):.2f}"
            parts.append(f"{prediction_error(files):.0%} off for {len(files)} files in {dtype} ({order})")
        return f"{self.profile.id}: what a search would estimate is {' and '.join(parts)}"


def prediction_error(files: Sequence[FileTimes]) -> float:
    """Mean absolute error of the predictions, as a share of the measured times (MAPE)."""
    return float(np.mean([abs(own.predicted_s / own.measured_s - 1) for own in files]))


def rank_correlation(files: Sequence[FileTimes]) -> float:
    """Kendall's tau of predictions and times: 1 where the predictions have the files in their order."""
    return float(kendalltau([own.predicted_s for own in files], [own.measured_s for own in files]).statistic)


def design_advice(session: MeasureSession, latency: LatencyFile, design_profile: str) -> tuple[str, ...]:
    """How well the design profile predicts what was measured on its device, and what to do where it does not; often nothing.

    What a host profile describes is measured by every host profile of its machine, runtime and threads.
    """
    if session.cells.not_applicable.keys() >= DESIGNING:
        return ()
    (design,) = session.profiles((design_profile,))
    same = {profile.id for profile in session.profiles() if _measures(profile, design)}
    rows = [row for row in latency.rows if row.profile in same]
    return advice(predictions(session.cells, rows, design, session.designed), session.store, workspace.CALIBRATION)


def predictions(cells: CellsFile, rows: Sequence[LatencyRow], profile: HardwareProfile, operators_of: OperatorsOf) -> Predictions:
    """What the profile says of the files that these rows measured, every file once.

    operators_of: what a search would take the networks to consist of, which is their specs; it has no files yet.
    """
    records = {record.cell: record for record in (*cells.cells, *cells.references)}
    timed: dict[str, FileTimes] = {}
    for row in rows:
        if not row.is_measured or row.p50_s is None or row.artifact_digest is None or row.artifact_digest in timed:
            continue
        operators = operators_of(records[row.cell], profile)
        if cannot_run(operators, profile) is None:
            timed[row.artifact_digest] = FileTimes(records[row.cell], row.p50_s, estimate(operators, profile).point_s)
    return Predictions(profile, tuple(timed.values()))


def advice(found: Predictions, store: Store, folder: Path) -> tuple[str, ...]:
    """How far off the predictions are and, where that is further than a calibrated profile's may be, what to do about it.

    For that the table of the times is written into the folder. Nothing is said of fewer than five files of a type.
    """
    errors = [prediction_error(files) for files in found.by_dtype.values()]
    if max(errors, default=0.0) <= WORST_MAPE:
        return (found.sentence(),) if errors else ()
    target = folder / f"{found.profile.id}.csv"
    write_measurements(_measurements(found, store), target)
    return (
        found.sentence(),
        f"  What is searched for by it is made for another machine, or for other networks. `sixfold profiles calibrate "
        f"{found.profile.id} {target}` fits it to these times; then let grid.design_profile name what it writes.",
    )


def _measures(profile: HardwareProfile, design: HardwareProfile) -> bool:
    if "device" in (profile.kind, design.kind):
        return profile.id == design.id
    return (profile.machine, profile.runtime, profile.threads) == (design.machine, design.runtime, design.threads)


def _measurements(own: Predictions, store: Store) -> tuple[Measurement, ...]:
    """For `sixfold profiles calibrate`: the measured files and times; cells of one shape are of one family."""
    return tuple(
        Measurement(
            model=store.file(timed.record.artifacts[own.profile.runtime].url).resolve(),
            dtype=timed.record.computes_in,
            latency_s=timed.measured_s,
            family=f"{timed.record.params}-{timed.record.macs}",
            threads=own.profile.threads,
            cpu=cpu_model() if own.profile.kind == "host" else None,
        )
        for timed in own.files
    )
