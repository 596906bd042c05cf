"""From observations to the numbers of the page; parts that were not observed here keep what an earlier summary says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from flows.records.schema import LatencyFile, read_records
from flows.stats.latency import ALPHA, MIN_ROUNDS, Comparison, Paired, detectable, log_ratio_interval, verdicts
from flows.sweep import workspace
from studies.finished_run import FinishedRun
from studies.measurement.coverage import CoverageSettings, simulate
from studies.measurement.identical import CONTROL, Session
from studies.measurement.intervals import Rate, equivalence, mean_interval, rate
from studies.measurement.loadgen import Alternation
from studies.measurement.noise import FEWEST_FILES, Noise, of_latency, recorded
from studies.measurement.observations import Say, Unit, read_units
from studies.measurement.planted import Batch
from studies.measurement.power import mean_power, pooled, spread_of
from studies.measurement.records import (
    SWEEP_FILES,
    About,
    Agreement,
    CoveragePart,
    Detection,
    FalseAlarms,
    IdenticalPart,
    LoadGenPart,
    PlantedPart,
    SameGraphPart,
    Summary,
)
from studies.measurement.same_graph import FilePair, same_graph_rows

MARGIN = 0.03
"""Of the mean difference to LoadGen."""
Trial = dict[str, tuple[float, ...]]
"""Share of the slowdown ("0" is the control) -> median of each round, in seconds."""


def summarize(
    run: FinishedRun, work: Path, latencies: Sequence[Path], sweeps: int, command: str, before: Summary, say: Say = print
) -> Summary:
    """The summary of what lies in the work folder, of the run's own latencies and of the noise in all of them.

    `latencies` are further recordings of noise. A part without observations is taken from the summary `before`.
    """
    sessions = read_units(work / "identical", Session)
    batches = read_units(work / "planted", Batch)
    alternations = read_units(work / "loadgen", Alternation)
    return Summary(
        coverage=_coverage(run, sessions, latencies, CoverageSettings(sweeps=sweeps), command, say),
        identical=_identical(sessions, command) if sessions else before.identical,
        same_graph=_same_graph(run, command) or before.same_graph,
        planted=_planted(batches, command) if batches else before.planted,
        loadgen=_loadgen(alternations, command) if alternations else before.loadgen,
    )


def _coverage(
    run: FinishedRun, sessions: Sequence[Session], latencies: Sequence[Path], settings: CoverageSettings, command: str, say: Say
) -> CoveragePart | None:
    own = run.folder / workspace.LATENCY
    files = {run.cells.sweep: own} if own.is_file() else {}
    for path in latencies:
        files.setdefault(path.parent.name, path)
    recordings = {name: read_records(path, LatencyFile) for name, path in files.items()}
    noises = [*session_noise(sessions), *(noise for name, latency in recordings.items() for noise in of_latency(name, latency))]
    if not noises:
        return None
    environments = [*(own.environment for own in sessions), *(own.environment for own in recordings.values())]
    about = _about(environments, [own.observed_at for own in sessions], command, settings.model_dump())
    return CoveragePart(about=about, results=simulate(noises, settings, say))


def _identical(sessions: Sequence[Session], command: str) -> IdenticalPart:
    return IdenticalPart(
        about=_about_units(sessions, command),
        results=false_alarms(sessions),
        blocks=sum(sum(map(len, own.medians_s.values())) for own in sessions),
        repeated_blocks=sum(own.repeated_blocks for own in sessions),
        contended_blocks=sum(own.contended_blocks for own in sessions),
    )


def _same_graph(run: FinishedRun, command: str) -> SameGraphPart | None:
    if not (run.folder / workspace.LATENCY).is_file():
        return None
    latency = read_records(run.folder / workspace.LATENCY, LatencyFile)
    about = _about([latency.environment], (), command, {"sweep": run.cells.sweep})
    return SameGraphPart(about=about, results=same_graph_alarms(same_graph_rows(run, latency)))


def _planted(batches: Sequence[Batch], command: str) -> PlantedPart:
    trials = _trials(batches)
    return PlantedPart(
        about=_about_units(batches, command),
        runtime=batches[0].settings["runtime"],
        rounds=len(trials[0]["0"]),
        median_s=statistics.median(statistics.median(trial["0"]) for trial in trials),
        results=detections(batches),
        trial_spreads=trial_spreads(batches),
        minimum_detectable_effect=stated_effect(batches),
        minimal_effect_in_sweep=stated_effect(batches, SWEEP_FILES),
        own_effect_reached=own_effect_reached(batches),
        blocks=sum(len(rounds) for trial in trials for rounds in trial.values()),
        repeated_blocks=sum(own.repeated_blocks for own in batches),
        contended_blocks=sum(own.contended_blocks for own in batches),
    )


def _loadgen(alternations: Sequence[Alternation], command: str) -> LoadGenPart:
    about = _about_units(alternations, command)
    return LoadGenPart(about=about, queries=alternations[0].settings["queries"], results=agreements(alternations))


def _about_units(units: Sequence[Unit], command: str) -> About:
    return _about([own.environment for own in units], [own.observed_at for own in units], command, units[0].settings)


def _about(environments: Sequence[dict[str, Any]], times: Sequence[str], command: str, settings: dict[str, Any]) -> About:
    """Where numbers come from that were observed in these environments at these times."""
    return About(
        command=command,
        machines=tuple(sorted({f"{own['cpu']}, {own['cores']} cores, {own['kernel']}" for own in environments})),
        versions=tuple(sorted({f"{name} {own}" for each in environments for name, own in each["versions"].items() if own})),
        days=(min(times)[:10], max(times)[:10]) if times else None,
        settings=settings,
    )


def false_alarms(sessions: Sequence[Session]) -> tuple[FalseAlarms, ...]:
    """One result per runtime, and one of all where there are several."""
    by_runtime = {name: tuple(own) for name, own in groupby(sorted(sessions, key=_runtime), key=_runtime)}
    results = [_alarms(name, [_pairs(own) for own in group]) for name, group in by_runtime.items()]
    if len(by_runtime) > 1:
        results.append(_alarms("all", [_pairs(own) for group in by_runtime.values() for own in group]))
    return tuple(results)


def same_graph_alarms(pairs: Iterable[FilePair]) -> tuple[FalseAlarms, ...]:
    """One result per profile, from cells that differ in the values of their weights alone; () where rounds are too few."""
    by_profile: dict[str, list[Paired]] = {}
    for first, second in pairs:
        if len(first.rounds_s) >= MIN_ROUNDS:
            by_profile.setdefault(first.profile, []).append(Paired(second.cell, second.rounds_s, first.cell, first.rounds_s))
    return tuple(_alarms(profile, [own]).model_copy(update={"sessions": 0}) for profile, own in by_profile.items())


def session_noise(sessions: Sequence[Session]) -> tuple[Noise, ...]:
    """The noise of the A/A sessions, per runtime: the same file throughout, so nothing but noise."""
    found = []
    for runtime in sorted({session.runtime for session in sessions}):
        logs = [np.log(np.array(list(own.medians_s.values()))) for own in sessions if own.runtime == runtime]
        if sum(map(len, logs)) >= FEWEST_FILES:
            found.append(recorded(f"A/A sessions, {runtime}", logs))
    return tuple(found)


def detections(batches: Sequence[Batch]) -> tuple[Detection, ...]:
    """One result per planted slowdown."""
    spreads, rounds = trial_spreads(batches), len(batches[0].trials[0]["0"])
    results = []
    for key in _slowdowns(batches):
        found = [_alone(key, trial) for trial in _trials(batches)]
        slowdown, interval = mean_interval([-math.log(own.ratio) for own in found], 0.95)
        results.append(
            Detection(
                slower_by=float(key),
                found=rate(sum(own.verdict == "slower" for own in found), len(found)),
                called_faster=sum(own.verdict == "faster" for own in found),
                measured=math.expm1(slowdown),
                measured_ci95=(math.expm1(interval[0]), math.expm1(interval[1])),
                predicted=mean_power(float(key), spreads, rounds),
            )
        )
    return tuple(results)


def trial_spreads(batches: Sequence[Batch]) -> tuple[float, ...]:
    """Of the ratio to the control from round to round, for each trial, pooled over its planted slowdowns."""
    keys = _slowdowns(batches)
    return tuple(pooled([spread_of(trial[key], trial["0"]) for key in keys]) for trial in _trials(batches))


def stated_effect(batches: Sequence[Batch], family: int = 1) -> float:
    """The minimum detectable slowdown, a share, that a pair states in a family of comparisons; median of the pairs."""
    alone = [log_ratio_interval(trial[key], trial["0"]) for trial in _trials(batches) for key in _slowdowns(batches)]
    stated = [detectable(own, ALPHA / family) for own in alone]
    return statistics.median(effect - 1.0 for effect in stated if effect is not None)


def own_effect_reached(batches: Sequence[Batch]) -> Rate:
    """Of the planted slowdowns at least as large as the minimum detectable effect of their own pair, how many were found."""
    stated = [(float(key), _alone(key, trial)) for trial in _trials(batches) for key in _slowdowns(batches)]
    reached = [
        own.verdict == "slower"
        for share, own in stated
        if own.minimum_detectable_effect is not None and 1.0 + share >= own.minimum_detectable_effect
    ]
    return rate(sum(reached), len(reached))


def agreements(alternations: Sequence[Alternation], margin: float = MARGIN) -> tuple[Agreement, ...]:
    """One result per file, in the order the settings name them."""
    results = []
    for cell in dict.fromkeys(alternations[0].settings["cells"]):
        own = [unit for unit in alternations if unit.cell == cell]
        results.append(
            Agreement(
                cell=cell,
                runtime=own[0].settings["runtime"],
                ours_p50_s=statistics.median(unit.ours.p50_s for unit in own),
                loadgen_p50_s=statistics.median(unit.loadgen.p50_s for unit in own),
                p50=equivalence([unit.ours.p50_s for unit in own], [unit.loadgen.p50_s for unit in own], margin),
                p90=equivalence([unit.ours.p90_s for unit in own], [unit.loadgen.p90_s for unit in own], margin),
            )
        )
    return tuple(results)


def _runtime(session: Session) -> str:
    return session.runtime


def _pairs(session: Session) -> list[Paired]:
    control = session.medians_s[CONTROL]
    return [Paired(name, rounds_s, CONTROL, control) for name, rounds_s in session.medians_s.items() if name != CONTROL]


def _alarms(runtime: str, sessions: Sequence[Sequence[Paired]]) -> FalseAlarms:
    compared = [verdicts(pairs) for pairs in sessions]
    alarms = [sum(own.verdict in ("faster", "slower") for own in session) for session in compared]
    every = [pair for pairs in sessions for pair in pairs]
    return FalseAlarms(
        runtime=runtime,
        sessions=len(sessions),
        rounds=len(every[0].rounds_s),
        median_s=statistics.median(statistics.median(pair.rounds_s) for pair in every),
        uncorrected=rate(sum(own.p is not None and own.p < ALPHA for session in compared for own in session), len(every)),
        corrected=rate(sum(alarms), len(every)),
        sessions_with_alarm=rate(sum(count > 0 for count in alarms), len(sessions)),
        spread=pooled([spread_of(pair.rounds_s, pair.reference_rounds_s) for pair in every]),
    )


def _alone(key: str, trial: Trial) -> Comparison:
    """One planted slowdown compared with the control of its trial, and with nothing else."""
    (found,) = verdicts([Paired(key, trial[key], "0", trial["0"])])
    return found


def _slowdowns(batches: Sequence[Batch]) -> tuple[str, ...]:
    """As the observations name them, smallest first."""
    return tuple(sorted((key for key in batches[0].trials[0] if key != "0"), key=float))


def _trials(batches: Sequence[Batch]) -> list[Trial]:
    return [trial for batch in batches for trial in batch.trials]
