"""What all items together come to; what each of them is, is tested where sweeps are compared (`test_stage.py`, `test_items.py`)."""

from __future__ import annotations

import pytest

from flows.check.verdict import Item, Overall, of_sweep
from tests.flows.gate_factory import DOUBTFUL, GONE, OK, UNSURE, WORSE


@pytest.mark.parametrize(
    ("items", "overall"),
    [
        ((OK,), "ok"),
        ((OK, UNSURE), "ok"),
        ((OK, DOUBTFUL), "ok"),
        ((OK, GONE), "incomplete"),
        ((OK, GONE, WORSE, UNSURE), "regressed"),
    ],
    ids=["ok", "undecided", "unconfirmed", "missing", "regressed"],
)
def test_the_worst_certainty_decides(items: tuple[Item, ...], overall: Overall) -> None:
    """A regression outranks what is missing; what is undecided or unconfirmed passes. Each is counted in the answer."""
    found, answer = of_sweep(items)
    assert found == overall
    assert answer.startswith("None of" if overall == "ok" else "1 of")
    assert ("1 cannot be decided" in answer) is (UNSURE in items)
    assert ("1 look slower or faster, unconfirmed" in answer) is (DOUBTFUL in items)
    assert ("1 are missing" in answer or "1 of 2 items are missing" in answer) is (GONE in items)
