"""EVBMF: the rank of a noisy matrix by empirical variational Bayes, without iterations but for the noise.

Nakajima, Sugiyama, Babacan and Tomioka: Global analytic solution of fully-observed variational Bayesian matrix factorization
(JMLR 14, 2013), in the simple form of Nakajima, Tomioka, Sugiyama and Babacan: Perfect dimensionality recovery by variational
Bayesian PCA (NIPS 2012). Kim et al. (arXiv:1511.06530) choose the ranks of Tucker-2 by it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

LEAST_NOISE_SHARE = 1e-12
"""Noise variance is looked for from this share of the matrix's mean square on: float32 weights cannot tell less from none."""
GRID_POINTS = 256
"""The free energy has several valleys over the noise variance; the deepest is found on a grid and then followed down."""


def evbmf_rank(singular_values: Values, rows: int, columns: int) -> int:
    """How many singular values of a (rows, columns) matrix stand out of its noise; 0 where none does.

    All min(rows, columns) values are needed, in any order. The noise variance is that of the least free energy.
    """
    short, long = sorted((rows, columns))
    squares = np.sort(np.asarray(singular_values, dtype=np.float64))[::-1] ** 2
    assert len(squares) == short, f"{len(squares)} singular values of a {rows} x {columns} matrix"
    if squares[0] == 0.0:
        return 0
    return int((squares > long * estimated_noise_variance(squares, long) * detection_limit(short / long)).sum())


def detection_limit(alpha: float) -> float:
    """The square of a singular value, over the longer side and the noise variance, from which on it counts as signal.

    alpha: shorter over longer side. The limit is (1 + tau) (1 + alpha / tau), where tau is the zero of
    Phi(tau) + Phi(tau / alpha), Phi(z) = log(1 + z) / z - 1/2. The usual approximation, tau = 2.5129 sqrt(alpha), is exact at 1.
    """

    def phi(z: float) -> float:
        return math.log1p(z) / z - 0.5

    from scipy.optimize import brentq

    # Phi falls and is 0 at 2.5128...: the sum is above 0 at alpha times a little less, and below 0 a little further on.
    tau = float(brentq(lambda t: phi(t) + phi(t / alpha), 2.5 * alpha, 2.52, xtol=1e-12))
    return (1 + tau) * (1 + alpha / tau)


def estimated_noise_variance(squares: Values, long: int) -> float:
    """The noise variance of the least free energy; squares: of all singular values, descending; long: the longer side."""
    short = len(squares)
    limit = detection_limit(short / long)
    # Fewer than a share 1 / (1 + alpha) of the components can be signal. The rest is noise, which bounds it from below.
    most_signals = min(math.ceil(short / (1 + short / long)) - 1, short - 1)
    highest = float(squares.sum()) / (short * long)
    lowest = max(float(squares[most_signals]) / (long * limit), float(squares[most_signals:].mean()) / long)
    lowest = max(min(lowest, highest), LEAST_NOISE_SHARE * highest)
    if lowest >= highest:
        return highest

    def energy(log_variance: float) -> float:
        return free_energy(math.exp(log_variance), squares, long, limit)

    from scipy.optimize import minimize_scalar

    grid = np.linspace(math.log(lowest), math.log(highest), GRID_POINTS)
    best = int(np.argmin([energy(float(point)) for point in grid]))
    valley = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, GRID_POINTS - 1)])
    found: Any = minimize_scalar(energy, bounds=valley, method="bounded")
    return math.exp(float(found.x) if found.fun < energy(float(grid[best])) else float(grid[best]))


def free_energy(noise_variance: float, squares: Values, long: int, limit: float) -> float:
    """Twice the least free energy over the longer side, without what does not depend on the noise variance.

    A component that is noise has no energy besides its square over the variance; one that is signal lowers it.
    """
    alpha = len(squares) / long
    x = squares / (long * noise_variance)
    signal = x[x > limit]
    rest = signal - (1 + alpha)
    tau = 0.5 * (rest + np.sqrt(rest**2 - 4 * alpha))
    gain = np.log1p(tau) + alpha * np.log1p(tau / alpha) - tau
    return float(len(squares) * math.log(noise_variance) + x.sum() + gain.sum())
