"""What the records say: which cells are worth having on each profile, and which one to choose. Reads val only, never test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detection.frozen import Frozen
from flows.records.schema import (
    CONTROL,
    GIVEN,
    CellRecord,
    CellsFile,
    ComputeType,
    LatencyFile,
    LatencyRow,
    Source,
    artifact_runtime,
)
from flows.stats.latency import EQUAL_WITHIN

ROUNDING = 1e-9
"""Slack when mAPs are compared: 0.52 - 0.50 is a little more than 0.02 in floating point."""
WEAKEST_FIRST: tuple[Source, ...] = ("estimated", "calibrated", "measured")
"""A profile may be calibrated in float and only estimated in int8: of all together the weakest can be said."""
TIERS = (0.99, 0.95)
"""Shares of the control's mAP that MLPerf's edge suite accepts."""


class Point(LatencyRow):
    """All that a choice may look at: the row of one ok cell, which has a time, and its val accuracy. No test number, on purpose."""

    p50_s: float
    methods: tuple[str, ...]
    computes_in: ComputeType
    val_map: float
    size_bytes: int
    by_chance: bool = False
    """Whether a search chose it whose ranking, checked, may be chance: then it is not recommended."""

    @property
    def is_tested(self) -> bool:
        """Whether there were rounds enough to say faster, slower or neither."""
        return self.verdict not in (None, "too few rounds")


class Panel(Frozen):
    """One profile with the cells that have a number there; measured and modelled numbers never share a panel."""

    profile: str
    source: Source
    """Of its times; where some are calibrated and others estimated, estimated."""
    runtime: str
    """Name and version, as recorded."""
    artifacts_of: str
    """Runtime whose files give accuracy and size: the profile's own, or the sweep's first where the sweep made none for it."""
    points: tuple[Point, ...]
    references: tuple[Point, ...] = ()
    """With a number of the same kind; never among the points."""
    validated_on: tuple[str, ...] = ()
    """Which networks the errors of its modelled times were found on; empty where measured, or fitted on none."""

    @property
    def is_measured(self) -> bool:
        """Whether the latencies come from a clock."""
        return self.source == "measured"

    @property
    def has_own_artifacts(self) -> bool:
        """Whether the sweep made files for the runtime of this profile."""
        return self.runtime.split()[:1] == [self.artifacts_of]

    @property
    def baseline(self) -> Point | None:
        """What drops are told against: the control, or the detector as it was brought where that has the better val mAP."""
        control, given = self.point(CONTROL), self.point(GIVEN)
        return control if control is None or given is None or given.val_map <= control.val_map else given

    @property
    def simpler(self) -> tuple[Point, ...]:
        """The references that combinations have to beat: simpler ways to a smaller network."""
        return tuple(point for point in self.references if point.cell != GIVEN)

    def point(self, name: str) -> Point | None:
        """The point of the named cell or reference, or None."""
        return next((point for point in (*self.points, *self.references) if point.cell == name), None)


class Tier(Frozen):
    """The fastest cell that keeps a share of the baseline's val mAP."""

    share: float
    cell: str
    speedup: float | None


class Choice(Frozen):
    """What is recommended on one profile, and what it was compared with."""

    verdict: Literal["recommended", "keep_uncompressed", "undecided"] = "undecided"
    """keep_uncompressed: no combination is both within the drop and faster. undecided: the control has no number here."""
    cell: str | None = None
    max_drop: float
    compared: int
    """Combinations that have a number on this profile, the control not counted."""
    within_drop: int = 0
    """Of those, how many lose at most max_drop of the control's val mAP."""
    front: tuple[str, ...]
    """Cells that no other beats in both val mAP and latency, fastest first."""
    indistinguishable: tuple[str, ...] = ()
    """Other cells within the drop whose speedup interval overlaps the chosen one's, fastest first."""
    tiers: tuple[Tier, ...] = ()
    control_below_threshold: bool = False
    """Whether the control itself has no more val mAP than may be lost: then what detects nothing qualifies too."""


@dataclass(frozen=True)
class Findings:
    """A sweep's records and what follows from them, worked out once for everything that shows it."""

    cells: CellsFile
    latency: LatencyFile
    max_drop: float
    """Permitted loss of val mAP against the control, in shares of 1."""
    panels: tuple[Panel, ...]
    choices: tuple[Choice, ...]
    """For each panel."""

    @classmethod
    def of(cls, cells: CellsFile, latency: LatencyFile, max_drop: float) -> Findings:
        """The findings of a sweep."""
        of_references = panels(cells.model_copy(update={"cells": cells.references}), latency)
        points = {(own.profile, own.is_measured): own.points for own in of_references}
        found = tuple(
            own.model_copy(update={"references": points.get((own.profile, own.is_measured), ())}) for own in panels(cells, latency)
        )
        return cls(cells, latency, max_drop, found, tuple(choose(panel, max_drop) for panel in found))


