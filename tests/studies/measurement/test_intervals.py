"""Intervals and power against hand-worked values, statsmodels, and the minimum detectable effect that the tool states."""

from __future__ import annotations

import math

import pytest
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from flows.stats.latency import detectable, log_ratio_interval
from studies.measurement.intervals import mean_interval, mean_power, pooled, rate, spread_of

CELL_S, CONTROL_S = (1.0, 1.1, 1.0, 0.9, 1.05, 1.0, 0.95, 1.0), (1.0, 1.0, 1.1, 1.0, 0.9, 1.0, 1.0, 1.0)


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
    mean, (low, high) = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)


def test_a_stated_effect_is_detected_in_eighty_of_a_hundred() -> None:
    """At the slowdown that the tool states for these rounds, the predicted detection rate is 80 %."""
    effect = detectable(log_ratio_interval(CELL_S, CONTROL_S), 0.05)
    assert effect is not None
    assert mean_power(effect - 1, [spread_of(CELL_S, CONTROL_S)], 8) == pytest.approx(0.8, abs=1e-3)


def test_nothing_planted_is_called_slower_in_one_of_forty() -> None:
    """A two-sided test at 5 % spends half of its errors on "slower"."""
    assert mean_power(0.0, [0.03], 8) == pytest.approx(0.025)


def test_power_is_that_of_statsmodels() -> None:
    """For an effect far from zero the second tail does not count, and both agree."""
    expected = TTestPower().power(math.log(1.05) / 0.03, nobs=8, alpha=0.05)
    assert mean_power(0.05, [0.03], 8) == pytest.approx(expected, abs=1e-6)


def test_pooling_is_of_variances() -> None:
    """Spreads 3 and 4 pool to the root of 12.5; powers of several trials are averaged."""
    assert pooled([3.0, 4.0]) == pytest.approx(12.5**0.5)
    assert mean_power(0.05, [0.01, 0.1], 8) == pytest.approx((mean_power(0.05, [0.01], 8) + mean_power(0.05, [0.1], 8)) / 2)
