"""From observations to the numbers of the page; a part that was not observed here keeps what an earlier summary says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from flows.stats.latency import ALPHA, Comparison, Paired, detectable, log_ratio_interval, verdicts
from studies.measurement.experiments import CONTROL, Batch, Session
from studies.measurement.intervals import Rate, mean_interval, mean_power, pooled, rate, spread_of
from studies.measurement.observations import Unit, read_units
from studies.measurement.records import SWEEP_FILES, About, Detection, FalseAlarms, IdenticalPart, PlantedPart, Summary

Trial = dict[str, tuple[float, ...]]
"""Share of the slowdown ("0" is the control) -> median of each round, in seconds."""


def summarize(work: Path, command: str, before: Summary) -> Summary:
    """The summary of what lies in the work folder; a part without observations is taken from the summary `before`."""
    sessions, batches = read_units(work / "identical", Session), read_units(work / "planted", Batch)
    return Summary(
        identical=_identical(sessions, command) if sessions else before.identical,
        planted=_planted(batches, command) if batches else before.planted,
    )


def _identical(sessions: Sequence[Session], command: str) -> IdenticalPart:
    return IdenticalPart(
        about=_about(sessions, command),
        results=false_alarms(sessions),
        blocks=sum(sum(map(len, own.medians_s.values())) for own in sessions),
        repeated_blocks=sum(own.repeated_blocks for own in sessions),
        contended_blocks=sum(own.contended_blocks for own in sessions),
    )


def _planted(batches: Sequence[Batch], command: str) -> PlantedPart:
    trials = _trials(batches)
    return PlantedPart(
        about=_about(batches, command),
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


def _about(units: Sequence[Unit], command: str) -> About:
    environments, times = [own.environment for own in units], [own.observed_at for own in units]
    return About(
        command=command,
        machines=tuple(sorted({f"{own['cpu']}, {own['cores']} cores, {own['kernel']}" for own in environments})),
        versions=tuple(sorted({f"{name} {own}" for each in environments for name, own in each["versions"].items() if own})),
        days=(min(times)[:10], max(times)[:10]),
        settings=units[0].settings,
    )


def false_alarms(sessions: Sequence[Session]) -> tuple[FalseAlarms, ...]:
    """One result per runtime, and one of all where there are several."""
    groups = {name: [own for own in sessions if own.runtime == name] for name in sorted({own.runtime for own in sessions})}
    if len(groups) > 1:
        groups["all"] = list(sessions)
    return tuple(_alarms(name, [_pairs(own) for own in group]) for name, group in groups.items())


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


def detections(batches: Sequence[Batch]) -> tuple[Detection, ...]:
    """One result per planted slowdown."""
    spreads, rounds = trial_spreads(batches), len(batches[0].trials[0]["0"])
    results = []
    for key in _slowdowns(batches):
        found = [_alone(key, trial) for trial in _trials(batches)]
        slowdown, (low, high) = mean_interval([-math.log(own.ratio) for own in found])
        results.append(
            Detection(
                slower_by=float(key),
                found=rate(sum(own.verdict == "slower" for own in found), len(found)),
                called_faster=sum(own.verdict == "faster" for own in found),
                measured=math.expm1(slowdown),
                measured_ci95=(math.expm1(low), math.expm1(high)),
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


def _alone(key: str, trial: Trial) -> Comparison:
    """One planted slowdown compared with the control of its trial, and with nothing else."""
    (found,) = verdicts([Paired(key, trial[key], "0", trial["0"])])
    return found


def _slowdowns(batches: Sequence[Batch]) -> tuple[str, ...]:
    """As the observations name them, smallest first."""
    return tuple(sorted((key for key in batches[0].trials[0] if key != "0"), key=float))


def _trials(batches: Sequence[Batch]) -> list[Trial]:
    return [trial for batch in batches for trial in batch.trials]
