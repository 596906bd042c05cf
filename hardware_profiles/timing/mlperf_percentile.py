"""The percentile that MLPerf reports: an order statistic that the true percentile exceeds only once in a hundred runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

PERCENTILE, CONFIDENCE = 0.9, 0.99
"""MLPerf Inference, single stream: the 90th percentile at 99 % confidence (loadgen/results.cc, EarlyStopping)."""


def percentile_with_confidence(times: Sequence[float]) -> float | None:
    """The smallest of the times that is at least the true percentile, with that confidence; None where they are too few.

    It lies above the sample's own percentile, the further the fewer the calls: with 64 of them it is the slowest one.
    """
    tail = tail_calls(len(times))
    return sorted(times)[len(times) - tail] if tail else None


def tail_calls(calls: int, percentile: float = PERCENTILE) -> int:
    """The largest t for which the t-th slowest of the calls is a safe estimate of the percentile; 0 where none is.

    A call exceeds the true percentile with probability 1 - percentile. The t-th slowest is below it only where t - 1 calls or
    fewer exceed it; the rule of LoadGen is stricter by one call and asks that even t or fewer of them be rarer than
    1 - CONFIDENCE: binomial CDF(t; calls, 1 - percentile) < 1 - CONFIDENCE (loadgen/early_stopping.cc, `odds`, tolerance 0).
    """
    odds, tail = 0.0, -1
    while tail < calls:
        odds += _binomial(tail + 1, calls, 1.0 - percentile)
        if odds >= 1.0 - CONFIDENCE:
            break
        tail += 1
    return max(tail, 0)


def least_calls(percentile: float = PERCENTILE) -> int:
    """The fewest calls that allow an estimate: 64 for the 90th percentile, 662 for the 99th."""
    return next(calls for calls in itertools.count(1) if tail_calls(calls, percentile))


def _binomial(successes: int, trials: int, chance: float) -> float:
    """Probability of exactly this number of successes; through logarithms, for chance**trials underflows. Without scipy: a process
    that is being timed should hold no more than it must."""
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(ways + successes * math.log(chance) + (trials - successes) * math.log1p(-chance))
