"""What fits to published latencies find, and how well they foretell networks and whole families that they have not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hardware_profiles.schema.library import load_profile
from studies.profiles.published import Series
from studies.profiles.results import Coefficients, Errors, PublishedFit
from studies.profiles.roofline_fit import (
    MOST,
    NEGLIGIBLE,
    Form,
    Networks,
    Roofline,
    fit,
    interval_factor,
    left_out,
    mape,
    networks_of,
    proxy_left_out,
)

MIN_FAMILIES = 3
"""With fewer, leaving one out leaves hardly anything."""
MIN_PER_FAMILY = 2
"""A family of one network is left out whenever the network is."""
FALLBACK_BLOCK = 1
"""Channel alignment of devices without a profile: none is assumed."""


def fit_all(found: Iterable[Series]) -> tuple[PublishedFit, ...]:
    """Every series fitted on its own; only a bandwidth passes from one precision of a device to another."""
    fits: list[PublishedFit] = []
    for series in found:
        known = next((own for own in fits if own.profile == series.profile and own.precision == series.bandwidth_of), None)
        assert series.bandwidth_of is None or known is not None, "the series whose bandwidth is kept comes first"
        fits.append(fit_series(series, known.coefficients.bandwidth_gbs if known else None))
        print(f"{fits[-1].device}, {fits[-1].runtime}, {fits[-1].precision}: {fits[-1].network_out.ours:.1%}", flush=True)
    return tuple(fits)


def fit_series(series: Series, bandwidth_gbs: float | None = None) -> PublishedFit:
    """Coefficients and left-out errors of one series."""
    networks, form = as_networks(series), Form(series.per_operator, bandwidth_gbs, _most_gops(series))
    by_network = [own.network for own in series.measured]
    by_family = [own.family for own in series.measured]
    many = len(series.families) >= MIN_FAMILIES and len(set(by_network)) >= MIN_PER_FAMILY * len(series.families)
    groups = by_family if many else by_network
    foretold = left_out(networks, groups, form)
    return PublishedFit(
        device=series.device,
        runtime=series.runtime,
        precision=series.precision,
        threads=series.threads,
        several_threads=series.several_threads,
        source=series.source,
        measured=len(series.measured),
        networks=len(set(by_network)),
        families=series.families,
        per_operator=series.per_operator,
        network_out=_errors(networks, by_network, left_out(networks, by_network, form)),
        family_out=_errors(networks, by_family, foretold) if many else None,
        covered_90=_coverage(foretold, networks, groups),
        interval_factor=interval_factor(foretold, networks.latency_s),
        coefficients=_coefficients(fit(networks, form), networks),
        profile=series.profile,
    )


def as_networks(series: Series) -> Networks:
    """The series as arrays, with the channel blocks of its profile."""
    block = load_profile(series.profile).channel_alignment.of(series.dtype) if series.profile and series.per_operator else None
    return networks_of(
        [own.operators for own in series.measured],
        [own.parameters for own in series.measured],
        [own.latency_s for own in series.measured],
        series.dtype,
        block or FALLBACK_BLOCK,
    )


def _most_gops(series: Series) -> float:
    """The dense peak of an accelerator; processors may compute 3x3 convolutions with fewer multiplications than they have."""
    peak = load_profile(series.profile).peak_gops.of(series.dtype) if series.profile and series.several_threads is None else None
    return peak or MOST


def _errors(networks: Networks, groups: Sequence[str], foretold_s: np.ndarray) -> Errors:
    times = networks.latency_s
    return Errors(
        ours=mape(foretold_s, times),
        flops=mape(proxy_left_out(networks.gflops, times, groups), times),
        parameters=mape(proxy_left_out(networks.parameters, times, groups), times),
    )


def _coverage(foretold_s: np.ndarray, networks: Networks, groups: Sequence[str]) -> float:
    """Each group is judged by the interval that the other groups' errors imply, or coverage would be true by construction."""
    inside = 0
    for own in dict.fromkeys(groups):
        mine = np.array([group == own for group in groups])
        factor = interval_factor(foretold_s[~mine], networks.latency_s[~mine])
        inside += int(np.sum(np.abs(np.log(foretold_s[mine] / networks.latency_s[mine])) <= np.log(factor)))
    return inside / len(groups)


def _coefficients(found: Roofline, networks: Networks) -> Coefficients:
    """The numbers worth shipping, at four digits."""
    floor_us = NEGLIGIBLE * float(np.median(networks.latency_s)) * 1e6
    overhead_matters = found.op_overhead_us * float(np.median(networks.operators)) > floor_us
    return Coefficients(
        rate_gops=_rounded(found.rate_gops),
        bandwidth_gbs=_rounded(found.bandwidth_gbs) if found.bandwidth_gbs < MOST / 2 else None,
        op_overhead_us=_rounded(found.op_overhead_us) if overhead_matters else None,
        base_us=_rounded(found.base_us) if found.base_us > floor_us else None,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
