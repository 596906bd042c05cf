"""`sixfold compare A B`: what B costs and buys beside A, on the same pictures and in the same rounds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from detection.data.dataset import load_prepared, load_split
from detection.frozen import InputError
from flows.compare.two_cells_text import CellComparison, ProfileComparison, RuntimeComparison
from flows.records.detections import read_detections
from flows.records.schema import CellRecord, CellsFile, LatencyFile, LatencyRow, artifact_runtime
from flows.stats.latency import EQUAL_WITHIN, Paired, verdicts
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference, paired_map_difference

ScoredSplit = Literal["val", "test"]
NEAREST = 3
"""So many similar names a refusal offers."""

SPLITS: tuple[ScoredSplit, ...] = ("val", "test")
Truths = Mapping[ScoredSplit, dict[str, Any]]
"""Split -> COCO ground truth."""


def compare(
    cells: CellsFile,
    latency: LatencyFile | None,
    names: tuple[str, str],
    truths: Truths,
    resolve: Callable[[str], Path],
    *,
    seed: int,
    draws: int,
) -> CellComparison:
    """B beside A: paired differences of mAP on every runtime that both have files for, ratios on every profile.

    `resolve` turns a store URL into a path; `seed` and `draws` are of the bootstrap. Each p is of its comparison alone.
    """
    a, b = (_record(cells, name) for name in names)
    if a.cell == b.cell:
        raise InputError(f"{a.cell}: named twice. Name two different cells or references.")
    shared = [runtime for runtime in cells.runtimes if runtime in a.artifacts and runtime in b.artifacts]
    return CellComparison(
        sweep=cells.sweep,
        a=a.cell,
        b=b.cell,
        pictures={split: len(truth["images"]) for split, truth in truths.items()},
        runtimes=tuple(_in_runtime(a, b, runtime, truths, resolve, seed=seed, draws=draws) for runtime in shared),
        profiles=() if latency is None else tuple(_on_profile(cells, latency, name, a, b) for name in latency.profiles()),
    )


def truths_of(cells: CellsFile, prepared: Path) -> Truths:
    """The ground truth that the records were scored on; InputError where something else is prepared now."""
    now = load_prepared(prepared)
    if now.digest != cells.dataset.digest:
        raise InputError(
            f"{prepared}: holds data {now.name!r} ({now.digest[:12]}...), but cells.json was made on {cells.dataset.name!r} "
            f"({cells.dataset.digest[:12]}...). Run `sixfold prepare` and `sixfold grid` again."
        )
    return {split: load_split(prepared, split).ground_truth for split in SPLITS}


def _record(cells: CellsFile, name: str) -> CellRecord:
    """The ok cell or reference of this name."""
    known = {record.cell: record for record in (*cells.cells, *cells.references)}
    record = known.get(name)
    if record is None:
        near = difflib.get_close_matches(name, known, n=NEAREST) or list(known)[:NEAREST]
        raise InputError(
            f"{name!r}: none of the {len(cells.cells)} cells and {len(cells.references)} references of cells.json, such as "
            f"{', '.join(map(repr, near))}. Methods stand in the order of the menu, joined by +."
        )
    if record.status != "ok":
        raise InputError(f"{name!r}: {record.status}, so there is nothing to compare ({record.error}). Run `sixfold grid` again.")
    return record


def _in_runtime(
    a: CellRecord, b: CellRecord, runtime: str, truths: Truths, resolve: Callable[[str], Path], *, seed: int, draws: int
) -> RuntimeComparison:
    first, second = a.artifacts[runtime], b.artifacts[runtime]
    is_same_file = first.digest == second.digest

    def difference(split: ScoredSplit) -> Difference:
        if is_same_file:
            return NO_DIFFERENCE
        found = [read_detections(resolve(getattr(own, split).detections)) for own in (first, second)]
        return paired_map_difference(truths[split], found[0], found[1], seed=seed, draws=draws)

    return RuntimeComparison(
        runtime=runtime,
        val=difference("val"),
        test=difference("test"),
        val_map_50_95=(first.val.map_50_95, second.val.map_50_95),
        test_map_50_95=(first.test.map_50_95, second.test.map_50_95),
        size_bytes=(first.size_bytes, second.size_bytes),
        size_ratio=first.size_bytes / second.size_bytes,
        is_same_file=is_same_file,
    )


def _on_profile(cells: CellsFile, latency: LatencyFile, profile: str, a: CellRecord, b: CellRecord) -> ProfileComparison:
    rows = [latency.measured(record.cell, profile) for record in (a, b)]
    runtime = next((row.runtime for row in latency.rows if row.profile == profile), "")
    first, second = rows
    if first is None or second is None:
        return _no_ratio(
            profile, runtime, "estimated, not measured: no ratio" if _has_time(latency, profile, a, b) else "not measured"
        )
    if why := _why_unpaired(cells, (a, first), (b, second)):
        return _no_ratio(profile, first.runtime, why)
    pair = Paired(str(second.artifact_digest), second.rounds_s, str(first.artifact_digest), first.rounds_s)
    (comparison,) = verdicts([pair])
    assert first.p50_s is not None, "a row with rounds has their median"
    assert second.p50_s is not None, "a row with rounds has their median"
    interval = comparison.interval
    return ProfileComparison(
        profile=profile,
        runtime=first.runtime,
        p50_s=(first.p50_s, second.p50_s),
        comparison=comparison,
        is_equal_within_5_percent=None if interval is None else _is_equal(interval),
        why=None,
    )


def _is_equal(interval: tuple[float, float]) -> bool:
    return interval[0] >= 1 / EQUAL_WITHIN and interval[1] <= EQUAL_WITHIN


def _has_time(latency: LatencyFile, profile: str, *records: CellRecord) -> bool:
    names = {record.cell for record in records}
    return any(row.profile == profile and row.cell in names and row.p50_s is not None for row in latency.rows)


def _why_unpaired(cells: CellsFile, *sides: tuple[CellRecord, LatencyRow]) -> str | None:
    """Why round i of one row was not timed beside round i of the other, or None where it was.

    The control is timed in every round: rows whose rounds have the same times of the control are of the same rounds.
    """
    for record, row in sides:
        if not row.rounds_s:
            return f"`{record.cell}` has no time: {row.why}"
        artifact = record.artifacts.get(artifact_runtime(cells.runtimes, row))
        if artifact is None or artifact.digest != row.artifact_digest:
            return f"`{record.cell}` was measured with another file than cells.json has; run `sixfold measure` again"
    (_, first), (_, second) = sides
    if not first.control_rounds_s or not second.control_rounds_s:
        return "the control was not timed beside them, so nothing shows that they are of the same rounds"
    if (first.control_rounds_s, first.environment) != (second.control_rounds_s, second.environment):
        return "they were not measured in the same rounds; run `sixfold measure` again"
    return None


def _no_ratio(profile: str, runtime: str, why: str) -> ProfileComparison:
    return ProfileComparison(
        profile=profile, runtime=runtime, p50_s=None, comparison=None, is_equal_within_5_percent=None, why=why
    )  # fmt: skip
