"""The table shows every number once, with the value it is sorted by, and keeps estimates apart."""

from __future__ import annotations

from compressors.target import Target
from flows.records.formatting import times
from flows.records.schema import CellsFile, LatencyFile
from flows.report.findings import Findings
from flows.report.recommendation import recommend
from flows.report.table import Table, Value, as_markdown, make_table, verdict_lines
from flows.stats.map_bootstrap import Difference
from flows.stats.verdicts import with_verdicts
from tests.flows.records_factory import MEASURED, cells_file, eight_cells, latency_file, measured_row, ok_cell


def table_of(cells: CellsFile, latency: LatencyFile) -> Table:
    """With the recommendations of this sweep on it."""
    findings = Findings.of(cells, latency, 0.02)
    return make_table(findings, recommend(findings, lambda *_: Difference(mean=0.0, low=-0.1, high=0.1, p=1.0)))


def test_table_marks_front_and_keeps_numbers_apart() -> None:
    """The control's row: 10 ms measured, about 100 ms estimated with its interval; `pruning` is on both fronts."""
    cells, latency = eight_cells()
    table = table_of(cells, latency)
    control = table.rows[0].values
    assert control[-4:] == (
        Value(text="10.0", sort=0.010),
        Value(text="1.00x", detail="[0.98, 1.02]", sort=1.0),
        Value(text="≈ 100", detail="[62.5, 160]", sort=0.1),
        Value(text="≈ 1.00x", sort=1.0),
    )
    assert [group.is_estimate for group in table.groups] == [False, False, False, False, True]
    assert list(table.rows[1].dots.values()) == ["on", "off", "off"]
    assert "5.00 ●" in as_markdown(table)


def test_a_missed_target_stands_beside_the_multiply_adds() -> None:
    """What stayed and what was asked, in the row of the cell that missed it and in no other."""
    cells, latency = eight_cells()
    target = Target(method="pruning", setting="keep_macs", asked=0.5, reached=0.521)
    short = tuple(own.model_copy(update={"missed": (target,)}) if own.cell == "pruning" else own for own in cells.cells)
    told = cells.model_copy(update={"cells": short})
    table = table_of(told, latency)
    details = {row.cell: row.values[1].detail for row in table.rows}
    assert details.pop("pruning") == "pruning: 52% stay where keep_macs asks for 50%"
    assert set(details.values()) == {""}


def test_no_difference_stands_beside_what_would_be_found() -> None:
    """A cell at 1.01x: its interval, that it is no difference, the smallest one that would be, and its flag."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("nas",), 0.5, size_bytes=1 << 19)])
    rows = with_verdicts(cells, [measured_row("none", MEASURED, 0.01, 0.01), measured_row("nas", MEASURED, 0.0099, 0.01)])
    latency = latency_file(rows)
    row = table_of(cells, latency).rows[1]
    effect = times(rows[1].minimum_detectable_effect or 0.0)
    assert row.values[-1].detail == f"[0.99, 1.03]; not significant (minimum detectable effect {effect}); smaller, not faster"
    assert verdict_lines(rows) == (
        f"{MEASURED} (measured): 1 not significant (minimum detectable effect {effect}), 1 smaller, not faster",
    )


def test_too_few_rounds_show_their_range() -> None:
    """No interval: the ratios of the slowest and the fastest round."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("nas",), 0.5)])
    few = measured_row("nas", MEASURED, 0.005, 0.01).model_copy(
        update={"verdict": "too few rounds", "speedup_ci95": None, "rounds_s": (0.005, 0.004), "control_rounds_s": (0.01, 0.01)}
    )
    latency = latency_file([measured_row("none", MEASURED, 0.01, 0.01), few])
    assert table_of(cells, latency).rows[1].values[-1] == Value(
        text="2.00x", detail="2.00 to 2.50 in 2 rounds, too few to test", sort=2.0
    )
