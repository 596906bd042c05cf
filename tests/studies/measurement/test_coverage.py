"""Simulated sweeps: the t-interval is exact under normal noise, whatever the spread."""

from __future__ import annotations

import numpy as np
import pytest

from studies.measurement.coverage import CoverageSettings, simulate
from studies.measurement.noise import MODELS, Noise


def test_normal_noise_is_covered_as_promised() -> None:
    """95 % of the intervals hold the truth, and surely no more than 5 % of the sweeps hold a false verdict."""
    noise = Noise("normal", 0.03 * np.random.default_rng(0).standard_normal((500, 8)), 0.0)
    lines: list[str] = []
    results = simulate([noise], CoverageSettings(sweeps=500, cells=16), lines.append)
    assert [own.model for own in results] == list(MODELS)
    assert len(lines) == len(MODELS)
    for own in results:
        assert own.coverage == pytest.approx(0.95, abs=0.012)
        assert own.coverage_ci95[0] < own.coverage < own.coverage_ci95[1]
        assert own.false_alarms.trials == 500
        assert own.false_alarms.ci95[0] < 0.05


def test_strong_correlation_shows() -> None:
    """Rounds that repeat each other are fewer than they seem: the simulation notices what the interval does not."""
    noise = Noise("sticky", 0.03 * np.random.default_rng(0).standard_normal((500, 8)), 0.8)
    found = {own.model: own for own in simulate([noise], CoverageSettings(sweeps=300, cells=8), lambda _: None)}
    assert found["correlated t"].coverage < 0.75
    assert found["resampled"].coverage > 0.93


def test_the_same_seed_gives_the_same_numbers() -> None:
    """A simulation can be repeated to the last digit."""
    noise = Noise("normal", np.random.default_rng(0).standard_normal((50, 8)), 0.1)
    settings = CoverageSettings(sweeps=50, cells=4)
    assert simulate([noise], settings, lambda _: None) == simulate([noise], settings, lambda _: None)
