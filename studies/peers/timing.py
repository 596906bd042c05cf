"""The files of other tools and ours timed in the same rounds, by what the stage `measure` times with."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path

from detection.data.dataset import load_split
from flows.measure.host import host_rounds, why_not_here
from flows.measure.measured_rows import Rounds, measured_row
from flows.measure.stage import forecast_s
from flows.progress import duration
from flows.records.schema import CONTROL, GIVEN, CellRecord, CellsFile, LatencyFile, LatencyRow, read_schema, write_records
from flows.records.store import Observations
from flows.report.recommendation import RecommendationFile
from flows.stats.verdicts import with_verdicts
from flows.sweep import workspace
from flows.sweep.settings import quick
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import digest_of, environment, runtime_in
from hardware_profiles.timing.round import File
from studies.finished_run import FinishedRun
from studies.peers.chains import tools
from studies.peers.making import Maker
from studies.peers.own_costs import own_spent
from studies.peers.records import Peer, PeersFile
from studies.peers.work import read_peers

PEERS = Path("results/peers.json")
"""In the folder of the run."""
RECOMMENDATION = workspace.REPORT / "recommendation.json"


def measure_peers(run: FinishedRun, within: float, patterns: Sequence[str], *, fewer: bool = False) -> PeersFile:
    """All records with their latency, also in results/peers.json; what was timed before is timed again."""
    peers, seed, params = read_peers(run), Maker(run).control.seed, run.plan.params
    config = quick(params.measure) if fewer else params.measure
    ours = cells_timed(run, patterns)
    cells = run.cells.model_copy(update={"cells": ours, "references": _given(run.cells)})
    theirs = tuple(own.as_cell(seed) for own in worth_timing(peers, cells, within))
    records = (*ours, *cells.references, *theirs)
    every = cells.model_copy(update={"cells": (*ours, *theirs)})
    profiles = [load_profile(name, run.plan.profiles_folder) for name in config.profiles]
    hosts = [own for own in profiles if own.kind == "host" and why_not_here(own) is None]
    files = {profile.id: _files(run, profile, records) for profile in hosts}
    forecast = duration(forecast_s(records, [len(own) for own in files.values()], config))
    counted = ", ".join(f"{len(own)} files on {name}" for name, own in files.items())
    print(f"peers: {config.rounds} rounds of {counted}: about {forecast}; leave the machine alone meanwhile", flush=True)
    surroundings = environment()
    rounds = host_rounds(hosts, files, load_split(run.prepared, "val"), config)
    for name, seen in rounds.items():
        Observations(run.store.root / "observations").append(name, seen.results, surroundings, config.recorded())
    rows = [row for own in hosts for row in _rows(records, own, rounds[own.id], surroundings)]
    judged = with_verdicts(every, rows)
    found = PeersFile(
        cells=cells,
        peers=peers,
        tools=tools(),
        own_spent=own_spent(run, (*ours, *cells.references)),
        max_drop=params.report.max_drop,
        bootstrap_draws=params.report.bootstrap_draws,
        bootstrap_seed=params.report.seed,
        latency=LatencyFile(
            environment=surroundings,
            protocol={"rounds": config.rounds} | config.recorded(),
            rows=tuple(row.model_copy(update={"flags": ()}) for row in judged),  # a peer's float parent is not known to them
        ),
    )
    write_records(run.folder / PEERS, found)
    return found


def cells_timed(run: FinishedRun, patterns: Sequence[str]) -> tuple[CellRecord, ...]:
    """The control, the cells that the run's report recommends and those on its fronts, and those of the patterns.

    Without a report: every cell that was made.
    """
    names = {CONTROL}
    if (path := run.folder / RECOMMENDATION).is_file():
        for own in read_schema(path, RecommendationFile, "sixfold report").profiles:
            names |= {*own.front, *([own.chosen.cell] if own.chosen else [])}
    else:
        patterns = ["*"]
    made = (own for own in run.cells.cells if own.status == "ok")
    return tuple(own for own in made if own.cell in names or any(fnmatch.fnmatch(own.cell, pattern) for pattern in patterns))


def worth_timing(peers: Iterable[Peer], cells: CellsFile, within: float) -> tuple[Peer, ...]:
    """Of every network and form the file with the best val mAP, where it is at most `within` below the baseline's.

    Calibrators change no speed, and what loses more cannot be chosen.
    """
    best: dict[tuple[str, str, str], Peer] = {}
    for own in peers:
        baseline = cells.baseline(own.runtime)
        if own.artifact is None or baseline is None:
            continue
        place = own.network.label(), own.runtime, own.packing.form()
        if own.artifact.val.map_50_95 < baseline.artifacts[own.runtime].val.map_50_95 - within:
            continue
        if place not in best or val_map(own) > val_map(best[place]):
            best[place] = own
    return tuple(best.values())


def val_map(peer: Peer) -> float:
    """Of a file that was made."""
    assert peer.artifact is not None, "asked of files"
    return peer.artifact.val.map_50_95


def _given(cells: CellsFile) -> tuple[CellRecord, ...]:
    """The checkpoint as it was brought, where the sweep lists it."""
    return tuple(own for own in cells.references if own.cell == GIVEN and own.status == "ok")


def _files(run: FinishedRun, profile: HardwareProfile, records: Iterable[CellRecord]) -> tuple[File, ...]:
    """Every distinct file of the profile's runtime, once."""
    urls = {own.digest: own.url for record in records for runtime, own in record.artifacts.items() if runtime == profile.runtime}
    return tuple(File(digest=digest, path=str(run.store.file(url))) for digest, url in sorted(urls.items()))


def _rows(
    records: Sequence[CellRecord], profile: HardwareProfile, rounds: Rounds, surroundings: dict[str, object]
) -> Iterable[LatencyRow]:
    control = next(own for own in records if own.cell == CONTROL)
    for record in records:
        if profile.runtime in record.artifacts:
            row = measured_row(record, control, profile, rounds, environment=digest_of(surroundings))
            yield row.model_copy(update={"runtime": runtime_in(surroundings, profile.runtime)})
