"""Rows of measured cells: medians over rounds, and speedups with how sure they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flows.measure.measured_rows import Rounds, measured_row, speedup_of
from hardware_profiles.schema.library import load_profile
from hardware_profiles.timing.round import Block, RoundResult
from tests.flows.latency_factory import record


def test_speedup_is_the_mean_of_paired_log_ratios() -> None:
    """Ratios 2, 4, 1.5, 3, 2.5, 2, 4, 1.5 have the geometric mean 1080 ** (1 / 8); a slow round hits both sides and cancels.

    The logarithms have mean 0.873090 and deviation 0.393081, so the t-interval of eight (2.364624) is 0.873090 -+ 0.328624.
    """
    control = [2.0, 4.0, 1.5, 3.0, 25.0, 2.0, 4.0, 1.5]
    own = [1.0, 1.0, 1.0, 1.0, 10.0, 1.0, 1.0, 1.0]
    speedup, interval = speedup_of(own, control)
    assert speedup == pytest.approx(1080**0.125)
    assert interval == pytest.approx((math.exp(0.873090 - 0.328624), math.exp(0.873090 + 0.328624)), rel=1e-5)


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_few_rounds_give_no_interval(rounds: int) -> None:
    """Fewer than eight have a ratio, but nothing to say how sure it is."""
    assert speedup_of([1.0] * rounds, [2.0] * rounds) == (pytest.approx(2.0), None)


def test_the_same_file_is_exactly_as_fast() -> None:
    """However its rounds went, and however few there were."""
    assert speedup_of([1.0, 1.1], [1.0, 1.0], same_file=True) == (1.0, (1.0, 1.0))


def test_a_row_is_the_medians_of_its_rounds(tmp_path: Path) -> None:
    """Of three rounds the middle one; blocks that were timed again, and those still contended then, are counted."""
    for name in ("none", "pruning"):
        (tmp_path / name).write_text(name)
    control, own = (record(name, {"onnxruntime": tmp_path / name}) for name in ("none", "pruning"))
    digests = [cell.artifacts["onnxruntime"].digest for cell in (control, own)]

    def one_round(step: int) -> RoundResult:
        blocks = [
            Block(digest=digest, position=0, p50_s=0.01 * times, p90_s=None, first_s=0.1 * step, load_s=0.2 * step,
                  postprocess_p50_s=0.001 * step, end_to_end_p50_s=0.02 * step, peak_rss_bytes=1000 * step,
                  runtime_rss_bytes=500 * step, repeats=step - 1, contended=step == 3)
            for digest, times in zip(digests, (2, step), strict=True)
        ]  # fmt: skip
        return RoundResult(blocks=tuple(blocks), runtime_rss_bytes=None)

    rounds = Rounds(results=tuple(one_round(step) for step in (1, 2, 3)))
    row = measured_row(own, control, load_profile("x86-onnxruntime-1t"), rounds, environment="0" * 64)
    assert (row.rounds_s, row.control_rounds_s) == ((0.01, 0.02, 0.03), (0.02, 0.02, 0.02))
    assert (row.p50_s, row.p90_s, row.interval_s) == (0.02, None, (0.01, 0.03))
    assert (row.first_s, row.load_s, row.postprocess_p50_s, row.end_to_end_p50_s) == (0.2, 0.4, 0.002, 0.04)
    assert (row.peak_rss_bytes, row.runtime_rss_bytes, row.repeated_blocks, row.contended_blocks) == (2000, 1000, 2, 1)
    assert (row.speedup, row.speedup_ci95) == (pytest.approx((2 * 1 * 2 / 3) ** (1 / 3)), None)
