"""The noise that was recorded on a machine, and ways to draw more of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit
from scipy.stats import t as student

from flows.records.schema import LatencyFile

FEWEST_ROUNDS = 5
"""Of a recording: fewer say too little about tails and correlation."""
FEWEST_FILES = 8

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int, int]], Values]
"""Generator, (sweeps, files, rounds) -> deviations of log medians of that shape."""


@dataclass(frozen=True)
class Noise:
    """Deviations of log medians from what the file and the round have in common, as recorded on one profile."""

    name: str
    deviations: Values  # (files, rounds), of the size they have before means are removed
    correlation: float
    """From one round to the next, of the same file."""

    @property
    def spread(self) -> float:
        """Standard deviation of one median, relative to the time."""
        return float(np.sqrt(np.mean(self.deviations**2)))


def recorded(name: str, recordings: Sequence[Values]) -> Noise:
    """The noise in recordings of log medians, each (files, rounds) and observed in rounds of its own.

    What a file and a round have in common is removed: file means are the latencies, and round means cancel in every ratio to
    the control. Removing them shrinks what is left, which is undone here; it also correlates adjacent rounds by
    -1 / (rounds - 1), which is taken off the correlation.
    """
    kept = [_deviations(logs) for logs in recordings]
    products = sum(float((own[:, 1:] * own[:, :-1]).mean()) for own in kept) / len(kept)
    squares = sum(float((own**2).mean()) for own in kept) / len(kept)
    bias = sum(-1.0 / (own.shape[1] - 1) for own in kept) / len(kept)
    correlation = products / squares - bias if squares > 0.0 else 0.0
    rounds = min(own.shape[1] for own in kept)
    return Noise(name, np.concatenate([own[:, :rounds] for own in kept]), float(np.clip(correlation, -0.9, 0.9)))


def of_latency(name: str, latency: LatencyFile) -> Iterator[Noise]:
    """One noise per measured profile of a sweep with enough rounds and files."""
    for profile in latency.profiles():
        rows = {
            row.artifact_digest: row.rounds_s
            for row in latency.rows
            if row.profile == profile and row.source == "measured" and row.rounds_s
        }
        if len(rows) >= FEWEST_FILES and min(map(len, rows.values())) >= FEWEST_ROUNDS:
            yield recorded(f"{name}, {profile}", [np.log(np.array(list(rows.values())))])


def resampled(noise: Noise) -> Draw:
    """Every value from all that was recorded: keeps heavy tails and skew, forgets which file it was."""
    pool = noise.deviations.ravel()
    return lambda generator, shape: generator.choice(pool, size=shape)


def spread_by_file(noise: Noise) -> Draw:
    """Every simulated file has the spread of one recorded file: keeps that some files are noisier than others.

    The shape is that of all files, each scaled by its own spread, which cuts the longest tails: an outlier is part of it.
    """
    spreads = np.sqrt(np.mean(noise.deviations**2, axis=1, keepdims=True))  # (files, 1)
    known = spreads[:, 0] > 0.0
    shape_pool = (noise.deviations[known] / spreads[known]).ravel()

    def draw(generator: np.random.Generator, shape: tuple[int, int, int]) -> Values:
        drawn: Values = generator.choice(spreads[:, 0], size=shape[:2])[..., None] * generator.choice(shape_pool, size=shape)
        return drawn

    return draw


def correlated_t(noise: Noise) -> Draw:
    """Student's t fitted to the recorded values, each round correlated with the one before as recorded."""
    freedom, _, scale = student.fit(noise.deviations.ravel(), floc=0.0)
    own, fresh = noise.correlation, np.sqrt(1.0 - noise.correlation**2)

    def draw(generator: np.random.Generator, shape: tuple[int, int, int]) -> Values:
        normal = generator.standard_normal(shape)
        for i in range(1, shape[2]):
            normal[..., i] = own * normal[..., i - 1] + fresh * normal[..., i]
        quantiles: Values = stdtrit(freedom, ndtr(normal)) * scale
        return quantiles

    return draw


MODELS: dict[str, Callable[[Noise], Draw]] = {
    "resampled": resampled,
    "spread by file": spread_by_file,
    "correlated t": correlated_t,
}


def _deviations(logs: Values) -> Values:
    files, rounds = logs.shape
    left = logs - logs.mean(axis=1, keepdims=True) - logs.mean(axis=0, keepdims=True) + logs.mean()
    freedom = (files - 1) * (rounds - 1)
    restored: Values = left * np.sqrt(files * rounds / freedom)
    return restored
