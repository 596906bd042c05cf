"""`sixfold compare A B`: what B costs and buys compared with A, on the same pictures and in the same rounds; data, then text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from detection.data.dataset import load_prepared, load_split
from detection.frozen import Frozen, InputError
from flows.records.formatting import interval, larger_or_smaller, megabytes, milliseconds, p_value, points, with_interval
from flows.records.schema import CellRecord, CellsFile, LatencyFile, LatencyRow, RecordFile, ScoredSplit, artifact_runtime
from flows.records.store import Store
from flows.stats.latency import EQUAL_WITHIN, Comparison, Paired, verdicts
from flows.stats.map_bootstrap import Difference, artifact_difference

NEAREST = 3
"""Similar names that a refusal offers."""
SPLITS: tuple[ScoredSplit, ...] = get_args(ScoredSplit)
Truths = Mapping[ScoredSplit, dict[str, Any]]
"""Split -> COCO ground truth."""
HEADS = ("where", "what", "A", "B", "B compared with A", "95 %", "p")
"""Of the table."""


class RuntimeComparison(Frozen):
    """Accuracy and size of both as files of one runtime."""

    runtime: str
    val: Difference
    """Of mAP 50-95, B minus A. Val chose among the cells, so it flatters what was chosen."""
    test: Difference
    val_map_50_95: tuple[float, float]
    """Of A and B, as are the next two."""
    test_map_50_95: tuple[float, float]
    size_bytes: tuple[int, int]
    size_ratio: float
    """A's size over B's: above 1 B is smaller."""
    is_same_file: bool


class ProfileComparison(Frozen):
    """Measured latency of both on one profile; modelled times are never compared here."""

    profile: str
    runtime: str
    """Name and version."""
    p50_s: tuple[float, float] | None = None
    """Of A and B; None where `why` says why."""
    comparison: Comparison | None = None
    """Of B with A: its ratio is A's time over B's, above 1 where B is faster. None where `why` says why."""
    is_equal_within_5_percent: bool | None = None
    """Whether the whole interval of the ratio lies within 5 %; None without an interval."""
    why: str | None = None


class CellComparison(RecordFile):
    """What `sixfold compare --json` prints."""

    sweep: str
    a: str
    b: str
    pictures: dict[str, int]
    """Split -> pictures that the differences of mAP rest on."""
    runtimes: tuple[RuntimeComparison, ...]
    profiles: tuple[ProfileComparison, ...]


def compare(
    cells: CellsFile, latency: LatencyFile | None, names: tuple[str, str], truths: Truths, store: Store, *, seed: int, draws: int
) -> CellComparison:
    """B compared with A: paired differences of mAP on every runtime that both have files for, ratios on every profile.

    `seed` and `draws` are of the bootstrap. Each p is of its comparison alone.
    """
    a, b = (made_record(cells, name) for name in names)
    if a.cell == b.cell:
        raise InputError(f"{a.cell}: named twice. Name two different cells or references.")
    shared = [runtime for runtime in cells.runtimes if runtime in a.artifacts and runtime in b.artifacts]
    return CellComparison(
        sweep=cells.sweep,
        a=a.cell,
        b=b.cell,
        pictures={split: len(truth["images"]) for split, truth in truths.items()},
        runtimes=tuple(_in_runtime(a, b, runtime, truths, store, seed=seed, draws=draws) for runtime in shared),
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


def made_record(cells: CellsFile, name: str) -> CellRecord:
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
        raise InputError(f"{name!r}: {record.status}, so there is no file of it ({record.error}). Run `sixfold grid` again.")
    return record


def _in_runtime(
    a: CellRecord, b: CellRecord, runtime: str, truths: Truths, store: Store, *, seed: int, draws: int
) -> RuntimeComparison:
    pair = first, second = a.artifacts[runtime], b.artifacts[runtime]
    found = {split: artifact_difference(truths[split], split, pair, store, seed=seed, draws=draws) for split in SPLITS}
    return RuntimeComparison(
        runtime=runtime,
        val=found["val"],
        test=found["test"],
        val_map_50_95=(first.val.map_50_95, second.val.map_50_95),
        test_map_50_95=(first.test.map_50_95, second.test.map_50_95),
        size_bytes=(first.size_bytes, second.size_bytes),
        size_ratio=first.size_bytes / second.size_bytes,
        is_same_file=first.digest == second.digest,
    )


def _on_profile(cells: CellsFile, latency: LatencyFile, profile: str, a: CellRecord, b: CellRecord) -> ProfileComparison:
    rows = [row for row in latency.rows if row.profile == profile]
    first, second = (latency.measured(record.cell, profile) for record in (a, b))
    if first is None or second is None:
        has_time = any(row.cell in (a.cell, b.cell) and row.p50_s is not None for row in rows)
        why = "estimated, not measured: no ratio" if has_time else "not measured"
        return ProfileComparison(profile=profile, runtime=rows[0].runtime, why=why)
    if unpaired := _why_unpaired(cells, (a, first), (b, second)):
        return ProfileComparison(profile=profile, runtime=first.runtime, why=unpaired)
    pair = Paired(str(second.artifact_digest), second.rounds_s, str(first.artifact_digest), first.rounds_s)
    (comparison,) = verdicts([pair])
    assert first.p50_s is not None, "a row with rounds has their median"
    assert second.p50_s is not None, "a row with rounds has their median"
    bounds = comparison.interval
    return ProfileComparison(
        profile=profile,
        runtime=first.runtime,
        p50_s=(first.p50_s, second.p50_s),
        comparison=comparison,
        is_equal_within_5_percent=None if bounds is None else bounds[0] >= 1 / EQUAL_WITHIN and bounds[1] <= EQUAL_WITHIN,
    )


def _why_unpaired(cells: CellsFile, *sides: tuple[CellRecord, LatencyRow]) -> str | None:
    """Why round i of one row was not timed together with round i of the other, or None where it was.

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
        return "the control was not timed in the same rounds, so nothing shows that they are of the same rounds"
    if (first.control_rounds_s, first.environment) != (second.control_rounds_s, second.environment):
        return "they were not measured in the same rounds; run `sixfold measure` again"
    return None


