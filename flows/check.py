"""The gate: are the results of this sweep worse than an accepted baseline? Answers with a verdict per item and an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from detection.frozen import Frozen, InputError
from flows.baseline import MANIFEST, Baseline, baseline_names, parse_detections, read_baseline, read_detections
from flows.records import CONTROL, ArtifactRecord, CellRecord, CellsFile, LatencyFile, LatencyRow, write_records
from flows.statistics import holm, paired_map_difference, speedup_change
from flows.verdict import EXIT_CODES, Item, ItemVerdict, Overall, Verdict, render, summarise

ONE_POINT = 0.01
"""A point of mAP, as a share of 1."""


class Check(Frozen):
    """What counts as a regression."""

    split: Literal["val", "test"] = "test"
    """Whose detections are compared, in the baseline and now."""
    map_drop_points: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """A drop of mAP 50-95 up to this many points (of 100) is accepted."""
    latency_drop_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """A loss of up to this share of the speedup over the control is accepted: fresh processes differ by less than 5 %."""
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Chance of a false alarm over all mAP comparisons together, and over all latency comparisons together (Holm)."""
    draws: Annotated[int, Field(ge=100)] = 1000
    """Of the bootstrap over pictures."""
    seed: int = 0
    """Of the bootstrap."""


def check(
    baseline_folder: Path,
    cells: CellsFile,
    latency: LatencyFile,
    ground_truth: dict[str, Any],
    resolve: Callable[[str], Path],
    config: Check,
    out_folder: Path,
) -> int:
    """The exit code of the gate: 0 ok, 1 regression, 2 not comparable, 3 incomplete, 4 no baseline.

    `ground_truth` is of `config.split`. The verdict lies in `verdict.json` and `verdict.md` of the out folder, whatever the code.
    """
    verdict = judge(baseline_folder, cells, latency, ground_truth, resolve, config)
    write_records(out_folder / "verdict.json", verdict)
    page = out_folder / "verdict.md"
    partial = page.with_name(page.name + ".partial")
    partial.write_text(render(verdict))
    partial.replace(page)
    return verdict.exit_code


def judge(
    baseline_folder: Path,
    cells: CellsFile,
    latency: LatencyFile,
    ground_truth: dict[str, Any],
    resolve: Callable[[str], Path],
    config: Check,
) -> Verdict:
    """The verdict on the current results; nothing is written."""

    def conclude(overall: Overall, answer: str, items: tuple[Item, ...] = (), notes: tuple[str, ...] = ()) -> Verdict:
        return Verdict(
            overall=overall,
            exit_code=EXIT_CODES[overall],
            answer=answer,
            baseline=baseline_folder.name,
            sweep=cells.sweep,
            split=config.split,
            rules=_rules(config),
            notes=notes,
            items=items,
        )

    if not (baseline_folder / MANIFEST).is_file():
        known = ", ".join(baseline_names(baseline_folder.parent)) or "none"
        return conclude(
            "no_baseline",
            f"There is no baseline {baseline_folder.name!r} in {baseline_folder.parent} (known: "
            f"{known}). Make one of results you trust: `sixfold check --accept {baseline_folder.name}`.",
        )
    try:
        baseline = read_baseline(baseline_folder)
        _require_same_data(baseline.cells, cells, ground_truth, config)
        items = _items(_Evidence(baseline, ground_truth, resolve, config), cells, latency)
    except InputError as error:
        return conclude("not_comparable", str(error))
    return conclude(*summarise(items), items, tuple(_notes(baseline, cells, latency)))


def _require_same_data(before: CellsFile, now: CellsFile, ground_truth: dict[str, Any], config: Check) -> None:
    if before.dataset.digest != now.dataset.digest:
        raise InputError(
            f"the baseline was made on data {before.dataset.name!r} ({before.dataset.digest[:12]}...), this sweep on "
            f"{now.dataset.name!r} ({now.dataset.digest[:12]}...): their mAP cannot be compared. Check against a "
            "baseline of the same data, or accept this sweep as a new baseline with `sixfold check --accept NAME`."
        )
    pictures, expected = len(ground_truth["images"]), now.dataset.pictures[config.split]
    if pictures != expected:
        raise InputError(
            f"the {config.split} ground truth has {pictures} pictures, cells.json speaks of {expected}. "
            "Run `sixfold prepare` and `sixfold grid` again."
        )


