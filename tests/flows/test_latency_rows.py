"""Rows: speedups with how sure they are, and estimates that never look like measurements."""

from __future__ import annotations

import math

import pytest

from flows.latency_rows import estimated_row, speedup_of
from flows.records import LatencyRow
from hardware_profiles.estimate import estimate
from hardware_profiles.profile import load_profile
from tests.flows.latency_factory import DENSE, THIN, record


def estimated(cell: str, profile: str, status: str = "ok") -> LatencyRow:
    """The row of a cell of THIN operators beside a control of DENSE ones."""
    own = record(cell) if status == "ok" else record(cell, status=status, error="out of memory")
    return estimated_row(own, record("none"), load_profile(profile), lambda cell: [DENSE] if cell.cell == "none" else [THIN])


def test_datasheet_rows_are_estimates() -> None:
    """Point and interval of the model, the ratio of points, and nothing that only a measurement can know."""
    row, pi = estimated("pruning", "raspberry-pi-5"), load_profile("raspberry-pi-5")
    own, control = estimate([THIN], pi, "fp16"), estimate([DENSE], pi, "fp16")
    assert (row.source, row.runtime, row.why) == ("estimated", "ncnn", None)
    assert row.p50_s == own.point_s
    assert row.interval_s == (own.low_s, own.high_s)
    assert row.speedup == control.point_s / own.point_s > 1
    assert (row.rounds_s, row.control_rounds_s) == ((), ())
    assert (row.speedup_ci95, row.p90_s, row.end_to_end_p50_s, row.peak_rss_bytes) == (None,) * 4
    assert (row.artifact_digest, row.environment) == (None, None)
    assert row.fits is True


def test_quantization_does_not_speed_up_a_device_without_int8() -> None:
    """On the Jetson Nano int8 is as fast as the float sibling, with a note; on the Pi it is faster, without one."""
    nano = [estimated(cell, "jetson-nano") for cell in ("pruning", "pruning+quantization")]
    pi = [estimated(cell, "raspberry-pi-5") for cell in ("pruning", "pruning+quantization")]
    assert (nano[0].p50_s, nano[0].speedup) == (nano[1].p50_s, nano[1].speedup)
    assert nano[0].why is None
    assert "has no int8: estimated at the speed of fp16" in nano[1].why
    assert pi[1].p50_s < pi[0].p50_s
    assert pi[1].why is None


def test_failed_cells_are_not_estimated() -> None:
    """A cell that was not made has a row without a number on datasheet profiles too."""
    row = estimated("nas", "jetson-nano", status="failed")
    assert (row.p50_s, row.why, row.source) == (None, "the cell failed: out of memory", "estimated")


def test_speedup_is_the_mean_of_paired_log_ratios() -> None:
    """Ratios 2, 4, 1.5, 3, 2.5 have the geometric mean 90 ** 0.2; a slow round hits both sides and cancels.

    The logarithms have mean 0.89996 and deviation 0.37535, so the t-interval of five (2.77645) is 0.89996 -+ 0.46606.
    """
    control = [2.0, 4.0, 1.5, 3.0, 25.0]
    own = [1.0, 1.0, 1.0, 1.0, 10.0]
    speedup, interval = speedup_of(own, control)
    assert speedup == pytest.approx(90**0.2)
    assert interval == pytest.approx((math.exp(0.89996 - 0.46606), math.exp(0.89996 + 0.46606)), rel=1e-3)


@pytest.mark.parametrize("rounds", [1, 2])
def test_few_rounds_give_no_interval(rounds: int) -> None:
    """One or two rounds have a ratio, but nothing to say how sure it is."""
    assert speedup_of([1.0] * rounds, [2.0] * rounds) == (pytest.approx(2.0), None)