def panels(cells: CellsFile, latency: LatencyFile) -> tuple[Panel, ...]:
    """One panel per profile and kind, measured or modelled, in the order of the latency file.

    Cells without number, or that do not fit, are left out.
    """
    ok = {cell.cell: cell for cell in cells.cells if cell.status == "ok"}
    grouped: dict[tuple[str, bool], list[LatencyRow]] = {}
    for row in latency.rows:
        if row.cell in ok and row.p50_s is not None and row.fits is not False:
            grouped.setdefault((row.profile, row.is_measured), []).append(row)
    found = []
    for (profile, _), rows in grouped.items():
        artifacts_of = artifact_runtime(cells.runtimes, rows[0])
        made = [(row, ok[row.cell], own) for row in rows if (own := ok[row.cell].artifacts.get(artifacts_of))]
        found.append(
            Panel(
                profile=profile,
                source=min((row.source for row in rows), key=WEAKEST_FIRST.index),
                runtime=rows[0].runtime,
                artifacts_of=artifacts_of,
                points=tuple(
                    Point(
                        **dict(row),
                        methods=cell.methods,
                        computes_in=cell.computes_in,
                        val_map=artifact.val.map_50_95,
                        size_bytes=artifact.size_bytes,
                        by_chance=cell.ranking is not None and cell.ranking.is_chance,
                    )
                    for row, cell, artifact in made
                ),
                validated_on=tuple(dict.fromkeys(row.validated_on for row in rows if row.validated_on)),
            )
        )
    return tuple(found)


def pareto(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points that no other beats in both val mAP and latency, fastest first, so mAP rises along them."""
    front: list[Point] = []
    for point in sorted(points, key=_fastest_first):
        if not front or point.val_map > front[-1].val_map:
            front.append(point)
    return tuple(front)


def choose(panel: Panel, max_drop: float) -> Choice:
    """The fastest cell whose val mAP lies at most max_drop below the baseline's; the baseline where none is
    faster than the control.

    Where the rounds allow a test, faster means beyond chance; where they do not, by the point; where the time is modelled, by
    more than models resolve. Of cells that are not significantly slower than the fastest, the one with the best val mAP is taken.
    """
    control, baseline = panel.point(CONTROL), panel.baseline
    others = [point for point in panel.points if point.cell != CONTROL]
    front = tuple(point.cell for point in pareto(panel.points))
    if control is None or baseline is None:
        return Choice(max_drop=max_drop, compared=len(others), front=front)
    within = [point for point in others if baseline.val_map - point.val_map <= max_drop + ROUNDING]
    proven = [point for point in within if not point.by_chance]
    candidates = [point for point in proven if point.verdict == "faster" or (not point.is_tested and _is_ahead(point, control))]
    fastest = min([*candidates, control], key=_fastest_first)
    as_fast = [] if fastest is control else [point for point in candidates if _overlap(point, fastest)]
    best = max([fastest, *as_fast], key=lambda point: point.val_map)
    return Choice(
        verdict="keep_uncompressed" if best is control else "recommended",
        cell=baseline.cell if best is control else best.cell,
        max_drop=max_drop,
        compared=len(others),
        within_drop=len(within),
        front=front,
        indistinguishable=tuple(point.cell for point in sorted(within, key=_fastest_first) if _overlap(point, best)),
        tiers=tuple(_tier(tuple(own for own in panel.points if not own.by_chance), baseline, share) for share in TIERS),
        control_below_threshold=baseline.val_map <= max_drop + ROUNDING,
    )


def ranking_sentences(cells: CellsFile) -> tuple[str, ...]:
    """What searches that checked themselves found, one sentence for each."""
    checked = {cell.ranking.words(): cell for cell in cells.cells if cell.ranking is not None}
    return tuple(_ranking_sentence(cell, words) for words, cell in checked.items())


def _ranking_sentence(cell: CellRecord, words: str) -> str:
    assert cell.ranking is not None
    name = f"nas:{cell.labels['nas']}" if "nas" in cell.labels else "nas"
    if cell.ranking.is_chance:
        return (
            f"The supernet of {name} may rank networks by chance: {words}, whose interval holds 0. No cell with it is recommended."
        )
    return f"The supernet of {name} ranks networks as their trainings do, by {words}."


def reference_to_beat(p50_s: float, references: Sequence[Point]) -> tuple[Point, bool]:
    """The best reference (by val mAP) that is as fast, and True; the fastest one, and False, where none is."""
    fast = [own for own in references if own.p50_s <= p50_s * EQUAL_WITHIN]
    best = max(fast, key=lambda own: own.val_map, default=None)
    return best or min(references, key=lambda own: own.p50_s), best is not None


def _is_ahead(point: Point, control: Point) -> bool:
    """Whether an untested time is below the control's; a modelled one by more than models resolve."""
    return point.p50_s * (1.0 if point.source == "measured" else EQUAL_WITHIN) < control.p50_s


def _fastest_first(point: Point) -> tuple[float, float, int, str]:
    """Order by latency; equal ones by mAP, then by how few methods they need, then by name."""
    return point.p50_s, -point.val_map, len(point.methods), point.cell


def _overlap(point: Point, best: Point) -> bool:
    if point.cell == best.cell or point.speedup_ci95 is None or best.speedup_ci95 is None:
        return False
    return point.speedup_ci95[0] <= best.speedup_ci95[1] and best.speedup_ci95[0] <= point.speedup_ci95[1]


def _tier(points: tuple[Point, ...], baseline: Point, share: float) -> Tier:
    kept = [point for point in points if point.val_map >= share * baseline.val_map - ROUNDING]
    fastest = min([*kept, baseline], key=_fastest_first)  # which keeps all of its mAP
    return Tier(share=share, cell=fastest.cell, speedup=fastest.speedup)
