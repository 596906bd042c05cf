"""The table shows every number once, with the value it is sorted by, and keeps estimates apart."""

from __future__ import annotations

import pytest

from compressors.target import Target
from flows.records.formatting import megabytes, milliseconds, points
from flows.report.pareto import panels
from flows.report.recommendation import recommend
from flows.report.table import Value, as_markdown, make_table, verdict_lines
from flows.stats.map_bootstrap import Difference
from flows.stats.verdicts import judged, times
from tests.flows.records_factory import MEASURED, cells_file, eight_cells, estimated_row, latency_file, measured_row, ok_cell


def test_table_marks_front_and_keeps_numbers_apart() -> None:
    """The control's row: 10 ms measured, about 100 ms estimated with its interval; `pruning` is on both fronts."""
    cells, latency = eight_cells()
    found = panels(cells, latency)
    recommended = recommend(cells, latency, 0.02, lambda control, chosen: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0))
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


def test_a_missed_target_stands_beside_the_multiply_adds() -> None:
    """What stayed and what was asked, in the row of the cell that missed it and in no other."""
    cells, latency = eight_cells()
    target = Target(method="pruning", setting="keep_macs", asked=0.5, reached=0.521)
    short = tuple(own.model_copy(update={"missed": (target,)}) if own.cell == "pruning" else own for own in cells.cells)
    told = cells.model_copy(update={"cells": short})
    recommended = recommend(told, latency, 0.02, lambda control, chosen: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0))
    table = make_table(told, panels(told, latency), (), ("pruning", "distillation", "quantization"), recommended)
    details = {row.cell: row.values[1].detail for row in table.rows}
    assert details.pop("pruning") == "pruning: 52% stay where keep_macs asks for 50%"
    assert set(details.values()) == {""}


def test_no_difference_stands_beside_what_would_be_found() -> None:
    """A cell at 1.01x: its interval, that it is no difference, the smallest one that would be, and its flag."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("nas",), 0.5, size_bytes=1 << 19)])
    rows = judged(cells, [measured_row("none", MEASURED, 0.01, 0.01), measured_row("nas", MEASURED, 0.0099, 0.01)])
    latency = latency_file(rows)
    found = panels(cells, latency)
    recommended = recommend(cells, latency, 0.02, lambda control, chosen: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0))
    row = make_table(cells, found, (), ("nas",), recommended).rows[1]
    effect = times(rows[1].minimal_effect or 0.0)
    assert row.values[-1].detail == f"[0.99, 1.03]; no difference (would find {effect}); smaller, not faster"
    assert verdict_lines(rows) == (f"{MEASURED} (measured): 1 no difference (would find {effect}), 1 smaller, not faster",)


def test_keeping_the_control_says_what_would_have_been_found() -> None:
    """Nothing faster beyond chance among cells that find 2 %: the answer says how much faster one could still be."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("nas",), 0.5)])
    latency = latency_file([measured_row(cell, MEASURED, 0.01, 0.01) for cell in ("none", "nas")])
    (own,) = recommend(cells, latency, 0.02, lambda control, chosen: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0)).profiles
    assert own.answer == (
        f"On `{MEASURED}` keep the control: 1 of 1 combinations stay within 2 points of val mAP, and none of them is faster beyond "
        "chance (a ratio of 1.020x would probably have been found in each)."
    )


def test_an_estimate_says_what_its_error_was_found_on() -> None:
    """Once per recommendation, among its notes."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("nas",), 0.5)])
    rows = [estimated_row(cell, "pi", s, 0.1).model_copy(update={"validated_on": "architectures only"})
            for cell, s in (("none", 0.1), ("nas", 0.05))]  # fmt: skip
    latency = latency_file(rows)
    (own,) = recommend(cells, latency, 0.02, lambda control, chosen: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0)).profiles
    assert "The error of these estimates was found on architectures only." in own.notes


def test_too_few_rounds_show_their_range() -> None:
    """No interval: the ratios of the slowest and the fastest round."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("nas",), 0.5)])
    few = measured_row("nas", MEASURED, 0.005, 0.01).model_copy(
        update={"verdict": "too few rounds", "speedup_ci95": None, "rounds_s": (0.005, 0.004), "control_rounds_s": (0.01, 0.01)}
    )
    latency = latency_file([measured_row("none", MEASURED, 0.01, 0.01), few])
    found = panels(cells, latency)
    recommended = recommend(cells, latency, 0.02, lambda control, chosen: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0))
    assert make_table(cells, found, (), ("nas",), recommended).rows[1].values[-1] == Value(
        text="2.00x", detail="2.00 to 2.50 in 2 rounds, too few to test", sort=2.0
    )
    (own,) = recommended.profiles
    assert "2.0x the control's speed (5.00 ms" in own.answer
    assert own.notes[0] == "Not tested: 2 rounds are too few to say more than their range; 8 are needed."


@pytest.mark.parametrize(("share", "text"), [(-0.0114, "\u22121.1"), (0.0, "0.0"), (-0.0001, "0.0"), (0.02, "+2.0")])
def test_points_have_a_sign(share: float, text: str) -> None:
    """Differences carry their sign; what rounds to nothing carries none."""
    assert points(share) == text


def test_numbers_show_three_digits_that_count() -> None:
    """9.876 ms, 98.76 ms and 987.6 ms; sizes in 10^6 bytes."""
    assert [milliseconds(seconds) for seconds in (0.009876, 0.09876, 0.9876)] == ["9.88", "98.8", "988"]
    assert megabytes(4096 << 10) == "4.19"
