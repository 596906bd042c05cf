"""Latency statistics: ratios of times over rounds, verdicts on many of them together, and how small a difference they find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from detection.frozen import Frozen
from flows.records.schema import SpeedVerdict

MIN_ROUNDS = 8
"""Fewer rounds than this give no interval and no verdict, only their range. A t-interval rests on the normality of its rounds and
on their spread, and few rounds show neither. After Holm over 63 cells the ratio has to lie 5.6 standard errors from 1 with 8
rounds, 9.1 with 5 and 35 with 3."""
ALPHA = 0.05
"""Chance that anything at all in a family of comparisons is called different without being so."""
EQUAL_WITHIN = 1.05
"""Times are called equal where the whole interval of their ratio lies between 1 / 1.05 and 1.05: the same said of A and B as of B
and A. The gate accepts as large a change by default (check.latency_drop_share)."""
POWER = 0.8
"""Chance of finding a difference as large as the minimal detectable one."""


class Ratio(Frozen):
    """A ratio of times, and how sure it is."""

    ratio: float
    """Geometric mean over the rounds; above 1 is faster."""
    interval: tuple[float, float] | None
    """Confidence interval of the ratio; None under MIN_ROUNDS rounds."""
    p: float | None
    """Two-sided, that the ratio is 1; None under MIN_ROUNDS rounds."""
    rounds: int
    log_error: float | None = None
    """Standard error of the logarithm of the ratio; None under MIN_ROUNDS rounds."""
    freedom: float | None = None
    """Degrees of freedom of that error."""


@dataclass(frozen=True)
class Paired:
    """One file timed together with another in the same rounds."""

    digest: str
    """Of the file."""
    rounds_s: Sequence[float]
    reference_digest: str
    reference_rounds_s: Sequence[float]


class Comparison(Frozen):
    """What the rounds say about one file compared with another."""

    verdict: SpeedVerdict
    ratio: float
    """Time of the reference over the file's, geometric mean over the rounds; above 1 is faster."""
    range: tuple[float, float]
    """Smallest and largest ratio of a round."""
    interval: tuple[float, float] | None
    """95 % of this ratio alone, not corrected for being one of many; None where too few rounds were timed."""
    p: float | None
    p_corrected: float | None = None
    """Corrected for being one of a family; None where nothing was tested."""
    minimum_detectable_effect: float | None = None
    """The ratio, either way, that these rounds find with a probability of POWER; None where nothing was tested."""
    rounds: int


def log_ratio_interval(cell_rounds_s: Sequence[float], control_rounds_s: Sequence[float]) -> Ratio:
    """The speedup of a cell, control time over cell time, with a 95 % t-interval over the per-round log ratios.

    Round i of both was timed side by side, so their ratio is free of what slowed the machine in that round. Rounds are the unit
    of repetition (one fresh process each), never the timed calls inside one.
    """
    logs = log_ratios(cell_rounds_s, control_rounds_s)
    return _ratio(float(logs.mean()), _variance_of_mean(logs), len(logs) - 1.0, len(logs), 0.95)


def speedup_change(
    now: Sequence[float],
    now_control: Sequence[float],
    before: Sequence[float],
    before_control: Sequence[float],
    confidence: float = 0.95,
) -> Ratio:
    """The speedup now over the speedup before, with Welch's t-interval over the log ratios of both; above 1 is faster than before.

    All four are rounds in seconds. Each speedup is against the control of its own rounds, so a slower machine does not count.
    """
    logs_now, logs_before = log_ratios(now, now_control), log_ratios(before, before_control)
    change = float(logs_now.mean() - logs_before.mean())
    rounds = min(len(logs_now), len(logs_before))
    if rounds < MIN_ROUNDS:
        return _ratio(change, 0.0, 0.0, rounds, confidence)
    parts = (_variance_of_mean(logs_now), _variance_of_mean(logs_before))
    variance = sum(parts)
    # Welch-Satterthwaite degrees of freedom.
    spread = parts[0] ** 2 / (len(logs_now) - 1) + parts[1] ** 2 / (len(logs_before) - 1)
    freedom = variance**2 / spread if spread > 0.0 else float(len(logs_now) + len(logs_before) - 2)
    return _ratio(change, variance, freedom, rounds, confidence)


