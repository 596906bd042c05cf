"""The cells of a finished sweep as test cases for the estimator: what each exported file consists of, and how long it took here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from detection.frozen import Frozen, InputError
from flows.records.schema import CellRecord, LatencyFile, LatencyRow, read_records
from flows.sweep import workspace
from hardware_profiles.estimate.fit.measurements import MeasuredNetwork
from hardware_profiles.estimate.graph.reading import read_operators
from hardware_profiles.schema.library import load_profile
from studies.finished_run import FinishedRun, open_run

LEFT_OUT = ("lightweight", "nas")
"""Left out of the fit in turn, each with every cell that contains it."""


@dataclass(frozen=True, kw_only=True)
class HostCell(MeasuredNetwork):
    """One exported file, measured here."""

    methods: tuple[str, ...]
    macs: int
    params: int
    interval_s: tuple[float, float]
    """Range over the rounds."""


class HostRun(Frozen):
    """What one sweep measured on one profile."""

    sweep: str
    profile: str
    runtime: str
    """Name and version."""
    machine: str
    rounds: int


def read_host_runs(folder: Path) -> tuple[tuple[HostRun, tuple[HostCell, ...]], ...]:
    """Each host profile of the run with its cells, in the order of its latency file; files that several cells share count once."""
    run = open_run(folder)
    latency = read_records(folder / workspace.LATENCY, LatencyFile)
    measured = {row.profile for row in latency.rows if row.is_measured}
    found = [_on_profile(run, latency, name) for name in latency.profiles() if name in measured]
    if not found:
        raise InputError(f"{folder / workspace.LATENCY}: nothing was measured on this machine. Run `sixfold measure` there first.")
    return tuple(found)


def family_of(methods: Collection[str]) -> str:
    """The architecture that was trained; every other method keeps the one it is given."""
    return "+".join(method for method in LEFT_OUT if method in methods) or "plain"


def _on_profile(run: FinishedRun, latency: LatencyFile, profile: str) -> tuple[HostRun, tuple[HostCell, ...]]:
    rows = [row for row in latency.rows if row.profile == profile and row.p50_s is not None]
    runtime = load_profile(profile).runtime
    cells: dict[str | None, HostCell] = {}
    for row in rows:
        record = run.cells.cell(row.cell)
        if record is not None and row.artifact_digest not in cells:
            cells[row.artifact_digest] = _cell(run, record, row, runtime)
    own = HostRun(
        sweep=run.cells.sweep,
        profile=profile,
        runtime=rows[0].runtime,
        machine=str(latency.environment.get("cpu", "unknown")),
        rounds=min(len(row.rounds_s) for row in rows),
    )
    return own, tuple(cells.values())


def _cell(run: FinishedRun, record: CellRecord, row: LatencyRow, runtime: str) -> HostCell:
    assert row.p50_s is not None, "rows without a time were left out"
    assert record.macs is not None, "a measured cell was made, so it was counted"
    assert record.params is not None, "a measured cell was made, so it was counted"
    return HostCell(
        name=record.cell,
        operators=read_operators(run.model(record.cell, runtime).path, runtime),
        dtype=record.computes_in,
        latency_s=row.p50_s,
        family=family_of(record.methods),
        origin="measured here",
        methods=record.methods,
        macs=record.macs,
        params=record.params,
        interval_s=(min(row.rounds_s), max(row.rounds_s)),
    )
