"""From all observations to one summary; parts that were not observed here keep what an earlier summary says."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from flows.records.schema import LatencyFile, read_records
from flows.sweep import workspace
from studies.measurement.analysis import (
    agreements,
    detections,
    false_alarms,
    own_effect_reached,
    same_graph_alarms,
    session_noise,
    stated_effect,
    trial_spreads,
)
from studies.measurement.coverage import CoverageSettings, simulate
from studies.measurement.identical import Session
from studies.measurement.ledger import Say, read_units
from studies.measurement.loadgen import Alternation
from studies.measurement.noise import of_latency
from studies.measurement.planted import Batch
from studies.measurement.same_graph import same_graph_rows
from studies.measurement.subject import Run
from studies.measurement.summary import (
    SWEEP_FILES,
    CoveragePart,
    IdenticalPart,
    LoadGenPart,
    PlantedPart,
    SameGraphPart,
    Summary,
    about,
    about_units,
)


def sum_up(
    run: Run, work: Path, latencies: Sequence[Path], sweeps: int, command: str, before: Summary, say: Say = print
) -> Summary:
    """The summary of what lies in the work folder, of the run's own latencies and of the noise in all of them.

    `latencies` are further recordings of noise. A part without observations is taken from the summary `before`.
    """
    sessions = read_units(work / "identical", Session)
    batches = read_units(work / "planted", Batch)
    alternations = read_units(work / "loadgen", Alternation)
    return Summary(
        coverage=_coverage(run, sessions, latencies, sweeps, command, say),
        identical=_identical(sessions, command) if sessions else before.identical,
        same_graph=_same_graph(run, command) or before.same_graph,
        planted=_planted(batches, command) if batches else before.planted,
        loadgen=_loadgen(alternations, command) if alternations else before.loadgen,
    )


def _coverage(
    run: Run, sessions: Sequence[Session], latencies: Sequence[Path], sweeps: int, command: str, say: Say
) -> CoveragePart | None:
    own = run.folder / workspace.LATENCY
    files = {run.cells.sweep: own} if own.is_file() else {}
    for path in latencies:
        files.setdefault(path.parent.name, path)
    noises = list(session_noise(sessions))
    surroundings = [session.environment for session in sessions]
    days = [session.observed_at[:10] for session in sessions]
    for name, path in files.items():
        latency = read_records(path, LatencyFile)
        noises += of_latency(name, latency)
        surroundings.append(latency.environment)
    if not noises:
        return None
    settings = CoverageSettings(sweeps=sweeps)
    return CoveragePart(about=about(surroundings, days, command, settings.model_dump()), results=simulate(noises, settings, say))


def _identical(sessions: Sequence[Session], command: str) -> IdenticalPart:
    return IdenticalPart(
        about=about_units(sessions, command),
        results=false_alarms(sessions),
        blocks=sum(sum(map(len, own.medians_s.values())) for own in sessions),
        repeated_blocks=sum(own.repeated_blocks for own in sessions),
        disturbed_blocks=sum(own.disturbed_blocks for own in sessions),
    )


def _same_graph(run: Run, command: str) -> SameGraphPart | None:
    path = run.folder / workspace.LATENCY
    if not path.is_file():
        return None
    latency = read_records(path, LatencyFile)
    results = same_graph_alarms(same_graph_rows(run, latency))
    return SameGraphPart(about=about([latency.environment], (), command, {"sweep": run.cells.sweep}), results=results)


def _planted(batches: Sequence[Batch], command: str) -> PlantedPart:
    controls = [trial["0"] for batch in batches for trial in batch.trials]
    return PlantedPart(
        about=about_units(batches, command),
        runtime=batches[0].settings["runtime"],
        rounds=len(controls[0]),
        median_s=statistics.median(statistics.median(own) for own in controls),
        results=detections(batches),
        trial_spreads=trial_spreads(batches),
        minimal_effect=stated_effect(batches),
        minimal_effect_in_sweep=stated_effect(batches, SWEEP_FILES),
        own_effect_reached=own_effect_reached(batches),
        blocks=sum(len(rounds) for batch in batches for trial in batch.trials for rounds in trial.values()),
        repeated_blocks=sum(own.repeated_blocks for own in batches),
        disturbed_blocks=sum(own.disturbed_blocks for own in batches),
    )


def _loadgen(alternations: Sequence[Alternation], command: str) -> LoadGenPart:
    return LoadGenPart(
        about=about_units(alternations, command), queries=alternations[0].settings["queries"], results=agreements(alternations)
    )
