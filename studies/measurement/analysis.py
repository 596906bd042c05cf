"""From observations to the numbers of the page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from flows.stats.latency import ALPHA, MIN_ROUNDS, Comparison, Paired, detectable, log_ratio_interval, verdicts
from studies.measurement.identical import CONTROL, Session
from studies.measurement.intervals import Rate, equivalence, mean_interval, rate
from studies.measurement.loadgen import Alternation
from studies.measurement.noise import FEWEST_FILES, Noise, recorded
from studies.measurement.planted import Batch
from studies.measurement.power import mean_power, pooled, spread_of
from studies.measurement.same_graph import FilePair
from studies.measurement.summary import Agreement, Detection, FalseAlarms

MARGIN = 0.03
"""Of the mean difference to LoadGen."""


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
    for key in planted_shares(batches):
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
    shares = planted_shares(batches)
    return tuple(pooled([spread_of(trial[key], trial["0"]) for key in shares]) for trial in _trials(batches))


def stated_effect(batches: Sequence[Batch], family: int = 1) -> float:
    """The slowdown, a share, that a pair states as its minimal detectable effect among so many compared; median of the pairs."""
    alone = [log_ratio_interval(trial[key], trial["0"]) for trial in _trials(batches) for key in planted_shares(batches)]
    stated = [detectable(own, ALPHA / family) for own in alone]
    return statistics.median(effect - 1.0 for effect in stated if effect is not None)


def own_effect_reached(batches: Sequence[Batch]) -> Rate:
    """Of the planted slowdowns at least as large as the minimal effect stated for their own pair, how many were noticed."""
    stated = [(float(key), _alone(key, trial)) for trial in _trials(batches) for key in planted_shares(batches)]
    reached = [
        own.verdict == "slower" for share, own in stated if own.minimal_effect is not None and 1.0 + share >= own.minimal_effect
    ]
    return rate(sum(reached), len(reached))


def planted_shares(batches: Sequence[Batch]) -> tuple[str, ...]:
    """The planted slowdowns as the observations name them, smallest first."""
    return tuple(sorted((key for key in batches[0].trials[0] if key != "0"), key=float))


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


def _alone(key: str, trial: dict[str, tuple[float, ...]]) -> Comparison:
    """One planted slowdown beside the control of its trial, compared with nothing else."""
    (found,) = verdicts([Paired(key, trial[key], "0", trial["0"])])
    return found


def _trials(batches: Sequence[Batch]) -> list[dict[str, tuple[float, ...]]]:
    return [trial for batch in batches for trial in batch.trials]
