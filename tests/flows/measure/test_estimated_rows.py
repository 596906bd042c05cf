"""Estimated rows: they never look like measurements, and say why there is no number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from flows.measure.estimated_rows import estimated_row
from flows.records.schema import CellRecord, LatencyRow
from hardware_profiles.estimate.model import Operator, estimate
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from tests.flows.latency_factory import DENSE, THIN, record


def operators_of(cell: CellRecord, _: HardwareProfile) -> Sequence[Operator]:
    """The control is dense, every other cell thin; quantized where the cell says so."""
    own = DENSE if cell.cell == "none" else THIN
    return [dataclasses.replace(own, quantized="quantization" in cell.methods)]


def estimated(cell: str, profile: HardwareProfile, status: str = "ok", host_cpu: HardwareProfile | None = None) -> LatencyRow:
    """The row of a cell beside the control."""
    own = record(cell) if status == "ok" else record(cell, status=status, error="out of memory")
    return estimated_row(own, record("none"), profile, operators_of, host_cpu)


def test_rows_are_estimates() -> None:
    """Point and interval of the model, the ratio of points, and nothing that only a measurement can know."""
    pi = load_profile("raspberry-pi-5")
    row = estimated("pruning", pi)
    own, control = estimate([THIN], pi), estimate([DENSE], pi)
    assert (row.source, row.runtime, row.why) == (own.origin, pi.runtime, None)
    assert row.p50_s == own.point_s
    assert row.interval_s == (own.low_s, own.high_s)
    assert row.speedup == control.point_s / own.point_s > 1
    assert (row.rounds_s, row.control_rounds_s) == ((), ())
    assert (row.speedup_ci95, row.p90_s, row.end_to_end_p50_s, row.peak_rss_bytes) == (None,) * 4
    assert (row.artifact_digest, row.environment) == (None, None)


def test_quantization_does_not_speed_up_a_device_without_int8() -> None:
    """On the Jetson Nano int8 is as fast as the float sibling, with a note; on the Pi it is faster, without one."""
    nano = [estimated(cell, load_profile("jetson-nano")) for cell in ("pruning", "pruning+quantization")]
    pi = [estimated(cell, load_profile("raspberry-pi-5")) for cell in ("pruning", "pruning+quantization")]
    assert (nano[0].p50_s, nano[0].speedup) == (nano[1].p50_s, nano[1].speedup)
    assert nano[0].why is None
    assert "has no int8: estimated at the speed of fp16" in nano[1].why
    assert pi[1].p50_s < pi[0].p50_s
    assert pi[1].why is None


def test_estimates_say_which_networks_their_error_was_found_on() -> None:
    """A published device says that it was architectures; a profile that was fitted on nothing says nothing."""
    pi = load_profile("raspberry-pi-5")
    assert "architectures only" in (estimated("pruning", pi).validated_on or "")
    unfitted = pi.model_copy(update={"calibration": type(pi.calibration)()})
    assert estimated("pruning", unfitted).validated_on is None


def test_failed_cells_are_not_estimated() -> None:
    """A cell that was not made has a row without a number on other devices too."""
    row = estimated("nas", load_profile("jetson-nano"), status="failed")
    assert (row.p50_s, row.why, row.source) == (None, "the cell failed: out of memory", "estimated")


def test_a_detector_that_cannot_run_has_no_number() -> None:
    """Where the device cannot run an operator and has no host_cpu, the row says which and does not fit."""
    pi = load_profile("raspberry-pi-5")
    without = pi.model_copy(update={"unsupported_ops": ("Conv",)})
    row = estimated("pruning", without)
    assert (row.p50_s, row.speedup, row.fits) == (None, None, False)
    assert row.why == f"{pi.name} cannot run Conv"
    assert estimated("pruning", without, host_cpu=pi).p50_s == pytest.approx(estimated("pruning", pi).p50_s)
