"""The judgement of host estimates on cells whose times are made by hand."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from scipy.stats import kendalltau

from hardware_profiles.estimate.model import Operator, estimate
from hardware_profiles.schema.library import load_profile
from studies.profiles.host_accuracy import DTYPES, judge, predict
from studies.profiles.host_cells import HostCell, HostRun, family_of

PROFILE = load_profile("x86-onnxruntime-1t")
FAMILIES = ((), ("lightweight",), ("nas",), ("lightweight", "nas"))


def network(channels: int, layers: int, quantized: bool) -> tuple[Operator, ...]:
    """Layers of 3x3 convolutions over 24 x 32 places."""
    places = 24 * 32
    one = Operator(
        kind="conv3x3s1",
        macs=9 * channels * channels * places,
        input_elements=channels * places,
        output_elements=channels * places,
        weight_elements=9 * channels * channels,
        input_channels=channels,
        output_channels=channels,
        quantized=quantized,
    )
    return (one,) * layers


def cells(slower: float = 1.0) -> list[HostCell]:
    """Four cells per family and type, timed by the profile itself; int8 of the last family takes `slower` times as long."""
    found = []
    sizes = itertools.product(FAMILIES, DTYPES, (16, 32, 48, 64))
    for index, (methods, dtype, channels) in enumerate(sizes):
        operators = network(channels, 4 + index % 7, dtype == "int8")
        seconds = estimate(operators, PROFILE).point_s * (slower if "nas" in methods and dtype == "int8" else 1.0)
        macs, params = (sum(getattr(own, name) for own in operators) for name in ("macs", "weight_elements"))
        found.append(
            HostCell(
                name=f"cell {index}",
                operators=operators,
                dtype=dtype,
                latency_s=seconds,
                family=family_of(methods),
                methods=methods + (("quantization",) if dtype == "int8" else ()),
                macs=macs,
                params=params,
                interval_s=(0.999 * seconds, 1.001 * seconds),
            )
        )
    return found


RUN = HostRun(sweep="made", profile=PROFILE.id, runtime="onnxruntime 0", machine="a machine", rounds=8)


def test_family_is_the_trained_architecture() -> None:
    """Light blocks and searched widths name the family; other methods do not change it."""
    assert family_of(("quantization",)) == "plain"
    assert family_of(("lightweight", "nas", "pruning")) == "lightweight+nas"
    assert family_of(("nas", "quantization")) == "nas"


def test_every_cell_with_the_method_is_predicted_and_no_other() -> None:
    """Leaving out "nas" predicts the cells of both families that contain it."""
    found = predict(PROFILE, cells(), "nas")
    assert len(found) == 16
    assert all("nas" in own.cell.methods for own in found)


def test_times_of_the_model_itself_are_predicted() -> None:
    """Where the model is true the errors vanish and every pair with disjoint ranges is in order."""
    found = judge(RUN, cells())
    assert max(error.ours for error in found.errors) < 0.02
    assert found.ranking.discordant == 0
    assert found.ranking.tau == 1
    assert found.error("fp32").ours < found.error("fp32").parameters


def test_a_family_that_behaves_otherwise_shows() -> None:
    """Cells that take twice as long as the model says are predicted at half of it: an error of 50 %, and outside the interval."""
    found = judge(RUN, cells(slower=2.0))
    left_out = next(error for error in found.errors if (error.left_out, error.dtype) == ("nas", "int8"))
    assert left_out.ours == pytest.approx(0.5, abs=0.02)
    assert found.covered_90[1].hits < found.covered_90[1].of
    assert found.covered_90[1].low < found.covered_90[1].hits / found.covered_90[1].of < found.covered_90[1].high


def test_tau_is_kendalls() -> None:
    """Without ties and overlaps our count is scipy's tau on the cells of one fit."""
    own = [cell for cell in cells(slower=1.6) if "lightweight" not in cell.methods]
    found = judge(RUN, [*own, *(cell for cell in cells() if "lightweight" in cell.methods and "nas" not in cell.methods)])
    points = [point for point in found.points if point.left_out == "nas"]
    other = [point for point in found.points if point.left_out == "lightweight"]

    def pairs(chosen: list) -> tuple[float, int]:
        tau = kendalltau([point.measured_s for point in chosen], [point.estimated_s for point in chosen]).statistic
        return tau, len(chosen) * (len(chosen) - 1) // 2

    (first, n_first), (second, n_second) = pairs(points), pairs(other)
    assert found.ranking.concordant + found.ranking.discordant == n_first + n_second
    assert found.ranking.tau == pytest.approx((first * n_first + second * n_second) / (n_first + n_second))


def test_overlapping_measurements_rank_nothing() -> None:
    """Cells whose measured ranges overlap make no pair."""
    blurred = [dataclasses.replace(cell, interval_s=(1e-6, 1.0)) for cell in cells()]
    sharp = [dataclasses.replace(cell, interval_s=(cell.latency_s, cell.latency_s)) for cell in cells()[:2]]
    found = judge(RUN, [*blurred[2:], *sharp, cells()[10], cells()[11], cells()[18], cells()[19]])
    assert found.ranking.concordant + found.ranking.discordant <= 2
