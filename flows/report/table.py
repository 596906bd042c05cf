"""The table of the report: one row per cell; every number with the value it is sorted by; estimates in columns of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from detection.frozen import Frozen
from flows.publish.marked_page import table as markdown_table
from flows.records.formatting import interval, megabytes, milliseconds, points, times
from flows.records.schema import CONTROL, CellRecord, CellsFile, LatencyRow, Source, SpeedVerdict, is_reference
from flows.report.findings import Findings, Panel, Point
from flows.report.recommendation import RecommendationFile
from flows.stats.factorial import methods_of
from flows.stats.verdicts import FLAG_TITLES, count_verdicts, verdict_text


class Value(Frozen):
    """What a table cell shows, and what it is sorted by (None goes last)."""

    text: str
    detail: str = ""
    """An interval, shown smaller."""
    sort: float | None = None
    on_front: bool = False
    """Whether the number belongs to a cell on the Pareto front of its profile."""


class Group(Frozen):
    """Columns under one heading."""

    title: str
    columns: tuple[str, ...]
    note: str = ""
    is_estimate: bool = False


class Row(Frozen):
    """One cell or reference."""

    cell: str
    dots: dict[str, Literal["on", "off", "no_effect"]]
    """Method -> whether it is in the cell, and changed anything."""
    chosen_on: tuple[str, ...]
    from_scratch: bool
    """Whether it takes no weight over from the detector that the user brought."""
    values: tuple[Value, ...]
    """In the order of the groups' columns."""


class Table(Frozen):
    """All ok cells, then the references, which are never counted among them."""

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    references: tuple[Row, ...]


VERDICTS: tuple[SpeedVerdict, ...] = ("faster", "slower", "not significant", "same file", "too few rounds")
MISSING = Value(text="\u2013")


def make_table(findings: Findings, recommended: RecommendationFile) -> Table:
    """The table of a sweep; recommended.profiles are in the order of the panels."""
    cells = findings.cells
    groups = [Group(title="network", columns=("params, M", "MACs, M"))]
    of_files = ("size, MB", "val mAP", "change, pt", "test mAP")
    groups += [Group(title=runtime, note="exported file", columns=of_files) for runtime in cells.runtimes]
    groups += [
        Group(
            title=panel.profile,
            note=f"{' and '.join(_sources(panel))}, {panel.runtime}",
            is_estimate=not panel.is_measured,
            columns=("p50, ms", "speedup") if panel.is_measured else ("estimate, ms", "estimated speedup"),
        )
        for panel in findings.panels
    ]
    of_references = [panel.model_copy(update={"points": panel.references}) for panel in findings.panels]
    return Table(
        groups=tuple(groups),
        rows=tuple(_row(cell, cells, findings.panels, recommended) for cell in cells.cells if cell.status == "ok"),
        references=tuple(_row(own, cells, of_references, recommended) for own in cells.references if own.status == "ok"),
    )


def verdict_lines(rows: Sequence[LatencyRow]) -> tuple[str, ...]:
    """For a terminal, a line per profile: how often each verdict and flag, with the minimum detectable effects."""
    lines = []
    for (profile, source), counts in count_verdicts(rows).items():
        own = [row for row in rows if (row.profile, row.source) == (profile, source) and row.verdict == "not significant"]
        effects = sorted(row.minimum_detectable_effect for row in own if row.minimum_detectable_effect is not None)
        reach = dict.fromkeys(map(times, effects[:1] + effects[-1:]))
        would = f" (minimum detectable effect {' to '.join(reach)})" if effects else ""
        said = [
            f"{counts[verdict]} {verdict}{would if verdict == 'not significant' else ''}" for verdict in VERDICTS if counts[verdict]
        ]
        said += [f"{counts[flag]} {title}" for flag, title in FLAG_TITLES.items() if counts[flag]]
        lines.append(f"{profile} ({source}): {', '.join(said) or 'not compared'}")
    return tuple(lines)