@dataclass(frozen=True)
class _Evidence:
    """What accuracies are compared on."""

    baseline: Baseline
    ground_truth: dict[str, Any]
    resolve: Callable[[str], Path]
    config: Check


@dataclass(frozen=True)
class _Tested:
    """An item that chance has a part in, before the correction for being one of many."""

    item: Item
    p: float | None
    """None where nothing was tested."""
    drop: float
    """How much worse it looks, in the unit of the limit; below 0 when better."""
    worst_drop: float | None
    """The unfavourable end of the interval; None without one."""
    limit: float


def _items(evidence: _Evidence, cells: CellsFile, latency: LatencyFile) -> tuple[Item, ...]:
    """Every judged item: counts and failures first, then accuracies, then latencies, in the order of the baseline."""
    baseline, config = evidence.baseline, evidence.config
    certain: list[Item] = []
    accuracies: list[_Tested] = []
    for name, before, now in _pairs(baseline.cells, cells):
        if now is None or now.status != "ok":
            why = "not in this sweep" if now is None else f"{now.status}: {now.error or 'no reason recorded'}"
            certain.append(Item(cell=name, quantity="cell", verdict="missing", why=why))
        elif before is not None and before.status == "ok":
            certain += [_exact(name, None, "params", before.params, now.params), _exact(name, None, "macs", before.macs, now.macs)]
            for runtime, old in before.artifacts.items():
                new = now.artifacts.get(runtime)
                if new is None:
                    missing = Item(cell=name, where=runtime, quantity="artifact", verdict="missing", why="no file for this runtime")
                    certain.append(missing)
                else:
                    certain.append(_exact(name, runtime, "size_bytes", old.size_bytes, new.size_bytes))
                    accuracies.append(_accuracy(name, runtime, old, new, evidence))
    made = {cell.cell for cell in cells.cells if cell.status == "ok"}
    speeds = [
        _speed(row, latency.row(row.cell, row.profile), config)
        for row in baseline.latency.rows
        if row.cell in made and _judged(row)
    ]
    return (*certain, *_decide(accuracies, config.alpha), *_decide(speeds, config.alpha))


def _pairs(before: CellsFile, now: CellsFile) -> Iterator[tuple[str, CellRecord | None, CellRecord | None]]:
    for cell in before.cells:
        yield cell.cell, cell, now.cell(cell.cell)
    for cell in now.cells:
        if before.cell(cell.cell) is None:
            yield cell.cell, None, cell


def _exact(
    cell: str, where: str | None, quantity: Literal["params", "macs", "size_bytes"], before: int | None, now: int | None
) -> Item:
    """A count without chance in it: any growth is a regression."""
    assert before is not None, "an ok cell has its counts"
    assert now is not None, "an ok cell has its counts"
    verdict: ItemVerdict = "ok" if now == before else "regressed" if now > before else "improved"
    return Item(cell=cell, where=where, quantity=quantity, verdict=verdict, before=before, now=now, change=now - before)


def _accuracy(cell: str, runtime: str, before: ArtifactRecord, now: ArtifactRecord, evidence: _Evidence) -> _Tested:
    """mAP now against before on the same pictures; equal detections need no test."""
    config = evidence.config
    limit = config.map_drop_points * ONE_POINT
    old, new = (before.test, now.test) if config.split == "test" else (before.val, now.val)
    old_text, new_text = evidence.baseline.detections(old.detections), read_detections(evidence.resolve, new.detections)
    item = Item(cell=cell, where=runtime, quantity="map_50_95", verdict="ok", before=old.map_50_95, now=new.map_50_95)
    if old_text == new_text:
        same = item.model_copy(update={"change": 0.0, "interval": (0.0, 0.0), "why": "equal detections"})
        return _Tested(same, None, 0.0, 0.0, limit)
    difference = paired_map_difference(
        evidence.ground_truth,
        parse_detections(old_text, old.detections),
        parse_detections(new_text, new.detections),
        seed=config.seed,
        draws=config.draws,
        confidence=1.0 - config.alpha,
    )
    judged = item.model_copy(update={"change": difference.mean, "interval": (difference.low, difference.high)})
    return _Tested(judged, difference.p, -difference.mean, -difference.low, limit)


