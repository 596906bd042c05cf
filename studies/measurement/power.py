"""How likely a test over rounds is to detect a difference: the noncentral t distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import nct
from scipy.stats import t as student

from flows.stats.latency import ALPHA, log_ratios


def spread_of(cell_rounds_s: Sequence[float], control_rounds_s: Sequence[float]) -> float:
    """Standard deviation of the log ratio from round to round."""
    return float(log_ratios(cell_rounds_s, control_rounds_s).std(ddof=1))


def pooled(spreads: Sequence[float]) -> float:
    """One standard deviation for several samples of equal size: the root of the mean variance."""
    return math.sqrt(sum(spread**2 for spread in spreads) / len(spreads))


def power(slower_by: float, spread: float, rounds: int, level: float = ALPHA) -> float:
    """Probability that a two-sided t test over this many rounds calls a file slower that is slower by this share."""
    freedom = rounds - 1
    shift = math.log1p(slower_by) / (spread / math.sqrt(rounds))
    return float(nct.sf(student.ppf(1.0 - level / 2.0, freedom), freedom, shift))


def mean_power(slower_by: float, spreads: Sequence[float], rounds: int) -> float:
    """The share of trials with these spreads that such a test calls slower."""
    return sum(power(slower_by, spread, rounds) for spread in spreads) / len(spreads)
