"""Which recommendation of a profile has its model exported."""

from __future__ import annotations

import pytest

from flows.records.schema import LatencyRow
from flows.report.recommendation import recommend
from flows.stats.map_bootstrap import NO_DIFFERENCE
from tests.flows.records_factory import cells_file, empty_row, estimated_row, latency_file, measured_row, ok_cell

BOTH = "half-known"
"""A profile with measured and with estimated rows."""
TIMED = (measured_row("none", BOTH, 0.010, 0.010), measured_row("pruning", BOTH, 0.005, 0.010))
MODELLED = (estimated_row("none", BOTH, 0.010, 0.010), estimated_row("nas", BOTH, 0.001, 0.010))


def exported(*rows: LatencyRow) -> list[tuple[str, str, str | None, str | None]]:
    """Profile, source, chosen cell and folder of each recommendation."""
    cells = cells_file([ok_cell(methods, 0.5) for methods in ((), ("nas",), ("pruning",))])
    found = recommend(cells, latency_file(rows), 0.02, lambda *_: NO_DIFFERENCE).profiles
    return [(own.profile, own.source, own.chosen.cell if own.chosen else None, own.exported_to) for own in found]


@pytest.mark.parametrize("rows", [(*TIMED, *MODELLED), (*MODELLED, *TIMED)], ids=["measured first", "estimated first"])
def test_what_a_clock_chose_is_exported_before_what_a_model_chose(rows: tuple[LatencyRow, ...]) -> None:
    """Both are recommended, one folder is filled, whatever the order of the rows and however fast the estimate."""
    assert sorted(exported(*rows)) == [(BOTH, "estimated", "nas", None), (BOTH, "measured", "pruning", BOTH)]


def test_an_estimate_is_exported_where_the_clock_chose_nothing() -> None:
    """The measured control has no number: there is nothing to copy but the modelled choice."""
    busy = empty_row("none", BOTH, "core was busy")
    assert exported(busy, TIMED[1], *MODELLED) == [(BOTH, "measured", None, None), (BOTH, "estimated", "nas", BOTH)]


def test_each_profile_has_a_folder_of_its_own() -> None:
    """A measured profile takes nothing away from an estimated one."""
    elsewhere = [row.model_copy(update={"profile": "board"}) for row in MODELLED]
    assert exported(*elsewhere, *TIMED) == [("board", "estimated", "nas", "board"), (BOTH, "measured", "pruning", BOTH)]
