"""Intervals of rates and means, and the test for equivalence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from scipy.stats import t as student

from detection.frozen import Frozen


class Rate(Frozen):
    """How often something happened in independent trials."""

    count: int
    trials: int
    share: float
    ci95: tuple[float, float]
    """Clopper-Pearson, exact: two-sided, 95 %."""
    upper95: float
    """One-sided upper bound, 95 %, exact."""


class Equivalence(Frozen):
    """A mean difference and whether it is surely small. Relative differences: 0.01 is 1 %."""

    pairs: int
    mean: float
    ci90: tuple[float, float]
    """Inside the margin means equivalent at 5 % (two one-sided tests)."""
    margin: float
    equivalent: bool


def rate(count: int, trials: int) -> Rate:
    """The share of trials with its exact intervals; without trials nothing is known, and the intervals say so."""
    if trials == 0:
        return Rate(count=0, trials=0, share=0.0, ci95=(0.0, 1.0), upper95=1.0)
    both = binomtest(count, trials).proportion_ci(0.95, method="exact")
    upper = binomtest(count, trials, alternative="less").proportion_ci(0.95, method="exact").high
    return Rate(count=count, trials=trials, share=count / trials, ci95=(float(both.low), float(both.high)), upper95=float(upper))


def mean_interval(values: NDArray[np.float64] | Sequence[float], confidence: float) -> tuple[float, tuple[float, float]]:
    """The mean and its t-interval; of one value the interval is unbounded in truth, and here it is that value."""
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, (mean, mean)
    reach = float(student.ppf(0.5 + confidence / 2.0, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample)))
    return mean, (mean - reach, mean + reach)


def equivalence(ours_s: Sequence[float], theirs_s: Sequence[float], margin: float) -> Equivalence:
    """The mean relative difference of paired times, ours over theirs minus 1, from the log ratios; TOST against the margin."""
    logs = np.log(np.asarray(ours_s)) - np.log(np.asarray(theirs_s))
    mean, (low, high) = mean_interval(logs, 0.90)
    interval = (math.expm1(low), math.expm1(high))
    enough = len(logs) > 1
    return Equivalence(
        pairs=len(logs),
        mean=math.expm1(mean),
        ci90=interval,
        margin=margin,
        equivalent=enough and -margin < interval[0] and interval[1] < margin,
    )