def verdicts(pairs: Sequence[Paired]) -> tuple[Comparison, ...]:
    """What can be said of each pair, in their order; together they are the family that p values are corrected for.

    Faster or slower is what remains below ALPHA after the correction; its interval then excludes 1. A pair of equal files is not
    tested, and pairs of the same two files are one test.
    """
    alone = {(own.digest, own.reference_digest): log_ratio_interval(own.rounds_s, own.reference_rounds_s) for own in pairs}
    tested = [key for key, ratio in alone.items() if key[0] != key[1] and ratio.p is not None]
    corrected = dict(zip(tested, holm([p for key in tested if (p := alone[key].p) is not None]), strict=True))
    found = sum(p < ALPHA for p in corrected.values())
    compared = []
    for own in pairs:
        key = (own.digest, own.reference_digest)
        p = corrected.get(key)
        effect = None if p is None else detectable(alone[key], level_of_next(ALPHA, len(tested), found - (p < ALPHA)))
        compared.append(_comparison(own, alone[key], p, effect))
    return tuple(compared)


def detectable(ratio: Ratio, level: float) -> float | None:
    """The smallest ratio above 1 that a two-sided test at this level finds with a probability of POWER, by the spread of rounds.

    Its reciprocal is found as often. None where the ratio has no error.
    """
    if ratio.log_error is None or ratio.freedom is None:
        return None
    return math.exp(noncentrality(ratio.freedom, level, POWER) * ratio.log_error)


def level_of_next(alpha: float, tests: int, others_found: int) -> float:
    """The p value that one test of a family must fall below to be significant, when this many others of it are."""
    return alpha / (tests - others_found)


@lru_cache(maxsize=4096)
def noncentrality(freedom: float, level: float, power: float) -> float:
    """How many standard errors off a true effect must lie for a two-sided t-test at this level to find it with this power."""
    from statsmodels.stats.power import TTestPower

    # Its test of n values has n - 1 degrees of freedom and lies effect * sqrt(n) standard errors off.
    size = freedom + 1.0
    return float(TTestPower().solve_power(nobs=size, alpha=level, power=power)) * math.sqrt(size)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p values corrected for being many (Holm 1979), in the order given.

    As statsmodels' multipletests, which collects garbage at every call: 0.2 s each in a process that has torch loaded.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)
    stepped = given[order] * np.arange(len(given), 0, -1)  # the smallest times all, the next times one less
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return tuple(corrected.tolist())


def log_ratios(cell_rounds_s: Sequence[float], control_rounds_s: Sequence[float]) -> NDArray[np.float64]:
    """log(control / cell) of each round: above 0 the cell is faster."""
    assert len(cell_rounds_s) == len(control_rounds_s) > 0, "every round has the control in it"
    return np.log(np.asarray(control_rounds_s, dtype=np.float64)) - np.log(np.asarray(cell_rounds_s, dtype=np.float64))


def _comparison(own: Paired, alone: Ratio, p: float | None, effect: float | None) -> Comparison:
    if own.digest == own.reference_digest:
        return Comparison(verdict="same file", ratio=1.0, range=(1.0, 1.0), interval=(1.0, 1.0), p=None, rounds=alone.rounds)
    verdict: SpeedVerdict = "too few rounds"
    if p is not None:
        verdict = "not significant" if p >= ALPHA else "faster" if alone.ratio > 1.0 else "slower"
    logs = log_ratios(own.rounds_s, own.reference_rounds_s)
    return Comparison(
        verdict=verdict, ratio=alone.ratio, range=(math.exp(logs.min()), math.exp(logs.max())), interval=alone.interval, p=alone.p,
        p_corrected=p, minimum_detectable_effect=effect, rounds=alone.rounds,
    )  # fmt: skip


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def _ratio(log_ratio: float, variance: float, freedom: float, rounds: int, confidence: float) -> Ratio:
    if rounds < MIN_ROUNDS:
        return Ratio(ratio=math.exp(log_ratio), interval=None, p=None, rounds=rounds)
    error = math.sqrt(variance)
    reach = float(stdtrit(freedom, 0.5 + confidence / 2.0)) * error
    return Ratio(
        ratio=math.exp(log_ratio),
        interval=(math.exp(log_ratio - reach), math.exp(log_ratio + reach)),
        p=2.0 * float(stdtr(freedom, -abs(log_ratio) / error)) if error else float(log_ratio == 0.0),
        rounds=rounds,
        log_error=error,
        freedom=freedom,
    )
