"""The fit against coefficients that were planted, and against the estimator whose numbers it ships."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hardware_profiles.estimate.model import estimate
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from studies.profiles.roofline_fit import (
    Form,
    Roofline,
    fit,
    interval_factor,
    left_out,
    mape,
    networks_of,
    proxy_left_out,
)
from studies.profiles.yolo_graphs import parse_name, yolo_graph

NAMES = [parse_name(f"yolo{family}_{side}") for family in ("5n", "5s", "8n", "7n", "3n") for side in (160, 224, 320)]
GRAPHS = [yolo_graph(name, fused_silu=False) for name in NAMES]
TRUE = Roofline(rate_gops=40.0, bandwidth_gbs=3.0, op_overhead_us=25.0, base_us=1500.0)


def planted(latency_s: list[float] | None = None):
    ones = [1.0] * len(GRAPHS)
    return networks_of(
        [graph.operators for graph in GRAPHS], [graph.parameters for graph in GRAPHS], latency_s or ones, "fp32", block=4
    )


def test_planted_coefficients_are_found() -> None:
    """Times made by a roofline give that roofline back."""
    networks = planted(TRUE.latency_s(planted()).tolist())
    found = fit(networks, Form(per_operator=True))
    assert found.rate_gops == pytest.approx(TRUE.rate_gops, rel=1e-3)
    assert found.bandwidth_gbs == pytest.approx(TRUE.bandwidth_gbs, rel=1e-3)
    assert found.op_overhead_us == pytest.approx(TRUE.op_overhead_us, rel=1e-2)
    assert found.base_us == pytest.approx(TRUE.base_us, rel=1e-2)


def test_a_known_bandwidth_is_kept() -> None:
    """A bandwidth that is given comes back unchanged, and so does a rate that may not exceed the peak."""
    networks = planted(TRUE.latency_s(planted()).tolist())
    found = fit(networks, Form(per_operator=True, bandwidth_gbs=2.0, most_gops=30.0))
    assert (found.bandwidth_gbs, found.rate_gops) == (2.0, 30.0)


@pytest.mark.parametrize("profile_id", ["raspberry-pi-4", "raspberry-pi-5"])
def test_the_arrays_say_what_the_estimator_says(profile_id: str) -> None:
    """The shipped numbers put into the fit's forward model give the estimate of the profile, network by network."""
    profile = load_profile(profile_id)
    block = profile.channel_alignment.of("fp32") or 1
    networks = networks_of([graph.operators for graph in GRAPHS], [1.0] * len(GRAPHS), [1.0] * len(GRAPHS), "fp32", block)
    ours = _roofline(profile).latency_s(networks)
    theirs = [estimate(graph.operators, profile).point_s for graph in GRAPHS]
    assert ours == pytest.approx(theirs, rel=1e-9)


def _roofline(profile: HardwareProfile) -> Roofline:
    peak, utilisation, bandwidth = profile.peak_gops.fp32, profile.utilisation.fp32, profile.memory.bandwidth_effective_gbs
    assert peak is not None
    assert utilisation is not None
    assert bandwidth is not None
    return Roofline(peak * utilisation, bandwidth, profile.op_overhead_us.fp32 or 0.0, profile.base_us.fp32 or 0.0)


def test_a_network_is_foretold_without_itself() -> None:
    """One family made twice as slow is foretold twice too fast when it is left out, and the others are not."""
    families = [name.family for name in NAMES]
    times = TRUE.latency_s(planted()) * np.where(np.array(families) == 3, 2.0, 1.0)
    networks = planted(times.tolist())
    foretold = left_out(networks, families, Form(per_operator=True))
    of_three = np.array(families) == 3
    assert foretold[of_three] == pytest.approx(times[of_three] / 2, rel=0.02)


def test_proxy_by_hand() -> None:
    """Sizes 1, 2, 4 and times 1, 2, 8: without the last the constant is 1, without one of the others the root of 2."""
    size, latency_s = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 8.0])
    root = math.sqrt(2)
    assert proxy_left_out(size, latency_s, ["a", "b", "c"]) == pytest.approx([root, 2 * root, 4])


def test_errors_by_hand() -> None:
    """10 % too slow and 20 % too fast make 15 %; equal errors of a factor 2 make an interval factor of 2 ^ 1.645."""
    assert mape(np.array([1.1, 0.8]), np.array([1.0, 1.0])) == pytest.approx(0.15)
    assert interval_factor(np.array([2.0, 0.5]), np.array([1.0, 1.0])) == pytest.approx(2**1.645)
