"""What the records say: which cells are worth having on each profile, and which one to ship. Reads val only, never test."""

from __future__ import annotations

from typing import Literal

from detection.frozen import Frozen
from flows.records import CONTROL, CellRecord, CellsFile, LatencyFile, LatencyRow, Source

ROUNDING = 1e-9
"""Slack when mAPs are compared: 0.52 - 0.50 is a little more than 0.02 in floating point."""
TIERS = (0.99, 0.95)
"""Shares of the control's mAP that MLPerf's edge suite accepts."""
SMALLER_SHARE = 0.95
"""A file counts as smaller from 5 % on: below that graph metadata decides."""


class Point(Frozen):
    """All that a choice may look at: cost and val accuracy of one ok cell on one profile. No test number, on purpose."""

    cell: str
    methods: tuple[str, ...]
    val_map: float
    size_bytes: int
    p50_s: float
    interval_s: tuple[float, float] | None
    speedup: float | None
    speedup_ci95: tuple[float, float] | None

    @property
    def is_int8(self) -> bool:
        """Whether the file computes in 8-bit integers."""
        return "quantization" in self.methods


class Panel(Frozen):
    """One profile with the cells that have a number there; measured and estimated numbers never share a panel."""

    profile: str
    source: Source
    runtime: str
    """Name and version, as recorded."""
    artifacts_of: str
    """Runtime whose files give accuracy and size: the profile's own, or the sweep's first where the sweep made none for it."""
    points: tuple[Point, ...]

    @property
    def is_measured(self) -> bool:
        """Whether the latencies come from a clock."""
        return self.source == "measured"

    @property
    def has_own_artifacts(self) -> bool:
        """Whether the sweep made files for the runtime of this profile."""
        return self.runtime.split()[:1] == [self.artifacts_of]

    def point(self, cell: str) -> Point | None:
        """The named cell's point, or None."""
        return next((point for point in self.points if point.cell == cell), None)


class Tier(Frozen):
    """The fastest cell that keeps a share of the control's val mAP."""

    share: float
    cell: str
    speedup: float | None


class Choice(Frozen):
    """What to ship on one profile, and what the choice stood against."""

    profile: str
    source: Source
    verdict: Literal["ship", "keep_control", "undecided"]
    """keep_control: no combination is both within the drop and faster. undecided: the control has no number here."""
    cell: str | None
    max_drop: float
    compared: int
    """Combinations that have a number on this profile, the control not counted."""
    within_drop: int
    """Of those, how many lose at most max_drop of the control's val mAP."""
    front: tuple[str, ...]
    """Cells that no other beats in both val mAP and latency, fastest first."""
    not_told_apart: tuple[str, ...]
    """Other cells within the drop whose speedup interval overlaps the chosen one's, fastest first."""
    tiers: tuple[Tier, ...]


class Flag(Frozen):
    """A combination that did not buy what one expects of it."""

    kind: Literal["smaller, not faster", "int8 slower than float"]
    cell: str
    profile: str
    source: Source
    why: str


def panels(cells: CellsFile, latency: LatencyFile) -> tuple[Panel, ...]:
    """One panel per (profile, source), in the order of the latency file; cells without number, or that do not fit, are left out."""
    ok = {cell.cell: cell for cell in cells.cells if cell.status == "ok"}
    grouped: dict[tuple[str, Source], list[LatencyRow]] = {}
    for row in latency.rows:
        if row.cell in ok and row.p50_s is not None and row.fits is not False:
            grouped.setdefault((row.profile, row.source), []).append(row)
    found = []
    for (profile, source), rows in grouped.items():
        artifacts_of = artifact_runtime(cells, rows[0])
        points = (_point(ok[row.cell], artifacts_of, row) for row in rows)
        found.append(
            Panel(
                profile=profile,
                source=source,
                runtime=rows[0].runtime,
                artifacts_of=artifacts_of,
                points=tuple(point for point in points if point is not None),
            )
        )
    return tuple(found)


def artifact_runtime(cells: CellsFile, row: LatencyRow) -> str:
    """The sweep's runtime whose files speak for a row: its own, or the first where the sweep made no file for it."""
    name = row.runtime.split()[0] if row.runtime.strip() else ""
    return name if name in cells.runtimes else cells.runtimes[0]


