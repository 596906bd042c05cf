"""A second look before anything is called slower or faster: fresh rounds decide alone, and without them nothing is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flows.check.baseline import accept
from flows.check.confirm import Candidate
from flows.check.stage import check
from flows.check.verdict import Item, Verdict
from flows.records.schema import LatencyRow
from flows.sweep.settings import Check
from tests.flows.gate_factory import CONTROL_S, ROUNDS_S, TRUTH, Store, cells_of, latency_of, row_of

CELLS = ("none", "nas", "pruning")
PROFILE = "x86-1t"
SLOWER, FASTER = [1.2 * s for s in ROUNDS_S], [0.8 * s for s in ROUNDS_S]


class Gate:
    """A baseline in which `nas` and `pruning` take half the control's time, and what is measured again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")
        self.cells = cells_of(*map(self.store.cell, CELLS))
        self.asked: list[tuple[Candidate, ...]] = []
        rows = (row_of("none", CONTROL_S), row_of("nas"), row_of("pruning"))
        accept("main", self.cells, latency_of(*rows), self.store, folder)

    def judge(self, *rows: LatencyRow, fresh: Mapping[str, LatencyRow | str] | None = None, config: Check | None = None) -> Verdict:
        """The verdict on rows, given what a fresh measurement of a cell finds; without `fresh` nothing is measured again."""

        def confirm(candidates: Sequence[Candidate]) -> Mapping[Candidate, LatencyRow | str]:
            self.asked.append(tuple(candidates))
            return {place: fresh[place.cell] for place in candidates if fresh and place.cell in fresh}

        latency = latency_of(row_of("none", CONTROL_S), *rows)
        return check(self.folder / "main", self.cells, latency, TRUTH, self.store, config or Check(), confirm if fresh else None)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """The gate on a baseline of its own."""
    return Gate(tmp_path)


def speed(verdict: Verdict, cell: str) -> Item:
    """The one speedup of a cell."""
    (item,) = [item for item in verdict.items if (item.cell, item.quantity) == (cell, "speedup")]
    return item


def rounds(times_s: Sequence[float]) -> LatencyRow:
    """Fresh rounds beside the control of the baseline."""
    return row_of("any", times_s)


def test_a_confirmed_slowdown_is_a_regression(gate: Gate) -> None:
    """20 % slower twice: the numbers are those of the fresh rounds, here 25 % slower, and the first look is remembered."""
    verdict = gate.judge(row_of("nas"), row_of("pruning", SLOWER), fresh={"pruning": rounds([1.25 * s for s in ROUNDS_S])})
    item = speed(verdict, "pruning")
    assert (item.verdict, verdict.exit_code) == ("regressed", 1)
    assert item.change == pytest.approx(0.8)
    assert item.why == "confirmed on 8 fresh rounds; -16.7 % at first"


def test_only_what_looks_different_is_measured_again(gate: Gate) -> None:
    """One candidate of two cells; with none nobody is asked."""
    gate.judge(row_of("nas"), row_of("pruning", SLOWER), fresh={"pruning": rounds(SLOWER)})
    gate.judge(row_of("nas"), row_of("pruning"), fresh={"pruning": rounds(SLOWER)})
    assert gate.asked == [(Candidate("pruning", PROFILE),)]


def test_a_slowdown_that_fresh_rounds_do_not_show_is_none(gate: Gate) -> None:
    """As fast as in the baseline the second time: ok, exit 0, and both looks are told."""
    verdict = gate.judge(row_of("nas"), row_of("pruning", SLOWER), fresh={"pruning": rounds(ROUNDS_S)})
    item = speed(verdict, "pruning")
    assert (item.verdict, verdict.exit_code) == ("ok", 0)
    assert item.why == "not confirmed on 8 fresh rounds; -16.7 % at first"
    assert item.minimum_detectable_effect is not None


def test_fresh_rounds_that_scatter_decide_nothing(gate: Gate) -> None:
    """Rounds between half and double: neither regressed nor ok."""
    scattered = [s * factor for s, factor in zip(ROUNDS_S, (0.5, 2.0, 1.0, 0.7, 1.5, 1.0, 2.0, 0.6), strict=True)]
    verdict = gate.judge(row_of("nas"), row_of("pruning", SLOWER), fresh={"pruning": rounds(scattered)})
    assert (speed(verdict, "pruning").verdict, verdict.exit_code) == ("inconclusive", 0)


def test_two_looks_that_contradict_each_other_decide_nothing(gate: Gate) -> None:
    """Slower at first, faster on fresh rounds."""
    verdict = gate.judge(row_of("nas"), row_of("pruning", SLOWER), fresh={"pruning": rounds(FASTER)})
    assert (speed(verdict, "pruning").verdict, verdict.exit_code) == ("inconclusive", 0)
    assert "say the opposite" in (speed(verdict, "pruning").why or "")


def test_an_improvement_needs_a_second_look_too(gate: Gate) -> None:
    """Confirmed it is one; refuted it is ok, and not looked into unconfirmed."""
    row = row_of("pruning", FASTER)
    assert speed(gate.judge(row_of("nas"), row, fresh={"pruning": rounds(FASTER)}), "pruning").verdict == "improved"
    assert speed(gate.judge(row_of("nas"), row, fresh={"pruning": rounds(ROUNDS_S)}), "pruning").verdict == "ok"
    assert speed(gate.judge(row_of("nas"), row), "pruning").verdict == "unconfirmed"


def test_the_second_look_is_corrected_for_its_own_candidates(gate: Gate) -> None:
    """Both cells are candidates: each fresh p value counts twice, alone once."""
    slow = 1.1
    fresh = {cell: rounds([slow * s for s in ROUNDS_S]) for cell in ("nas", "pruning")}
    both = gate.judge(row_of("nas", SLOWER), row_of("pruning", SLOWER), fresh=fresh)
    one = gate.judge(row_of("nas"), row_of("pruning", SLOWER), fresh=fresh)
    assert speed(both, "pruning").p_holm == pytest.approx(2 * (speed(one, "pruning").p_holm or 0.0))


@pytest.mark.parametrize(
    ("fresh", "why"),
    [
        ({"pruning": "this is another machine"}, "this is another machine"),
        ({"nas": rounds(SLOWER)}, "no fresh rounds"),
        (None, "not measured again (--no-confirm)"),
    ],
    ids=["elsewhere", "not returned", "not asked"],
)
def test_what_cannot_be_measured_again_is_unconfirmed(gate: Gate, fresh: Mapping[str, LatencyRow | str] | None, why: str) -> None:
    """It passes by default, and says why nobody knows."""
    verdict = gate.judge(row_of("nas"), row_of("pruning", SLOWER), fresh=fresh)
    item = speed(verdict, "pruning")
    assert (item.verdict, verdict.exit_code, item.why) == ("unconfirmed", 0, f"looks slower, unconfirmed: {why}")
    assert "1 look slower or faster, unconfirmed" in verdict.answer


def test_an_unconfirmed_slowdown_fails_where_that_is_asked_for(gate: Gate) -> None:
    """check.unconfirmed: regression counts slowdowns, and only those."""
    strict = Check(unconfirmed="regression")
    verdict = gate.judge(row_of("nas", FASTER), row_of("pruning", SLOWER), config=strict)
    assert (speed(verdict, "pruning").verdict, verdict.exit_code) == ("regressed", 1)
    assert speed(verdict, "nas").verdict == "unconfirmed"
    assert "counted by check.unconfirmed" in (speed(verdict, "pruning").why or "")
