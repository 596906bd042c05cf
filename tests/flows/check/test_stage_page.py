"""The gate's page, with an item of every kind on it."""

from __future__ import annotations

from flows.check.stage import EXIT_CODES, render
from flows.check.verdict import Verdict, of_sweep
from tests.flows.gate_factory import DOUBTFUL, DROPPED, GONE, OK, UNSURE, WORSE, unchanged
from tests.golden import assert_golden


def test_the_page_says_it_all() -> None:
    """The answer first, a table per verdict, worst first, in the units people speak of; no error breaks a table; what is ok is
    counted, and where it was tested the change that would have been found stands with it."""
    tested = (unchanged("nas", 1.021), unchanged("pruning", 1.034), unchanged("nas", 0.0123, "map_50_95"))
    items = (OK, UNSURE, WORSE, GONE, DROPPED, DOUBTFUL, *tested)
    overall, answer = of_sweep(items)
    verdict = Verdict(overall=overall, exit_code=EXIT_CODES[overall], answer=answer, baseline="main", sweep="nightly", split="test",
                      rules=("exactly",), notes=("a note",), items=items)  # fmt: skip
    assert_golden("verdict.md", render(verdict))
