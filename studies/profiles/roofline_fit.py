"""Fits of the estimator's roofline to measured times, and how well each foretells networks it has not seen.

The forward model is that of `hardware_profiles.estimate.model` for one type, written over arrays, for hundreds of networks are
fitted dozens of times; a test holds the two together. Unlike `estimate.fit.calibration` it fits the bandwidth too: full-size
detectors on small boards spend much of their time moving data, and no other coefficient can stand in for that.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from hardware_profiles.estimate.model import ELEMENT_BYTES, PICTURE_CHANNELS, Operator
from hardware_profiles.schema.profile import DType

Array = NDArray[np.float64]
LEAST, MOST = 1e-6, 1e7
"""The least multiple of a start that a rate is divided by, and the bandwidth above which moving costs nothing."""
START_BANDWIDTH_GBS, START_OVERHEAD_US, START_BASE_SHARE = 5.0, 10.0, 0.2
"""Where fits start; the base in shares of the median time. Starts a decade apart end in the same coefficients, but on
the A40, where two sets of them are equally good."""
OUTLIER = 0.2
"""Log error from which a network counts linearly: one odd network among hundreds bends the fit no further."""
NEGLIGIBLE = 0.002
"""A coefficient that adds less than this share of the median time is left out of a profile."""
NORMAL_90 = 1.645
"""Standard deviations to either side that hold 90 % of a normal distribution."""


@dataclass(frozen=True)
class Networks:
    """Measured networks as arrays: one row per network, one column per operator, short rows filled up with zeros."""

    gop: Array
    """1e9 operations of each operator, padded to the device's channel blocks."""
    gigabytes: Array
    """What each operator reads and writes, weights included."""
    operators: Array
    """How many operators a network has."""
    gflops: Array
    """Whole-network operations in 1e9, without padding."""
    parameters: Array
    latency_s: Array

    def part(self, chosen: NDArray[np.bool_]) -> Networks:
        """The chosen rows."""
        return Networks(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Roofline:
    """Coefficients of one device, runtime and type."""

    rate_gops: float
    bandwidth_gbs: float
    op_overhead_us: float
    base_us: float

    def latency_s(self, networks: Networks) -> Array:
        """Per operator the slower of computing and moving, plus what each operator and each inference costs besides."""
        slower = np.maximum(networks.gop / self.rate_gops, networks.gigabytes / self.bandwidth_gbs).sum(axis=1)
        return np.asarray(slower + networks.operators * self.op_overhead_us * 1e-6 + self.base_us * 1e-6)


def networks_of(
    operators: Sequence[Sequence[Operator]], parameters: Sequence[float], latency_s: Sequence[float], dtype: DType, block: int
) -> Networks:
    """The arrays of networks whose operators are known; `block` is the channel alignment of the device."""
    shape = (len(operators), max(len(own) for own in operators))
    gop, gigabytes = np.zeros(shape), np.zeros(shape)
    for row, own in enumerate(operators):
        for column, operator in enumerate(own):
            elements = operator.input_elements + operator.output_elements + operator.weight_elements
            gop[row, column] = 2e-9 * operator.macs * _padding(operator, block)
            gigabytes[row, column] = 1e-9 * elements * ELEMENT_BYTES[dtype]
    counts = np.array([len(own) for own in operators], dtype=float)
    gflops = np.array([2e-9 * sum(operator.macs for operator in own) for own in operators])
    return Networks(gop, gigabytes, counts, gflops, np.array(parameters, dtype=float), np.array(latency_s, dtype=float))


def _padding(operator: Operator, block: int) -> float:
    outputs = -(-operator.output_channels // block) * block / operator.output_channels
    if operator.kind == "depthwise" or operator.input_channels <= PICTURE_CHANNELS:
        return outputs
    return outputs * -(-operator.input_channels // block) * block / operator.input_channels


@dataclass(frozen=True)
class Form:
    """What is fitted, and what is known beforehand."""

    per_operator: bool
    """False: rate and base alone, which is all there is to know where only whole-network figures are published."""
    bandwidth_gbs: float | None = None
    """Kept, for a second type of a device whose first has found it."""
    most_gops: float = MOST
    """No rate lies above the dense peak where nothing saves multiplications."""


def fit(networks: Networks, form: Form) -> Roofline:
    """The roofline with the least errors of log time, squared where they are small, linear beyond OUTLIER."""
    middle_s = float(np.median(networks.latency_s))
    middle_gops = float(np.median(networks.gflops / networks.latency_s))
    known = form.bandwidth_gbs if form.bandwidth_gbs is not None else MOST
    free = np.array([True, True, form.per_operator, form.per_operator and form.bandwidth_gbs is None])

    def roofline(multiples: Array) -> Roofline:
        """Coefficients from costs in multiples of where the fit starts; rate and bandwidth are inverse to theirs."""
        own = np.zeros(len(free))
        own[free] = multiples
        rate = min(middle_gops / max(own[0], LEAST), form.most_gops)
        moving = START_BANDWIDTH_GBS / max(own[3], LEAST) if free[3] else known
        return Roofline(rate, min(moving, MOST), START_OVERHEAD_US * own[2], START_BASE_SHARE * middle_s * 1e6 * own[1])

    found = least_squares(
        lambda multiples: np.log(roofline(multiples).latency_s(networks) / networks.latency_s),
        np.ones(int(free.sum())),
        bounds=(0, np.inf),
        loss="soft_l1",
        f_scale=OUTLIER,
        max_nfev=200,
    )
    return roofline(found.x)


def left_out(networks: Networks, groups: Sequence[Hashable], form: Form) -> Array:
    """Times of every network as foretold by a fit on all groups but its own."""
    foretold = np.zeros(len(groups))
    for own in _members(groups):
        foretold[own] = fit(networks.part(~own), form).latency_s(networks.part(own))
    return foretold


def proxy_left_out(size: Array, latency_s: Array, groups: Sequence[Hashable]) -> Array:
    """Times of every network as its size times one constant, the constant being the middle of all groups but its own."""
    foretold = np.zeros(len(groups))
    for own in _members(groups):
        foretold[own] = size[own] * np.exp(np.mean(np.log(latency_s[~own] / size[~own])))
    return foretold


def _members(groups: Sequence[Hashable]) -> list[NDArray[np.bool_]]:
    return [np.array([group == own for group in groups]) for own in dict.fromkeys(groups)]


def mape(foretold_s: Array, latency_s: Array) -> float:
    """Mean absolute percentage error, as a share."""
    return float(np.mean(np.abs(foretold_s / latency_s - 1)))


def interval_factor(foretold_s: Array, latency_s: Array) -> float:
    """k such that [t / k, t * k] holds 90 % of log-normal errors; errors around zero, for a bias is an error too."""
    return float(np.exp(NORMAL_90 * np.sqrt(np.mean(np.log(foretold_s / latency_s) ** 2))))
