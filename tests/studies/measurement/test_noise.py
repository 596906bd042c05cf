"""Noise that is known is found again in a recording, and drawn again from it."""

from __future__ import annotations

import numpy as np
import pytest

from flows.records.schema import LatencyFile, LatencyRow, Source
from studies.measurement.noise import MODELS, Noise, of_latency, recorded
from tests.studies.measurement.study_factory import latency_row


def autoregressive(generator: np.random.Generator, shape: tuple[int, int], correlation: float) -> np.ndarray:
    values = generator.standard_normal(shape)
    for i in range(1, shape[1]):
        values[:, i] = correlation * values[:, i - 1] + np.sqrt(1 - correlation**2) * values[:, i]
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_spread_and_correlation_are_found_again(correlation: float) -> None:
    """Neither a file's latency nor what a round did to all files counts, and removing both leaves no bias without correlation."""
    generator = np.random.default_rng(0)
    recordings = []
    for _ in range(30):
        noise = 0.03 * autoregressive(generator, (65, 8), correlation)
        recordings.append(noise + generator.standard_normal((65, 1)) + generator.standard_normal((1, 8)))
    found = recorded("made up", recordings)
    assert found.deviations.shape == (30 * 65, 8)
    if correlation == 0.0:
        assert found.spread == pytest.approx(0.03, rel=0.02)
        assert found.correlation == pytest.approx(0.0, abs=0.02)
    else:
        assert found.correlation == pytest.approx(correlation, abs=0.1)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_spread(name: str) -> None:
    """What is drawn scatters as what was recorded, around zero."""
    generator = np.random.default_rng(0)
    noise = Noise("made up", 0.03 * generator.standard_normal((64, 8)), 0.2)
    drawn = MODELS[name](noise)(generator, (200, 33, 8))
    assert drawn.shape == (200, 33, 8)
    assert float(drawn.std()) == pytest.approx(noise.spread, rel=0.05)
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.002)


def test_correlated_t_is_correlated() -> None:
    """Rounds next to each other correlate as recorded; other models draw them independently."""
    noise = Noise("made up", 0.03 * np.random.default_rng(0).standard_normal((64, 8)), 0.4)
    for name, expected in (("correlated t", 0.4), ("resampled", 0.0)):
        drawn = MODELS[name](noise)(np.random.default_rng(1), (400, 10, 8))
        found = np.corrcoef(drawn[..., 1:].ravel(), drawn[..., :-1].ravel())[0, 1]
        assert found == pytest.approx(expected, abs=0.03)


def test_files_keep_their_own_spread() -> None:
    """Where half of the recorded files are quiet, half of the drawn ones are."""
    deviations = np.random.default_rng(0).standard_normal((64, 8))
    deviations[:32] *= 0.001
    drawn = MODELS["spread by file"](Noise("made up", deviations, 0.0))(np.random.default_rng(1), (100, 20, 8))
    assert float((drawn.std(axis=-1) < 0.01).mean()) == pytest.approx(0.5, abs=0.05)


def test_a_sweep_gives_one_noise_per_measured_profile() -> None:
    """Rows that were estimated, and profiles with few rounds, give none."""

    def row(profile: str, cell: int, rounds: int, source: Source) -> LatencyRow:
        scatter = np.random.default_rng(cell).standard_normal(rounds)
        return latency_row(str(cell), (1e-3 * np.exp(0.01 * scatter)).tolist(), profile, source)

    rows = [row("enough", cell, 8, "measured") for cell in range(10)]
    rows += [row("few", cell, 2, "measured") for cell in range(10)]
    rows += [row("modelled", cell, 0, "estimated") for cell in range(10)]
    (found,) = of_latency("bccd", LatencyFile(environment={}, rows=tuple(rows)))
    assert found.name == "bccd, enough"
    assert found.deviations.shape == (10, 8)