def sentences(found: CellComparison) -> tuple[str, ...]:
    """The answer: one sentence per runtime and one per profile that has measured both."""
    lines = [_runtime_sentence(found, own) for own in found.runtimes]
    if not lines:
        lines = [f"`{found.a}` and `{found.b}` have no file of the same runtime, so their accuracy is not compared."]
    speeds = [_profile_sentence(found, own.profile, own.comparison, own) for own in found.profiles if own.comparison is not None]
    return (*lines, *(speeds or ["No profile has measured both in the same rounds, so nothing is said of their speed."]))


def _runtime_sentence(found: CellComparison, own: RuntimeComparison) -> str:
    if own.is_same_file:
        return f"In {own.runtime} both are the same file."
    test, (a_bytes, b_bytes) = own.test, own.size_bytes
    accuracy = f"and `{found.a}` are test mAP not significantly different"
    if test.low > 0.0 or test.high < 0.0:
        accuracy = f"has {'more' if test.low > 0.0 else 'less'} test mAP than `{found.a}`"
    change = with_interval(f"{points(test.mean)} points", (test.low, test.high), points)
    size = "the files are equally large"
    if a_bytes != b_bytes:
        size = f"the file of `{found.b}` is {larger_or_smaller(own.size_ratio)}"
    return f"In {own.runtime} `{found.b}` {accuracy}: {change}; {size} ({megabytes(b_bytes)} MB against {megabytes(a_bytes)} MB)."


def _profile_sentence(found: CellComparison, profile: str, speed: Comparison, own: ProfileComparison) -> str:
    if speed.verdict == "same file":
        return f"On {profile} both are the same file, so equally fast."
    if speed.interval is None:
        low, high = speed.range
        few = f"{low:.2f} to {high:.2f} in {speed.rounds} rounds, too few to test"
        return f"On {profile} `{found.b}` runs at {speed.ratio:.2f}x the speed of `{found.a}` ({few})."
    exact = with_interval(f"{speed.ratio:.3f}x", speed.interval, ".3f")
    if own.is_equal_within_5_percent:
        return f"On {profile} they are equally fast within 5 %: {exact}."
    if speed.verdict == "not significant":
        return f"On {profile} they are neither significantly different nor shown to be equal within 5 %: {exact}."
    low, high = speed.interval
    ratio, bounds = (speed.ratio, (low, high)) if speed.verdict == "faster" else (1 / speed.ratio, (1 / high, 1 / low))
    return f"On {profile} " + with_interval(f"`{found.b}` is {ratio:.2f}x {speed.verdict} than `{found.a}`", bounds) + "."


def rows(found: CellComparison) -> tuple[tuple[str, ...], ...]:
    """The lines of the table under HEADS: mAP and size per runtime, measured latency per profile or why there is none."""
    lines: list[tuple[str, ...]] = []
    for own in found.runtimes:
        for split, change, maps in (("val", own.val, own.val_map_50_95), ("test", own.test, own.test_map_50_95)):
            spread = interval((change.low, change.high), points)
            shown = (f"{maps[0]:.3f}", f"{maps[1]:.3f}", f"{points(change.mean)} pt", spread, p_value(change.p))
            lines.append((own.runtime, f"{split} mAP", *shown))
        lines.append((own.runtime, "size, MB", *map(megabytes, own.size_bytes), larger_or_smaller(own.size_ratio), "", ""))
    for place in found.profiles:
        speed = place.comparison
        if speed is None or place.p50_s is None:
            lines.append((place.profile, "p50, ms", "", "", place.why or "", "", ""))
            continue
        spread = interval(speed.interval, ".3f") or f"{speed.rounds} rounds"
        shown_ms = map(milliseconds, place.p50_s)
        lines.append((place.profile, "p50, ms", *shown_ms, f"{speed.ratio:.3f}x the speed", spread, p_value(speed.p)))
    return tuple(lines)
