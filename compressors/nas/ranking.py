"""Whether a supernet ranks networks as their own trainings do: Kendall's tau over networks that were all trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from compressors.ranking_check import RankingCheck

LEAST_NETWORKS = 12
"""Fewer say next to nothing: independent rankings of 12 have a tau beyond 0.4 one time in twelve."""
RESAMPLES = 5_000


def check_ranking(predicted: Sequence[float], reached: Sequence[float], seed: int) -> RankingCheck:
    """Kendall's tau between what was predicted of networks and what they reached, its 95 % interval by resampling the networks.

    0 where one of the two is the same for all: nothing was ranked.
    """

    def tau(first: Sequence[float], second: Sequence[float]) -> float:
        found = float(stats.kendalltau(first, second).statistic)
        return found if np.isfinite(found) else 0.0

    drawn = stats.bootstrap(
        (np.array(predicted), np.array(reached)), tau, paired=True, vectorized=False, method="percentile", n_resamples=RESAMPLES,
        rng=np.random.default_rng((seed, 8)),
    ).confidence_interval  # fmt: skip
    return RankingCheck(networks=len(predicted), tau=tau(predicted, reached), low=float(drawn.low), high=float(drawn.high))
