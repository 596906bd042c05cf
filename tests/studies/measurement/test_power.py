"""The prediction agrees with the minimal detectable effect that the tool states."""

from __future__ import annotations

import pytest
from statsmodels.stats.power import TTestPower

from flows.stats.latency import detectable, log_ratio_interval
from studies.measurement.power import mean_power, pooled, power, spread_of

CELL_S, CONTROL_S = (1.0, 1.1, 1.0, 0.9, 1.05, 1.0, 0.95, 1.0), (1.0, 1.0, 1.1, 1.0, 0.9, 1.0, 1.0, 1.0)


def test_a_stated_effect_is_detected_in_eighty_of_a_hundred() -> None:
    """At the slowdown that the tool states for these rounds, the predicted detection rate is 80 %."""
    effect = detectable(log_ratio_interval(CELL_S, CONTROL_S), 0.05)
    assert effect is not None
    assert power(effect - 1, spread_of(CELL_S, CONTROL_S), 8) == pytest.approx(0.8, abs=1e-3)


def test_nothing_planted_is_called_slower_in_one_of_forty() -> None:
    """A two-sided test at 5 % spends half of its errors on "slower"."""
    assert power(0.0, 0.03, 8) == pytest.approx(0.025)


def test_power_is_that_of_statsmodels() -> None:
    """For an effect far from zero the second tail does not count, and both agree."""
    import math

    expected = TTestPower().power(math.log(1.05) / 0.03, nobs=8, alpha=0.05)
    assert power(0.05, 0.03, 8) == pytest.approx(expected, abs=1e-6)


def test_pooling_is_of_variances() -> None:
    """Spreads 3 and 4 pool to the root of 12.5; powers of several trials are averaged."""
    assert pooled([3.0, 4.0]) == pytest.approx(12.5**0.5)
    assert mean_power(0.05, [0.01, 0.1], 8) == pytest.approx((power(0.05, 0.01, 8) + power(0.05, 0.1, 8)) / 2)
