"""What a chosen cell has to beat: the best reference that is as fast. Time and val mAP say which; test is looked at afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from detection.frozen import Frozen
from flows.records.schema import LatencyRow
from flows.report.pareto import Panel
from flows.stats.latency import EQUAL_WITHIN, Comparison, Paired, verdicts
from flows.stats.map_bootstrap import Difference


class Beside(Frozen):
    """A reference beside the chosen cell, on one profile that measured both."""

    reference: str
    is_as_fast: bool
    """False where no reference is, and this is the fastest."""
    p50_s: float
    size_bytes: int
    val_map: float
    test_map: float
    speed: Comparison | None
    """Of the cell beside it: above 1 the cell is faster. None where they were not timed in the same rounds."""
    test_difference: Difference
    """Of mAP, the cell's minus the reference's."""


class Timed(NamedTuple):
    """All that decides which reference is the one to beat."""

    name: str
    p50_s: float
    val_map: float


def best_no_slower(p50_s: float, references: Iterable[Timed]) -> Timed | None:
    """Of the references that take no longer, within what counts as equal, the one with the best val mAP; None where none does."""
    fast = [own for own in references if own.p50_s <= p50_s * EQUAL_WITHIN]
    return max(fast, key=lambda own: own.val_map, default=None)


def rival(cell: str, panel: Panel, references: Panel) -> tuple[str, bool] | None:
    """The reference that a cell of a panel has to beat and whether it is as fast; the fastest one where none is.

    None where no other reference has a number there. `references` is the panel of the same profile and kind.
    """
    point = panel.point(cell)
    timed = [Timed(own.cell, own.p50_s, own.val_map) for own in references.points]
    if point is None or not timed:
        return None
    best = best_no_slower(point.p50_s, timed)
    return (min(timed, key=lambda own: own.p50_s).name, False) if best is None else (best.name, True)


def speed_beside(own: LatencyRow, other: LatencyRow) -> Comparison | None:
    """The other's time over one's own, where both were timed in the same rounds beside the same control; else None."""
    if not own.rounds_s or not other.rounds_s:
        return None
    same = (own.profile, own.environment, own.control_rounds_s) == (other.profile, other.environment, other.control_rounds_s)
    if not same:
        return None
    (compared,) = verdicts([Paired(str(own.artifact_digest), own.rounds_s, str(other.artifact_digest), other.rounds_s)])
    return compared