def as_markdown(table: Table) -> str:
    """The table in Markdown, references last."""
    heads = ["cell"] + [f"{group.title}: {column}" for group in table.groups for column in group.columns]
    lines = []
    for row in (*table.rows, *table.references):
        is_unnamed_reference = row in table.references and not is_reference(row.cell)
        mark = " (from scratch)" if row.from_scratch else ""
        mark += f" (chosen: {', '.join(row.chosen_on)})" if row.chosen_on else " (reference)" if is_unnamed_reference else ""
        values = [f"{value.text} {value.detail}".strip() + (" ●" if value.on_front else "") for value in row.values]
        lines.append([f"`{row.cell}`{mark}", *values])
    return markdown_table(heads, lines, left=1)


def _sources(panel: Panel) -> tuple[Source, ...]:
    """Where its numbers come from, in order of first appearance."""
    return tuple(dict.fromkeys(point.source for point in panel.points)) or (panel.source,)


def _row(cell: CellRecord, cells: CellsFile, found: Sequence[Panel], recommended: RecommendationFile) -> Row:
    missed = "; ".join(target.in_words() for target in cell.missed)
    values = [_count(cell.params), _count(cell.macs).model_copy(update={"detail": missed})]
    for runtime in cells.runtimes:
        values += _accuracy(cell, cells.baseline(runtime), runtime)
    is_cell = any(own is cell for own in cells.cells)
    for panel, own in zip(found, recommended.profiles, strict=True):
        values += _latency(panel, panel.point(cell.cell), is_cell and cell.cell in own.front)
    return Row(
        cell=cell.cell,
        dots={
            own: "off" if own not in cell.methods else "no_effect" if own in cell.no_effect else "on" for own in methods_of(cells)
        },
        chosen_on=tuple(own.profile for own in recommended.profiles if own.chosen and own.chosen.cell == cell.cell),
        from_scratch=cell.from_scratch,
        values=tuple(values),
    )


def _count(number: int | None) -> Value:
    if number is None:
        return MISSING
    millions = number / 1e6
    digits = 2 if millions < 10 else 1 if millions < 100 else 0
    return Value(text=f"{millions:,.{digits}f}", sort=number)


def _accuracy(cell: CellRecord, baseline: CellRecord | None, runtime: str) -> list[Value]:
    artifact = cell.artifacts.get(runtime)
    if artifact is None:
        return [MISSING] * 4
    own = baseline.artifacts.get(runtime) if baseline else None
    change = artifact.val.map_50_95 - own.val.map_50_95 if own else None
    return [
        Value(text=megabytes(artifact.size_bytes), sort=artifact.size_bytes),
        Value(text=f"{artifact.val.map_50_95:.3f}", sort=artifact.val.map_50_95),
        MISSING if change is None else Value(text=points(change), sort=change),
        Value(text=f"{artifact.test.map_50_95:.3f}", sort=artifact.test.map_50_95),
    ]


def _latency(panel: Panel, point: Point | None, on_front: bool) -> list[Value]:
    if point is None:
        return [MISSING] * 2
    details = []
    if not panel.is_measured:
        details += [interval(point.interval_s, milliseconds)] if point.interval_s else []
        details += [point.source] if len(_sources(panel)) > 1 else []
    about = "" if panel.is_measured else "≈ "
    time = Value(text=about + milliseconds(point.p50_s), sort=point.p50_s, on_front=on_front, detail=" ".join(details))
    if point.speedup is None:
        return [time, MISSING]
    details = [interval(point.speedup_ci95), _verdict(point), *(FLAG_TITLES[kind] for kind in point.flags)]
    return [time, Value(text=f"{about}{point.speedup:.2f}x", detail="; ".join(filter(None, details)), sort=point.speedup)]


def _verdict(point: Point) -> str:
    """What the interval does not already say: that no difference is significant, with the minimum detectable effect."""
    if point.cell == CONTROL or point.verdict == "faster":
        return ""
    if point.verdict == "too few rounds":
        ratios = [control / own for control, own in zip(point.control_rounds_s, point.rounds_s, strict=True)]
        return f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds, too few to test"
    return verdict_text(point.verdict, point.minimum_detectable_effect)
