"""Intervals against hand-worked values and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from studies.measurement.intervals import equivalence, mean_interval, rate


def test_nothing_in_twenty_is_not_nothing() -> None:
    """With no event in n trials the exact one-sided bound is 1 - 0.05^(1/n)."""
    found = rate(0, 20)
    assert found.share == 0.0
    assert found.upper95 == pytest.approx(1 - 0.05 ** (1 / 20))
    assert found.ci95[0] == 0.0


@pytest.mark.parametrize(("count", "trials"), [(8, 160), (80, 100), (100, 100)])
def test_rates_are_clopper_pearson(count: int, trials: int) -> None:
    """The two-sided interval is the exact one."""
    assert rate(count, trials).ci95 == pytest.approx(proportion_confint(count, trials, 0.05, method="beta"), abs=1e-9)


def test_without_trials_nothing_is_known() -> None:
    """No trials: the interval is everything."""
    assert rate(0, 0).ci95 == (0.0, 1.0)


def test_mean_of_three() -> None:
    """Mean 2, standard error 1 / sqrt(3), t quantile 4.3027 for two degrees of freedom."""
    mean, (low, high) = mean_interval([1.0, 2.0, 3.0], 0.95)
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.04])
def test_equivalence_is_two_one_sided_tests(shift: float) -> None:
    """The 90 % interval lies inside the margin exactly where both one-sided tests reject at 5 %."""
    generator = np.random.default_rng(1)
    theirs_s = np.exp(0.02 * generator.standard_normal(20)) * 1e-3
    ours_s = theirs_s * np.exp(shift + 0.02 * generator.standard_normal(20))
    found = equivalence(ours_s.tolist(), theirs_s.tolist(), 0.03)
    p, _, _ = ttost_paired(np.log(ours_s), np.log(theirs_s), np.log1p(-0.03), np.log1p(0.03))
    assert found.equivalent == (p < 0.05)
    assert found.pairs == 20
    assert found.ci90[0] < found.mean < found.ci90[1]


def test_one_pair_proves_no_equivalence() -> None:
    """A single pair has no spread, and is not taken for one without any."""
    assert not equivalence([1.0], [1.0], 0.03).equivalent
