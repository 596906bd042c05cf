"""A target is met only where every number that it names is."""

from __future__ import annotations

from typing import Any

import pytest

from flows.records.schema import read_schema
from studies.measurement.intervals import rate
from studies.measurement.records import Summary
from studies.measurement.targets import judge
from tests.places import ROOT

GOOD = read_schema(ROOT / "docs/measurement.json", Summary, "make measurement-study")
"""The committed results."""
assert GOOD.planted is not None
assert GOOD.loadgen is not None
P50 = GOOD.loadgen.results[0].p50


def changed(part: str, number: int, **update: Any) -> Summary:
    """The committed results with one result of a part changed."""
    own = getattr(GOOD, part)
    results = list(own.results)
    results[number] = results[number].model_copy(update=update)
    return GOOD.model_copy(update={part: own.model_copy(update={"results": tuple(results)})})


def test_all_targets_can_be_met() -> None:
    """Five targets, five times met."""
    assert [own.met for own in judge(GOOD)] == [True] * 5


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (0, changed("coverage", 0, coverage=0.925)),
        (0, changed("coverage", 3, coverage=0.975)),
        (0, changed("coverage", 0, sweeps=9_000)),
        (1, changed("identical", -1, sessions=19)),
        (1, changed("identical", -1, corrected=rate(0, 7 * 40))),
        (1, changed("identical", -1, sessions_with_alarm=rate(8, 40))),
        (2, changed("planted", 2, slower_by=0.04)),
        (2, changed("planted", 3, found=rate(96, 99))),
        (3, changed("planted", 3, found=rate(60, 100))),
        (3, changed("planted", 0, found=rate(95, 100))),
        (4, changed("loadgen", 1, p90=P50.model_copy(update={"equivalent": False}))),
        (4, changed("loadgen", 2, p50=P50.model_copy(update={"pairs": 19}))),
        (4, GOOD.model_copy(update={"loadgen": GOOD.loadgen.model_copy(update={"results": GOOD.loadgen.results[:2]})})),
    ],
)
def test_each_target_can_be_missed(number: int, found: Summary) -> None:
    """Coverage outside the band, few sessions, alarms beyond chance, few trials, a wrong stated effect, a difference to LoadGen."""
    assert judge(found)[number].met is False


def test_what_was_not_observed_is_not_claimed() -> None:
    """An empty summary meets nothing and misses nothing."""
    assert [own.met for own in judge(Summary())] == [None] * 5