def _judged(row: LatencyRow) -> bool:
    """True for measured rows but the control's own: it is the measure. Estimates follow from counts that are judged already."""
    return row.source == "measured" and bool(row.rounds_s) and row.cell != CONTROL


def _speed(before: LatencyRow, now: LatencyRow | None, config: Check) -> _Tested:
    """The speedup over the control now against before, so that a slower machine does not count."""
    limit = config.latency_drop_share
    item = Item(cell=before.cell, where=before.profile, quantity="speedup", verdict="ok", before=before.speedup)
    if now is None or not now.rounds_s:
        lost = now is not None and now.fits is False and before.fits is not False
        why = "no row" if now is None else now.why or "no rounds"
        return _Tested(item.model_copy(update={"verdict": "regressed" if lost else "missing", "why": why}), None, 0.0, 0.0, limit)
    change = speedup_change(now.rounds_s, now.control_rounds_s, before.rounds_s, before.control_rounds_s, 1.0 - config.alpha)
    judged = item.model_copy(update={"now": now.speedup, "change": change.ratio, "interval": change.interval})
    if change.interval is None:
        judged = judged.model_copy(update={"why": f"{change.rounds} rounds are too few for an interval"})
    worst = None if change.interval is None else 1.0 - change.interval[0]
    return _Tested(judged, change.p, 1.0 - change.ratio, worst, limit)


def _decide(tested: list[_Tested], alpha: float) -> Iterator[Item]:
    """The items with their verdicts, their p values corrected together.

    Regressed: a drop beyond the limit that chance does not explain; improved: the same upwards. Otherwise ok where the
    interval stays within the limit, and inconclusive where it reaches beyond: these pictures or rounds cannot decide.
    """
    corrected = iter(holm([one.p for one in tested if one.p is not None]))
    for one in tested:
        p = next(corrected) if one.p is not None else None
        if one.item.verdict != "ok":
            yield one.item
            continue
        verdict: ItemVerdict = "ok"
        if p is not None and p < alpha and abs(one.drop) > one.limit:
            verdict = "regressed" if one.drop > 0.0 else "improved"
        elif one.worst_drop is None or one.worst_drop > one.limit:
            verdict = "inconclusive"
        yield one.item.model_copy(update={"verdict": verdict, "p_holm": p})


def _notes(baseline: Baseline, cells: CellsFile, latency: LatencyFile) -> Iterator[str]:
    """What a reader should know before believing the verdict."""
    added = [cell.cell for cell in cells.cells if baseline.cells.cell(cell.cell) is None]
    if added:
        yield f"Not in the baseline, so not judged: {', '.join(added)}."
    failed = [cell.cell for cell in baseline.cells.cells if cell.status != "ok"]
    if failed:
        yield f"Not ok in the baseline, so nothing to compare with: {', '.join(failed)}."
    for profile in baseline.latency.profiles():
        before, now = baseline.latency.row(CONTROL, profile), latency.row(CONTROL, profile)
        if before is None or now is None or before.source != "measured":
            continue
        if before.environment != now.environment or before.runtime != now.runtime:
            yield (
                f"{profile}: measured in another environment than the baseline ({before.runtime}, then {now.runtime}). Speedups "
                "are against the control of the same rounds, yet another CPU or runtime may favour other cells."
            )
        if before.p50_s is not None and now.p50_s is not None:
            yield f"{profile}: the control took {before.p50_s * 1e3:.2f} ms and takes {now.p50_s * 1e3:.2f} ms (not judged)."
        if before.artifact_digest != now.artifact_digest:
            yield f"{profile}: the control is another file than in the baseline; speedups are against it."


def _rules(config: Check) -> tuple[str, ...]:
    """How the items were judged, in sentences."""
    return (
        "params, MACs and size: exactly; any growth is a regression.",
        f"mAP 50-95 on {config.split}: regressed when it dropped by more than {config.map_drop_points:g} points and a paired "
        f"bootstrap over pictures ({config.draws} draws, seed {config.seed}; Holm over all comparisons) excludes chance at "
        f"{config.alpha:g}; inconclusive when the {1 - config.alpha:.0%} interval reaches a drop beyond that.",
        f"Latency, as speedup over the control of the same rounds: likewise, with a loss of more than "
        f"{config.latency_drop_share:.0%} and Welch's t on the log ratios of rounds. Estimated latencies are not judged: they "
        "follow from counts that are.",
    )
