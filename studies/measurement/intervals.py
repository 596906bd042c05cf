"""Intervals of rates and means, and how likely a test over rounds is to detect a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, nct
from scipy.stats import t as student

from detection.frozen import Frozen
from flows.stats.latency import ALPHA, log_ratios


class Rate(Frozen):
    """How often something happened in independent trials."""

    count: int
    trials: int
    share: float
    ci95: tuple[float, float]
    """Clopper-Pearson, exact: two-sided, 95 %."""
    upper95: float
    """One-sided upper bound, 95 %, exact."""


def rate(count: int, trials: int) -> Rate:
    """The share of trials with its exact intervals; without trials nothing is known, and the intervals say so."""
    if trials == 0:
        return Rate(count=0, trials=0, share=0.0, ci95=(0.0, 1.0), upper95=1.0)
    both = binomtest(count, trials).proportion_ci(0.95, method="exact")
    upper = binomtest(count, trials, alternative="less").proportion_ci(0.95, method="exact").high
    return Rate(count=count, trials=trials, share=count / trials, ci95=(float(both.low), float(both.high)), upper95=float(upper))


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The mean and its 95 % t-interval; of one value the interval is unbounded in truth, and here it is that value."""
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, (mean, mean)
    reach = float(student.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample)))
    return mean, (mean - reach, mean + reach)


def spread_of(cell_rounds_s: Sequence[float], control_rounds_s: Sequence[float]) -> float:
    """Standard deviation of the log ratio from round to round."""
    return float(log_ratios(cell_rounds_s, control_rounds_s).std(ddof=1))


def pooled(spreads: Sequence[float]) -> float:
    """One standard deviation for several samples of equal size: the root of the mean variance."""
    return math.sqrt(sum(spread**2 for spread in spreads) / len(spreads))


def mean_power(slower_by: float, spreads: Sequence[float], rounds: int) -> float:
    """Probability that a two-sided t test at ALPHA over these rounds calls a file slower that is slower by this share.

    The test statistic then has the noncentral t distribution; the mean over trials whose ratios scatter by these spreads.
    """
    freedom = rounds - 1
    shifts = math.log1p(slower_by) / (np.asarray(spreads) / math.sqrt(rounds))
    return float(np.mean(nct.sf(student.ppf(1.0 - ALPHA / 2.0, freedom), freedom, shifts)))