def pareto(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points that no other beats in both val mAP and latency, fastest first, so mAP rises along them."""
    front: list[Point] = []
    for point in sorted(points, key=_fastest_first):
        if not front or point.val_map > front[-1].val_map:
            front.append(point)
    return tuple(front)


def choose(panel: Panel, max_drop: float) -> Choice:
    """The fastest cell whose val mAP lies at most max_drop below the control's; the control where none of them is faster.

    Of cells that the clock cannot tell from the fastest, the one with the highest val mAP is taken.
    """
    control = panel.point(CONTROL)
    others = [point for point in panel.points if point.cell != CONTROL]
    front = tuple(point.cell for point in pareto(panel.points))
    if control is None:
        return Choice(
            profile=panel.profile,
            source=panel.source,
            verdict="undecided",
            cell=None,
            max_drop=max_drop,
            compared=len(others),
            within_drop=0,
            front=front,
            not_told_apart=(),
            tiers=(),
        )
    within = [point for point in others if control.val_map - point.val_map <= max_drop + ROUNDING]
    fastest = min([*within, control], key=_fastest_first)
    as_fast = [] if fastest is control else [point for point in within if _overlap(point, fastest)]
    best = max([fastest, *as_fast], key=lambda point: point.val_map)
    return Choice(
        profile=panel.profile,
        source=panel.source,
        verdict="keep_control" if best is control else "ship",
        cell=best.cell,
        max_drop=max_drop,
        compared=len(others),
        within_drop=len(within),
        front=front,
        not_told_apart=tuple(point.cell for point in sorted(within, key=_fastest_first) if _overlap(point, best)),
        tiers=tuple(_tier(panel.points, control, share) for share in TIERS),
    )


def flags(found: tuple[Panel, ...]) -> tuple[Flag, ...]:
    """Every cell that is smaller without being faster, and every int8 cell slower than its own float parent."""
    raised: list[Flag] = []
    for panel in found:
        for point in panel.points:
            why = {
                "smaller, not faster": _smaller_not_faster(panel, point),
                "int8 slower than float": _slower_than_float(panel, point),
            }
            raised += [
                Flag.model_validate(
                    {"kind": kind, "cell": point.cell, "profile": panel.profile, "source": panel.source, "why": reason}
                )
                for kind, reason in why.items()
                if reason
            ]
    return tuple(raised)


def _point(cell: CellRecord, runtime: str, row: LatencyRow) -> Point | None:
    artifact = cell.artifacts.get(runtime)
    if artifact is None or row.p50_s is None:
        return None
    return Point(
        cell=cell.cell,
        methods=cell.methods,
        val_map=artifact.val.map_50_95,
        size_bytes=artifact.size_bytes,
        p50_s=row.p50_s,
        interval_s=row.interval_s,
        speedup=row.speedup,
        speedup_ci95=row.speedup_ci95,
    )


def _fastest_first(point: Point) -> tuple[float, float, int, str]:
    """Order by latency; equal ones by mAP, then by how few methods they need, then by name."""
    return point.p50_s, -point.val_map, len(point.methods), point.cell


def _overlap(point: Point, best: Point) -> bool:
    if point.cell == best.cell or point.speedup_ci95 is None or best.speedup_ci95 is None:
        return False
    return point.speedup_ci95[0] <= best.speedup_ci95[1] and best.speedup_ci95[0] <= point.speedup_ci95[1]


def _tier(points: tuple[Point, ...], control: Point, share: float) -> Tier:
    kept = [point for point in points if point.val_map >= share * control.val_map - ROUNDING]
    fastest = min(kept, key=_fastest_first)  # the control itself keeps all of its mAP, so there is always one
    return Tier(share=share, cell=fastest.cell, speedup=fastest.speedup)


def _smaller_not_faster(panel: Panel, point: Point) -> str:
    control = panel.point(CONTROL)
    if control is None or point.speedup is None or point.size_bytes > SMALLER_SHARE * control.size_bytes:
        return ""
    if (point.speedup_ci95[0] if point.speedup_ci95 else point.speedup) > 1.0:
        return ""
    return f"{control.size_bytes / point.size_bytes:.1f}x smaller, yet {_speed(point)} the control's speed"


def _slower_than_float(panel: Panel, point: Point) -> str:
    parent = next((p for p in panel.points if point.is_int8 and p.methods == _without_int8(point.methods)), None)
    if parent is None or point.p50_s <= parent.p50_s:
        return ""
    apart = "" if point.speedup_ci95 is None or not _overlap(point, parent) else ", intervals overlap"
    return f"{point.p50_s * 1e3:.2f} ms against {parent.p50_s * 1e3:.2f} ms of {parent.cell}{apart}"


def _without_int8(methods: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(method for method in methods if method != "quantization")


def _speed(point: Point) -> str:
    interval = f" [{point.speedup_ci95[0]:.2f}, {point.speedup_ci95[1]:.2f}]" if point.speedup_ci95 else ""
    return f"{point.speedup:.2f}x{interval}"
