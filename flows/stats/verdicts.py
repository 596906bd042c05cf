"""Verdicts of the rows from their rounds, and flags: smaller networks that are not faster, int8 files slower than float ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from detection.frozen import Frozen
from flows.records.formatting import count, listed, times, with_interval
from flows.records.schema import (
    CONTROL,
    CellRecord,
    CellsFile,
    FlagKind,
    LatencyRow,
    Source,
    SpeedVerdict,
    artifact_runtime,
    is_reference,
)
from flows.stats.latency import EQUAL_WITHIN, Comparison, Paired, verdicts

SMALLER_SHARE = 0.95
"""A file or a network counts as smaller from 5 % on: below that graph metadata decides, and no clock would tell."""
FLAG_TITLES: dict[FlagKind, str] = {
    "smaller_not_faster": "smaller, not faster",
    "int8_slower_than_float": "int8 slower than its float parent",
}
NAMED = 4
"""Cells that a sentence names; what all of them share says more than a longer list, and the rows have the flags."""


class Flag(Frozen):
    """A combination that did not buy what one expects of it."""

    kind: FlagKind
    cell: str
    profile: str
    source: Source
    why: str
    """The numbers behind it."""


def with_verdicts(cells: CellsFile, rows: Sequence[LatencyRow]) -> tuple[LatencyRow, ...]:
    """The rows, in their order, with verdicts, corrected p values, minimal effects and flags.

    All files measured on a profile, references included, are one family of tests against the control; all int8 files there
    against the file of the same cell without quantization are another.
    """
    groups: dict[tuple[str, bool, str | None], list[LatencyRow]] = {}
    for row in rows:
        groups.setdefault((row.profile, row.is_measured, row.environment), []).append(row)
    records = {record.cell: record for record in (*cells.cells, *cells.references)}
    done: dict[tuple[str, str, bool], LatencyRow] = {}
    for group in groups.values():
        compared = _against_control(group)
        slower = _slower_than_float(group, records)
        for row in group:
            own = compared.get(row.cell)
            verdict, p, effect = (own.verdict, own.p_corrected, own.minimum_detectable_effect) if own else (None, None, None)
            judged = row.model_copy(update={"verdict": verdict, "p_holm": p, "minimum_detectable_effect": effect})
            kinds: tuple[FlagKind, ...] = ("smaller_not_faster",) if _smaller_not_faster(judged, cells, records) else ()
            kinds += ("int8_slower_than_float",) if row.cell in slower else ()
            done[_place(row)] = judged.model_copy(update={"flags": kinds})
    return tuple(done[_place(row)] for row in rows)


def flags_of(cells: CellsFile, rows: Sequence[LatencyRow]) -> tuple[Flag, ...]:
    """The flags of the rows with the numbers behind them, in the order of the rows."""
    records = {record.cell: record for record in (*cells.cells, *cells.references)}
    by_place = {_place(row): row for row in rows}
    found = []
    for row in rows:
        for kind in row.flags:
            if kind == "smaller_not_faster":
                why = _how_much_smaller(row, cells, records)
            else:
                parent = float_parent(records[row.cell], records.values())
                if parent is None:  # flagged by a version that took float16 files for int8
                    continue
                why = _how_much_slower(row, by_place[parent.cell, row.profile, row.is_measured])
            found.append(Flag(kind=kind, cell=row.cell, profile=row.profile, source=row.source, why=why))
    return tuple(found)


def flag_sentences(flags: Sequence[Flag]) -> tuple[str, ...]:
    """One sentence per kind, profile and source: how many cells, what they share, and the first few by name; no references."""
    groups: dict[tuple[FlagKind, str, Source], list[str]] = {}
    for flag in (own for own in flags if not is_reference(own.cell)):
        groups.setdefault((flag.kind, flag.profile, flag.source), []).append(flag.cell)
    return tuple(_sentence(*place, names) for place, names in groups.items())


def count_verdicts(rows: Sequence[LatencyRow]) -> dict[tuple[str, Source], Counter[SpeedVerdict | FlagKind]]:
    """How often each verdict and flag was given to a cell, per profile and source; the control itself is not counted."""
    counts: dict[tuple[str, Source], Counter[SpeedVerdict | FlagKind]] = {}
    for row in rows:
        if row.cell != CONTROL and row.p50_s is not None and not is_reference(row.cell):
            own = counts.setdefault((row.profile, row.source), Counter())
            own.update([row.verdict] if row.verdict is not None else [])
            own.update(row.flags)
    return counts


def verdict_text(verdict: SpeedVerdict | None, minimum_detectable_effect: float | None) -> str:
    """A verdict as tables show it, "not significant" with the minimum detectable effect; empty if None."""
    if verdict == "not significant" and minimum_detectable_effect is not None:
        return f"not significant (minimum detectable effect {times(minimum_detectable_effect)})"
    return verdict or ""


def float_parent(record: CellRecord, records: Iterable[CellRecord]) -> CellRecord | None:
    """Of an int8 cell the same without quantization: same other methods, their configurations and seed; None where none is."""
    if record.computes_in != "int8":
        return None
    methods = tuple(method for method in record.methods if method != "quantization")
    variant = {method: config for method, config in record.variant.items() if method != "quantization"}
    wanted = (methods, variant, record.seed)
    return next((other for other in records if (other.methods, other.variant, other.seed) == wanted), None)


def _place(row: LatencyRow) -> tuple[str, str, bool]:
    """What there is one row of: measured and modelled ones never meet."""
    return row.cell, row.profile, row.is_measured


def _against_control(group: Sequence[LatencyRow]) -> dict[str, Comparison]:
    """Cell -> what its rounds say compared with the control's."""
    control = next((row for row in group if row.cell == CONTROL and row.rounds_s), None)
    if control is None:
        return {}
    timed = [row for row in group if row.rounds_s and row.control_rounds_s]
    reference = str(control.artifact_digest)
    pairs = [Paired(str(row.artifact_digest), row.rounds_s, reference, row.control_rounds_s) for row in timed]
    return {row.cell: own for row, own in zip(timed, verdicts(pairs), strict=True)}


