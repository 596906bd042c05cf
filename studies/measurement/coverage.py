"""Coverage by simulation: how often the 95 % interval of a speedup holds the truth, under the noise recorded on a machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.frozen import Frozen, PositiveInt
from flows.stats.latency import called_arrays, interval_arrays
from studies.measurement.intervals import Rate, mean_interval, rate
from studies.measurement.noise import MODELS, Draw, Noise
from studies.measurement.observations import Say

SWEEPS_AT_ONCE = 250
"""Simulated together; 250 x 65 x 8 values are 1 MB."""


class CoverageSettings(Frozen):
    """What is simulated."""

    sweeps: PositiveInt = 10_000
    cells: PositiveInt = 64
    """Compared with one control, as in a sweep of six methods."""
    rounds: PositiveInt = 8
    confidence: float = 0.95
    seed: int = 0


class Coverage(Frozen):
    """What the simulated sweeps of one noise and one model of it showed."""

    noise: str
    model: str
    recorded_files: int
    recorded_rounds: int
    spread: float
    """Of one recorded median, relative to the time."""
    correlation: float
    sweeps: int
    coverage: float
    """Share of intervals that hold the true ratio."""
    coverage_ci95: tuple[float, float]
    """Over sweeps: the cells of one sweep share its control."""
    false_alarms: Rate
    """Sweeps with at least one "faster" or "slower" after Holm, where no cell differs from the control."""


def simulate(noises: Sequence[Noise], settings: CoverageSettings, say: Say = print) -> tuple[Coverage, ...]:
    """One result per noise and model of it.

    Every simulated cell is as fast as the control. That covers all speedups: a speedup shifts all log ratios of its cell by the
    same amount, and the interval moves with them.
    """
    found = []
    for noise in noises:
        for name, model in MODELS.items():
            found.append(_one(noise, name, model(noise), settings))
            say(f"coverage: {noise.name}, {name}: {found[-1].coverage:.1%} of {settings.sweeps} sweeps x {settings.cells} cells")
    return tuple(found)


def _one(noise: Noise, name: str, draw: Draw, settings: CoverageSettings) -> Coverage:
    generator = np.random.default_rng(settings.seed)
    covered: list[NDArray[np.float64]] = []
    alarms = 0
    for first in range(0, settings.sweeps, SWEEPS_AT_ONCE):
        sweeps = min(SWEEPS_AT_ONCE, settings.sweeps - first)
        medians = draw(generator, (sweeps, settings.cells + 1, settings.rounds))  # log seconds; the first file is the control
        logs = medians[:, :1] - medians[:, 1:]  # (sweeps, cells, rounds)
        _, low, high, _ = interval_arrays(logs, settings.confidence)
        covered.append(((low <= 0.0) & (high >= 0.0)).mean(axis=1))
        alarms += int((called_arrays(logs) != 0).any(axis=1).sum())
    mean, interval = mean_interval(np.concatenate(covered), 0.95)
    return Coverage(
        noise=noise.name,
        model=name,
        recorded_files=noise.deviations.shape[0],
        recorded_rounds=noise.deviations.shape[1],
        spread=noise.spread,
        correlation=noise.correlation,
        sweeps=settings.sweeps,
        coverage=mean,
        coverage_ci95=interval,
        false_alarms=rate(alarms, settings.sweeps),
    )
