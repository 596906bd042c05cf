"""The stage `measure`: every cell's latency on every profile, timed where it can be and estimated where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.data.dataset import Images
from detection.frozen import InputError
from flows.measure.estimated_rows import OperatorsOf, estimated_row
from flows.measure.exported_graphs import ExportedGraphs, with_memory
from flows.measure.host import Report, host_rounds, in_words, why_not_here
from flows.measure.measured_rows import Rounds, measured_row
from flows.records.observations import append_observations
from flows.records.schema import CONTROL, CellRecord, CellsFile, LatencyFile, LatencyRow
from flows.stats.verdicts import judged
from flows.sweep.measure_settings import Measure
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import digest_of, environment, runtime_in
from hardware_profiles.timing.mlperf_percentile import least_calls
from hardware_profiles.timing.round import File

DeviceRounds = Callable[[Sequence[HardwareProfile], Mapping[str, tuple[File, ...]]], Mapping[str, Rounds]]
"""Measures profiles of other machines, each with its files; where none can be reached, its Rounds say why there are none."""
ROUND_START_S, OPEN_S, CALL_S, MACS_PER_S = 1.5, 0.13, 4e-4, 60e9
"""For the forecast, from the sweeps in docs/results: a process starts, a file is opened, a call costs something and works off
multiply-adds, on one core. Other machines take half or twice as long."""


def measure(
    cells: CellsFile,
    profiles: Sequence[HardwareProfile],
    images: Images,
    config: Measure,
    observations: Path,
    fetch: Callable[[str], Path],
    operators_of: OperatorsOf,
    report: Report = print,
    device_rounds: DeviceRounds | None = None,
    fallbacks: Mapping[str, HardwareProfile] | None = None,
) -> LatencyFile:
    """One row per (cell or reference, profile): measured here or on a device that `device_rounds` reaches, otherwise estimated.

    `fetch` gives the local file of a store URL, `operators_of` what the cell's network consists of. Every call times afresh;
    what it saw here is also written under `observations`, beside what earlier calls saw. `fallbacks` are the profiles that others
    name to run what they cannot.
    """
    if not images.picture_ids:
        raise InputError(f"split {images.split!r} holds no pictures; measuring needs real ones. Run `sixfold prepare` with some.")
    records = (*cells.cells, *cells.references)
    surroundings = environment()
    hosts = [profile for profile in profiles if profile.kind == "host"]
    devices = [profile for profile in profiles if profile.kind == "device" and profile.producible and device_rounds is not None]
    reachable = [*(profile for profile in hosts if why_not_here(profile) is None), *devices]
    files = {profile.id: files_of(profile, records, fetch) for profile in reachable}
    _announce(records, {profile.id: len(files[profile.id]) for profile in hosts if profile.id in files}, config, report)
    rounds = host_rounds(hosts, files, images, config, report)
    for name, seen in rounds.items():
        append_observations(observations, name, seen.results, surroundings, config.recorded())
    if device_rounds is not None:
        rounds |= device_rounds(devices, files)
    control, none = cells.cell(CONTROL), Rounds()
    beside = {profile.id: (fallbacks or {}).get(profile.fallback or "") for profile in profiles}
    graphs = ExportedGraphs(fetch)
    rows = [
        with_memory(
            _row(record, control, profile, rounds.get(profile.id, none), surroundings, operators_of, beside[profile.id]),
            graphs.of(record, profile),
            profile,
        )
        for profile in profiles
        for record in records
    ]
    protocol = {"rounds": config.rounds} | config.recorded()
    return LatencyFile(environment=surroundings, protocol=protocol, rows=judged(cells, rows))


def files_of(profile: HardwareProfile, records: Sequence[CellRecord], fetch: Callable[[str], Path]) -> tuple[File, ...]:
    """Every distinct file of the profile's runtime, once: cells with equal digests share a file and its timing."""
    urls = {
        artifact.digest: artifact.url
        for record in records
        for runtime, artifact in record.artifacts.items()
        if runtime == profile.runtime and record.status == "ok"
    }
    return tuple(File(digest=digest, path=str(fetch(url))) for digest, url in sorted(urls.items()))


def forecast_s(records: Sequence[CellRecord], files: Sequence[int], config: Measure) -> float:
    """Seconds that the rounds will take, for so many files per profile."""
    macs = [record.macs for record in records if record.macs is not None]
    call_s = CALL_S + sum(macs) / max(1, len(macs)) / MACS_PER_S
    calls = 1 + config.timed_calls + 2 * config.end_to_end_calls  # letterboxing and selection cost about as much as the network
    block_s = OPEN_S + config.warmup_s + calls * call_s
    return config.rounds * sum(ROUND_START_S + count * block_s for count in files if count)


def _announce(records: Sequence[CellRecord], files: Mapping[str, int], config: Measure, report: Report) -> None:
    """Say beforehand how long it will take, and what the numbers asked for will not give."""
    counted = ", ".join(f"{count} files on {profile}" for profile, count in files.items() if count)
    if not counted:
        return
    forecast = in_words(forecast_s(records, tuple(files.values()), config))
    report(f"measure: {config.rounds} rounds of {counted}: {forecast}; leave the machine alone meanwhile")
    if config.timed_calls < least_calls():
        report(f"measure: timed_calls is {config.timed_calls}: no 90th percentile, which needs {least_calls()}")


def _row(
    record: CellRecord,
    control: CellRecord | None,
    profile: HardwareProfile,
    rounds: Rounds,
    surroundings: Mapping[str, Any],
    operators_of: OperatorsOf,
    fallback: HardwareProfile | None,
) -> LatencyRow:
    """The measured row where there are rounds; on a device without any the estimate, and why it was not measured."""
    if profile.kind == "host" or rounds.results:
        there = rounds.environment or surroundings
        row = measured_row(record, control, profile, rounds, environment=digest_of(there))
        return row.model_copy(update={"runtime": runtime_in(there, profile.runtime)})
    row = estimated_row(record, control, profile, operators_of, fallback)
    return row.model_copy(update={"why": "; ".join(filter(None, (row.why, rounds.why))) or None})