def _slower_than_float(group: Sequence[LatencyRow], records: dict[str, CellRecord]) -> set[str]:
    """Int8 cells slower than their float parents: beyond chance where tested; modelled ones by more than models resolve."""
    by_cell = {row.cell: row for row in group if row.p50_s is not None}
    slower: set[str] = set()
    pairs: dict[str, Paired] = {}
    for name, row in by_cell.items():
        parent = float_parent(records[name], records.values()) if name in records else None
        other = by_cell.get(parent.cell) if parent else None
        if other is None:
            continue
        if row.rounds_s and row.control_rounds_s == other.control_rounds_s:  # the same rounds
            pairs[name] = Paired(str(row.artifact_digest), row.rounds_s, str(other.artifact_digest), other.rounds_s)
        elif not row.rounds_s and _seconds(row) > EQUAL_WITHIN * _seconds(other):
            slower.add(name)
    for name, own in zip(pairs, verdicts(list(pairs.values())), strict=True):
        if own.verdict == "slower" or (own.verdict == "too few rounds" and own.ratio < 1.0):
            slower.add(name)
    return slower


def _smaller_not_faster(row: LatencyRow, cells: CellsFile, records: dict[str, CellRecord]) -> bool:
    """Whether file or MACs fell and the latency did not, for all that the rounds show; by the point alone where untested.

    A modelled time has to fall by more than models resolve.
    """
    if row.cell == CONTROL or row.speedup is None or not _how_much_smaller(row, cells, records):
        return False
    if row.verdict is None or row.verdict == "too few rounds":
        return row.speedup <= (1.0 if row.source == "measured" else EQUAL_WITHIN)
    return row.verdict != "faster"


def _how_much_smaller(row: LatencyRow, cells: CellsFile, records: dict[str, CellRecord]) -> str:
    """What fell, and what that bought; empty where nothing fell."""
    record, control = records.get(row.cell), cells.cell(CONTROL)
    if record is None or control is None:
        return ""
    runtime = artifact_runtime(cells.runtimes, row)
    own, other = record.artifacts.get(runtime), control.artifacts.get(runtime)
    fell = []
    if own and other and own.size_bytes <= SMALLER_SHARE * other.size_bytes:
        fell.append(f"file {other.size_bytes / own.size_bytes:.1f}x smaller")
    if record.macs and control.macs and record.macs <= SMALLER_SHARE * control.macs:
        fell.append(f"{control.macs / record.macs:.1f}x fewer MACs")
    if not fell:
        return ""
    speed = with_interval(f"{row.speedup or 0.0:.3f}x the control's speed", row.speedup_ci95, ".3f")
    return f"{' and '.join(fell)}, {speed}{_basis(row)}"


def _how_much_slower(row: LatencyRow, parent: LatencyRow) -> str:
    compared = f"{_seconds(row) * 1e3:.2f} ms against {_seconds(parent) * 1e3:.2f} ms of {parent.cell}"
    tested = ", beyond chance on paired rounds" if row.verdict not in (None, "too few rounds") else ""
    return f"{compared}{tested or _basis(row)}"


def _basis(row: LatencyRow) -> str:
    """What the statement rests on, where that is less than a test."""
    if row.source != "measured":
        return f", {row.source}"
    if row.verdict == "too few rounds":
        return f", {len(row.rounds_s)} rounds are too few to test"
    text = verdict_text(row.verdict, row.minimum_detectable_effect)
    return f", {text}" if text else ""


def _sentence(kind: FlagKind, profile: str, source: Source, names: Sequence[str]) -> str:
    what = "smaller than the control and not faster" if kind == "smaller_not_faster" else "slower in int8 than in float"
    basis = "" if source == "measured" else f" ({source}, not measured)"
    shared = [f"`{method}`" for method in names[0].split("+") if all(method in name.split("+") for name in names)]
    of_them = f", all of them with {' and '.join(shared)}" if shared and len(names) > NAMED else ""
    cells = f"{count(len(names), 'combination')} {'is' if len(names) == 1 else 'are'}"
    return f"On `{profile}`{basis} {cells} {what}{of_them}: {listed(names, NAMED)}."


def _seconds(row: LatencyRow) -> float:
    assert row.p50_s is not None, "only rows with a time are compared"
    return row.p50_s
