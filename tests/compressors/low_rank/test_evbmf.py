"""The rank of a noisy matrix by empirical variational Bayes, against theory, simulation and a numerical minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from compressors.low_rank.evbmf import detection_limit, estimated_noise_variance, evbmf_rank, free_energy


def test_the_published_limit_of_square_matrices() -> None:
    """Nakajima et al. give tau = 2.5129 for alpha = 1: (1 + 2.5129) (1 + 1 / 2.5129) = 4.9108."""
    assert detection_limit(1.0) == pytest.approx(3.5129 * (1 + 1 / 2.5129), rel=1e-4) == pytest.approx(4.9108, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 0.9])
def test_the_published_approximation_is_close(alpha: float) -> None:
    """Their tau = 2.5129 sqrt(alpha) is within 2 % of the exact limit, which lies above noise's edge (1 + sqrt(alpha))^2."""
    tau = 2.5129 * math.sqrt(alpha)
    assert detection_limit(alpha) == pytest.approx((1 + tau) * (1 + alpha / tau), rel=0.02)
    assert detection_limit(alpha) > (1 + math.sqrt(alpha)) ** 2  # Marchenko and Pastur, 1967


def least_energy(singular_value: float, rows: int, columns: int) -> float:
    """Twice the free energy that the best rank-one signal adds to that of none, noise variance 1, by numerical minimisation.

    Factors have means a, b and variances u, v per entry; priors' variances are at their optimum. By definition of the energy:
    columns log(a^2 / (columns u) + 1) + rows log(b^2 / (rows v) + 1) - 2 a b s + (a^2 + columns u) (b^2 + rows v).
    """

    def energy(log_terms: np.ndarray) -> float:
        a2, b2, u, v = np.exp(log_terms)
        entropy = columns * math.log1p(a2 / (columns * u)) + rows * math.log1p(b2 / (rows * v))
        return float(entropy - 2 * math.sqrt(a2 * b2) * singular_value + (a2 + columns * u) * (b2 + rows * v))

    options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20000, "maxfev": 20000}
    starts = [np.log([s * singular_value, singular_value, 1 / columns, 1 / rows]) for s in (0.3, 1.0)]
    return min(float(minimize(energy, start, method="Nelder-Mead", options=options).fun) for start in starts)


@pytest.mark.parametrize(("rows", "columns"), [(20, 20), (10, 40)])
def test_a_signal_counts_where_it_lowers_the_free_energy(rows: int, columns: int) -> None:
    """Numerically: 2 % above the limit the best rank-one posterior has less energy than none, 2 % below it has more."""
    limit = math.sqrt(columns * detection_limit(rows / columns))
    assert least_energy(1.02 * limit, rows, columns) < 0 < least_energy(0.98 * limit, rows, columns)


def test_the_closed_form_is_that_minimum() -> None:
    """What free_energy says that one signal among ten components gains is the numerical minimum, over the longer side."""
    rows, columns = 10, 40
    squares = columns * np.array([6.0] + [0.5] * (rows - 1))
    gain = free_energy(1.0, squares, columns, limit=1.0) - free_energy(1.0, squares, columns, limit=math.inf)
    assert gain == pytest.approx(least_energy(math.sqrt(squares[0]), rows, columns) / columns, rel=1e-6)


def noisy(rows: int, columns: int, rank: int, strength: float, sigma: float = 1.0) -> np.ndarray:
    """A matrix of this rank whose singular values are `strength` times noise's largest, and noise on top."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(rows, rows)))[0][:, :rank]
    right = np.linalg.qr(rng.normal(size=(columns, columns)))[0][:, :rank]
    edge = sigma * (math.sqrt(rows) + math.sqrt(columns))
    matrix: np.ndarray = strength * edge * left @ right.T + sigma * rng.normal(size=(rows, columns))
    return matrix


@pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(40, 100, 5), (100, 40, 5), (64, 64, 8), (32, 288, 12), (30, 300, 0), (64, 64, 0)]
)
@pytest.mark.parametrize("sigma", [1.0, 0.01])
def test_planted_ranks_are_found(rows: int, columns: int, rank: int, sigma: float) -> None:
    """Signals twice as strong as noise's largest are all found, and nothing else is: in noise alone, rank 0."""
    values = np.linalg.svd(noisy(rows, columns, rank, 2.0, sigma), compute_uv=False)
    assert evbmf_rank(values, rows, columns) == rank
    assert estimated_noise_variance(values**2, max(rows, columns)) == pytest.approx(sigma**2, rel=0.05)


def test_the_noise_variance_has_the_least_energy() -> None:
    """No variance on a fine grid over four decades has less free energy than the one that was found."""
    squares = np.linalg.svd(noisy(32, 64, 6, 1.5), compute_uv=False) ** 2
    limit, found = detection_limit(0.5), estimated_noise_variance(squares, 64)
    highest = squares.sum() / (32 * 64)
    energies = [free_energy(variance, squares, 64, limit) for variance in np.geomspace(0.2 * highest, highest, 2000)]
    assert free_energy(found, squares, 64, limit) <= min(energies) + 1e-9


def test_without_noise_the_rank_is_the_algebraic_one() -> None:
    """A float32 product of 20 x 4 and 4 x 30 matrices has rank 4; a matrix of zeros has rank 0."""
    rng = np.random.default_rng(0)
    product = (rng.normal(size=(20, 4)) @ rng.normal(size=(4, 30))).astype(np.float32)
    assert evbmf_rank(np.linalg.svd(product, compute_uv=False).astype(np.float64), 20, 30) == 4
    assert evbmf_rank(np.zeros(4), 4, 9) == 0
