"""A target is met only where every number that it names is."""

from __future__ import annotations

from typing import Any

import pytest

from studies.measurement.coverage import Coverage
from studies.measurement.intervals import equivalence, rate
from studies.measurement.summary import (
    About,
    Agreement,
    CoveragePart,
    Detection,
    FalseAlarms,
    IdenticalPart,
    LoadGenPart,
    PlantedPart,
    Summary,
)
from studies.measurement.targets import percent, sentences

ABOUT = About(
    command="make measurement-study", machines=("a CPU, 2 cores, Linux 6",), versions=("onnxruntime 1.31.1",),
    days=("2026-01-02", "2026-01-03"), settings={"sweeps": 10_000, "cells": 64, "rounds": 8},
)  # fmt: skip


def coverage(share: float, sweeps: int = 10_000) -> CoveragePart:
    """One noise."""
    own = Coverage(
        noise="a run", model="resampled", recorded_files=64, recorded_rounds=8, spread=0.03, correlation=0.1, sweeps=sweeps,
        coverage=share, coverage_ci95=(share - 0.001, share + 0.001), false_alarms=rate(sweeps // 25, sweeps),
    )  # fmt: skip
    return CoveragePart(about=ABOUT, results=(own,))


def identical(sessions: int, alarms: int = 0) -> IdenticalPart:
    """Sessions of eight pairs, so many of which held a false verdict."""
    own = FalseAlarms(
        runtime="all", sessions=sessions, rounds=8, median_s=1e-3, uncorrected=rate(alarms + sessions // 3, 8 * sessions),
        corrected=rate(alarms, 8 * sessions), sessions_with_alarm=rate(alarms, sessions), spread=0.02,
    )  # fmt: skip
    return IdenticalPart(about=ABOUT, results=(own,), blocks=72 * sessions, repeated_blocks=4, disturbed_blocks=1)


def planted(noticed: dict[float, int], trials: int = 100, minimal_effect: float = 0.04) -> PlantedPart:
    """Planted slowdowns and how many trials noticed them."""
    results = tuple(
        Detection(
            slower_by=share, found=rate(count, trials), called_faster=0, measured=share, measured_ci95=(share - 0.01, share + 0.01),
            predicted=count / trials,
        )
        for share, count in noticed.items()
    )  # fmt: skip
    return PlantedPart(
        about=ABOUT, runtime="onnxruntime", rounds=8, median_s=1e-3, results=results, trial_spreads=(0.03,) * trials,
        minimal_effect=minimal_effect, minimal_effect_in_sweep=2 * minimal_effect, own_effect_reached=rate(90, 100), blocks=1,
        repeated_blocks=0, disturbed_blocks=0,
    )  # fmt: skip


def loadgen(ratio: float, alternations: int = 20) -> LoadGenPart:
    """Three files, ours so many times LoadGen's."""
    theirs_s = [1e-3 * (1 + 0.001 * (i % 5)) for i in range(alternations)]
    test = equivalence([ratio * (1 + 0.002 * (i % 2)) * own for i, own in enumerate(theirs_s)], theirs_s, 0.03)
    results = tuple(
        Agreement(cell=cell, runtime="onnxruntime", ours_p50_s=1e-3, loadgen_p50_s=1e-3, p50=test, p90=test)
        for cell in ("none", "pruning", "quantization")
    )
    return LoadGenPart(about=ABOUT, queries=256, results=results)


ALL_NOTICED = {0.01: 20, 0.03: 60, 0.05: 95, 0.1: 100, 0.2: 100}
GOOD = Summary(coverage=coverage(0.95), identical=identical(40), planted=planted(ALL_NOTICED), loadgen=loadgen(1.01))


def test_all_targets_can_be_met() -> None:
    """Five sentences, five times PASS, with the counts in them."""
    found = sentences(GOOD)
    assert len(found) == 5
    assert all(": PASS. " in sentence for sentence in found)
    assert "40 real sessions of 8 pairs; 0 of 320 pairs" in found[1]
    assert "3 models, 20 alternations each" in found[4]


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, {"coverage": coverage(0.925)}),
        (0, {"coverage": coverage(0.975)}),
        (0, {"coverage": coverage(0.95, sweeps=9_000)}),
        (1, {"identical": identical(19)}),
        (1, {"identical": identical(40, alarms=8)}),
        (2, {"planted": planted(ALL_NOTICED, trials=101).model_copy(update={"results": planted({0.05: 95}).results})}),
        (2, {"planted": planted({share: min(count, 99) for share, count in ALL_NOTICED.items()}, trials=99)}),
        (3, {"planted": planted(ALL_NOTICED | {0.05: 60})}),
        (3, {"planted": planted(ALL_NOTICED | {0.01: 95})}),
        (4, {"loadgen": loadgen(1.035)}),
        (4, {"loadgen": loadgen(1.01, alternations=19)}),
    ],
)
def test_each_target_can_be_missed(place: int, change: dict[str, Any]) -> None:
    """Coverage outside the band, few sessions, alarms beyond chance, few trials, a wrong stated effect, a difference to LoadGen."""
    found = sentences(GOOD.model_copy(update=change))
    assert ": FALLS SHORT. " in found[place]


def test_what_was_not_observed_is_not_claimed() -> None:
    """An empty summary meets nothing and misses nothing."""
    assert all(sentence.endswith(": not observed yet.") for sentence in sentences(Summary()))


def test_shares_are_written_as_per_cent() -> None:
    """One digit behind the point unless told otherwise."""
    assert percent(0.0345) == "3.5 %" or percent(0.0345) == "3.4 %"
    assert percent(0.2, 0) == "20 %"
