"""The table shows every number once, with the value it is sorted by, and keeps estimates apart."""

from __future__ import annotations

import pytest

from flows.analysis import panels
from flows.answers import megabytes, milliseconds, points, recommend
from flows.statistics import Difference
from flows.table import Value, as_markdown, make_table
from tests.flows.records_factory import eight_cells


def test_table_marks_front_and_keeps_numbers_apart() -> None:
    """The control's row: 10 ms measured, about 100 ms estimated with its interval; `pruning` is on both fronts."""
    cells, latency = eight_cells()
    found = panels(cells, latency)
    recommended = recommend(cells, found, 0.02, lambda control, chosen: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0))
    table = make_table(cells, found, (), ("pruning", "distillation", "quantization"), recommended)
    control = table.rows[0].values
    assert control[-4:] == (
        Value(text="10.0", sort=0.010),
        Value(text="1.00x", detail="[0.98, 1.02]", sort=1.0),
        Value(text="≈ 100", detail="[62.5, 160]", sort=0.1),
        Value(text="≈ 1.00x", sort=1.0),
    )
    assert [group.is_estimate for group in table.groups] == [False, False, False, False, True]
    assert [dot.state for dot in table.rows[1].dots] == ["on", "off", "off"]
    assert "5.00 ●" in as_markdown(table)


@pytest.mark.parametrize(("share", "text"), [(-0.0114, "\u22121.1"), (0.0, "0.0"), (-0.0001, "0.0"), (0.02, "+2.0")])
def test_points_have_a_sign(share: float, text: str) -> None:
    """Differences carry their sign; what rounds to nothing carries none."""
    assert points(share) == text


def test_numbers_show_three_digits_that_count() -> None:
    """9.876 ms, 98.76 ms and 987.6 ms; sizes in 10^6 bytes."""
    assert [milliseconds(seconds) for seconds in (0.009876, 0.09876, 0.9876)] == ["9.88", "98.8", "988"]
    assert megabytes(4096 << 10) == "4.19"
