"""The stage `measure`: every cell's latency on every profile, timed where it can be and estimated where it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detection.frozen import InputError
from flows.measure.devices.imported import imported_rounds
from flows.measure.estimated_rows import estimated_row, with_memory
from flows.measure.host import host_rounds, why_not_here
from flows.measure.measured_rows import Rounds, measured_row
from flows.measure.session import MeasureSession
from flows.progress import Say, duration
from flows.records.schema import CONTROL, CellRecord, LatencyFile, LatencyRow
from flows.stats.verdicts import with_verdicts
from flows.sweep.settings import Measure
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import digest_of, environment, runtime_in
from hardware_profiles.timing.mlperf_percentile import least_calls

ROUND_START_S, OPEN_S, CALL_S, MACS_PER_S = 1.5, 0.13, 4e-4, 60e9
"""For the forecast, from the sweeps in docs/results: a process starts, a file is opened, a call costs something and works off
multiply-adds, on one core. Other machines take half or twice as long."""


def measure(session: MeasureSession, profiles: Sequence[HardwareProfile], say: Say = print) -> LatencyFile:
    """One row per (cell or reference, profile): measured here, or on its device and imported, otherwise estimated.

    Every call times again; what it saw here is appended to the store's observations.
    """
    if not session.images.picture_ids:
        split = session.images.split
        raise InputError(f"split {split!r} holds no pictures; measuring needs real ones. Run `sixfold prepare` with some.")
    surroundings = environment()
    rounds = _rounds_here(session, [profile for profile in profiles if profile.kind == "host"], surroundings, say)
    control = session.cells.cell(CONTROL)
    for profile in profiles:
        if profile.kind == "device" and profile.producible and session.files(profile):
            artifact = control.artifacts.get(profile.runtime) if control else None
            rounds[profile.id] = imported_rounds(profile.id, artifact, session.observations.devices, say)
    rows = [
        _row(session, record, profile, rounds.get(profile.id, Rounds()), surroundings)
        for profile in profiles
        for record in session.records
    ]
    protocol = {"rounds": session.config.rounds} | session.config.recorded()
    return LatencyFile(environment=surroundings, protocol=protocol, rows=with_verdicts(session.cells, rows))


def _rounds_here(
    session: MeasureSession, hosts: Sequence[HardwareProfile], surroundings: Mapping[str, Any], say: Say
) -> dict[str, Rounds]:
    """Profile -> the rounds that this machine timed, or why it cannot."""
    files = {profile.id: session.files(profile) for profile in hosts if why_not_here(profile) is None}
    _announce(session.records, {name: len(own) for name, own in files.items()}, session.config, say)
    rounds = host_rounds(hosts, files, session.images, session.config, say)
    for name, seen in rounds.items():
        session.observations.append(name, seen.results, surroundings, session.config.recorded())
    return rounds


def _announce(records: Sequence[CellRecord], files: Mapping[str, int], config: Measure, say: Say) -> None:
    """Say beforehand how long it will take, and what the numbers asked for will not give."""
    counted = ", ".join(f"{count} files on {profile}" for profile, count in files.items() if count)
    if not counted:
        return
    forecast = f"about {duration(forecast_s(records, tuple(files.values()), config))}"
    say(f"measure: {config.rounds} rounds of {counted}: {forecast}; leave the machine alone meanwhile")
    if config.timed_calls < least_calls():
        say(f"measure: timed_calls is {config.timed_calls}: no 90th percentile, which needs {least_calls()}")


def forecast_s(records: Sequence[CellRecord], files: Sequence[int], config: Measure) -> float:
    """Seconds that the rounds will take, for this many files per profile."""
    macs = [record.macs for record in records if record.macs is not None]
    call_s = CALL_S + sum(macs) / max(1, len(macs)) / MACS_PER_S
    calls = 1 + config.timed_calls + 2 * config.end_to_end_calls  # letterboxing and selection cost about as much as the network
    block_s = OPEN_S + config.warmup_s + calls * call_s
    return config.rounds * sum(ROUND_START_S + count * block_s for count in files if count)


def _row(
    session: MeasureSession, record: CellRecord, profile: HardwareProfile, rounds: Rounds, surroundings: Mapping[str, Any]
) -> LatencyRow:
    """The measured row where there are rounds; on a device without any the estimate, and why it was not measured."""
    control = session.cells.cell(CONTROL)
    if profile.kind == "host" or rounds.results:
        there = rounds.environment or surroundings
        row = measured_row(record, control, profile, rounds, environment=digest_of(there))
        row = row.model_copy(update={"runtime": runtime_in(there, profile.runtime)})
    else:
        row = estimated_row(record, control, profile, session.operators_of, session.host_cpu(profile))
        row = row.model_copy(update={"why": "; ".join(filter(None, (row.why, rounds.why))) or None})
    return with_memory(row, session.graphs.of(record, profile), profile)
