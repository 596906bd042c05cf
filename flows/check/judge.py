"""Each quantity of each cell, now against a baseline: tested, corrected for being one of many, and latencies looked at twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flows.check.baseline import Baseline, parse_detections, read_detections
from flows.check.verdict import Item, ItemVerdict
from flows.records.schema import CONTROL, ArtifactRecord, CellRecord, CellsFile, LatencyFile, LatencyRow
from flows.stats.latency import MIN_ROUNDS, detectable, holm, level_of_next, log_ratio_interval, speedup_change
from flows.stats.map_bootstrap import detectable_difference, paired_map_difference
from flows.sweep.check_settings import Check

ONE_POINT = 0.01
"""A point of mAP, as a share of 1."""


class Candidate(NamedTuple):
    """What looked slower or faster, and is to be measured again."""

    cell: str
    profile: str


@dataclass(frozen=True)
class Fresh:
    """Rounds of a candidate and the control, measured anew; or why there are none."""

    rounds_s: tuple[float, ...] = ()
    control_rounds_s: tuple[float, ...] = ()
    why: str | None = None


Confirm = Callable[[Sequence[Candidate]], Mapping[Candidate, Fresh]]
"""Measures again. A candidate that it does not return counts as one that could not be measured."""


@dataclass(frozen=True)
class Evidence:
    """What is compared, and by which rules."""

    baseline: Baseline
    ground_truth: dict[str, Any]
    resolve: Callable[[str], Path]
    config: Check
    confirm: Confirm | None
    """None: nothing is measured again."""


@dataclass(frozen=True)
class _Tested:
    """An item that chance has a part in, before the correction for being one of many."""

    item: Item
    limit: float
    """A drop up to this is accepted."""
    p: float | None = None
    """None where nothing was tested."""
    drop: float = 0.0
    """How much worse it looks, in the unit of the limit; below 0 when better."""
    worst_drop: float | None = 0.0
    """The unfavourable end of the interval; None without one."""
    detectable: Callable[[float], float | None] = lambda level: None
    """Level of a test -> the smallest change that it would probably have found."""


def screen(evidence: Evidence, cells: CellsFile, latency: LatencyFile) -> tuple[Item, ...]:
    """Every judged item: counts and failures first, then accuracies, then latencies, in the order of the baseline."""
    baseline = evidence.baseline
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
    before_rows = {Candidate(row.cell, row.profile): row for row in baseline.latency.rows if row.cell in made and _judged(row)}
    speeds = [_speed(row, latency.row(row.cell, row.profile), evidence.config) for row in before_rows.values()]
    alpha = evidence.config.alpha
    return (*certain, *_decide(accuracies, alpha), *_confirmed(tuple(_decide(speeds, alpha)), before_rows, evidence))


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


def _accuracy(cell: str, runtime: str, before: ArtifactRecord, now: ArtifactRecord, evidence: Evidence) -> _Tested:
    """mAP now against before on the same pictures; equal detections need no test.

    Equal files are not enough to do without one: another version of their runtime may see other things.
    """
    config = evidence.config
    limit = config.map_drop_points * ONE_POINT
    old, new = (before.test, now.test) if config.split == "test" else (before.val, now.val)
    item = Item(cell=cell, where=runtime, quantity="map_50_95", verdict="ok", before=old.map_50_95, now=new.map_50_95)
    old_text, new_text = evidence.baseline.detections(old.detections), read_detections(evidence.resolve, new.detections)
    if old_text == new_text:
        same = item.model_copy(update={"change": 0.0, "interval": (0.0, 0.0), "why": "equal detections"})
        return _Tested(same, limit)
    difference = paired_map_difference(
        evidence.ground_truth,
        parse_detections(old_text, old.detections),
        parse_detections(new_text, new.detections),
        seed=config.seed,
        draws=config.draws,
        confidence=1.0 - config.alpha,
    )
    judged = item.model_copy(update={"change": difference.mean, "interval": (difference.low, difference.high)})
    return _Tested(
        judged,
        limit,
        p=difference.p,
        drop=-difference.mean,
        worst_drop=-difference.low,
        detectable=lambda level: detectable_difference(difference, level),
    )


def _judged(row: LatencyRow) -> bool:
    """True for measured rows but the control's own: it is the measure. Estimates follow from counts that are judged already."""
    return row.is_measured and bool(row.rounds_s) and row.cell != CONTROL


def _speed(before: LatencyRow, now: LatencyRow | None, config: Check) -> _Tested:
    """The speedup over the control now against before, so that a slower machine does not count."""
    limit = config.latency_drop_share
    item = Item(cell=before.cell, where=before.profile, quantity="speedup", verdict="ok", before=before.speedup)
    if now is None or not now.rounds_s:
        lost = now is not None and now.fits is False and before.fits is not False
        why = "no row" if now is None else now.why or "no rounds"
        return _Tested(item.model_copy(update={"verdict": "regressed" if lost else "missing", "why": why}), limit)
    return _change(item, limit, before, now.rounds_s, now.control_rounds_s, 1.0 - config.alpha)


def _change(
    item: Item,
    limit: float,
    before: LatencyRow,
    rounds_s: Sequence[float],
    control_rounds_s: Sequence[float],
    confidence: float,
) -> _Tested:
    change = speedup_change(rounds_s, control_rounds_s, before.rounds_s, before.control_rounds_s, confidence)
    now = log_ratio_interval(rounds_s, control_rounds_s).ratio
    judged = item.model_copy(update={"now": now, "change": change.ratio, "interval": change.interval})
    if change.interval is None:
        why = f"{change.rounds} rounds are too few for an interval; {MIN_ROUNDS} are needed, then and now"
        judged = judged.model_copy(update={"why": why})
    return _Tested(
        judged,
        limit,
        p=change.p,
        drop=1.0 - change.ratio,
        worst_drop=None if change.interval is None else 1.0 - change.interval[0],
        detectable=lambda level: detectable(change, level),
    )


def _decide(tested: Sequence[_Tested], alpha: float) -> Iterator[Item]:
    """The items with their verdicts, their p values corrected together.

    Regressed: a drop beyond the limit that chance does not explain; improved: the same upwards. Otherwise ok where the
    interval stays within the limit, and inconclusive where it reaches beyond: these pictures or rounds cannot decide.
    """
    p_values = holm([one.p for one in tested if one.p is not None])
    found = sum(p < alpha for p in p_values)
    corrected = iter(p_values)
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
        effect = None
        if p is not None:
            effect = one.detectable(level_of_next("holm", alpha, len(p_values), found - (p < alpha)))
        yield one.item.model_copy(update={"verdict": verdict, "p_holm": p, "minimal_effect": effect})


def _confirmed(screened: Sequence[Item], before: Mapping[Candidate, LatencyRow], evidence: Evidence) -> Iterator[Item]:
    """The items, those that look slower or faster judged anew on fresh rounds alone: a second look with a p value of its own."""
    config = evidence.config
    suspects = {
        Candidate(item.cell, item.where or ""): item
        for item in screened
        if item.verdict in ("regressed", "improved") and item.p_holm is not None
    }
    fresh = evidence.confirm(tuple(suspects)) if evidence.confirm and suspects else {}
    again: dict[Candidate, _Tested] = {}
    for place, item in suspects.items():
        rounds = fresh.get(place, Fresh())
        if rounds.rounds_s and rounds.control_rounds_s:
            blank = item.model_copy(update={"verdict": "ok", "p_holm": None, "minimal_effect": None})
            again[place] = _change(
                blank, config.latency_drop_share, before[place], rounds.rounds_s, rounds.control_rounds_s, 1.0 - config.alpha
            )
    decided = dict(zip(again, _decide(tuple(again.values()), config.alpha), strict=True))
    for item in screened:
        place = Candidate(item.cell, item.where or "")
        if place not in suspects:
            yield item
        elif place in decided:
            yield _second_look(item, decided[place], len(fresh[place].rounds_s))
        else:
            why = "not measured again (--no-confirm)" if evidence.confirm is None else fresh.get(place, Fresh()).why
            yield _unconfirmed(item, why or "no fresh rounds", config)


def _second_look(first: Item, second: Item, rounds: int) -> Item:
    """The judgement on fresh rounds, with what was seen before; two looks that contradict each other decide nothing."""
    assert first.change is not None, "it was tested"
    seen = f"{(first.change - 1.0) * 100:+.1f} % at first"
    if second.verdict == first.verdict:
        return second.model_copy(update={"why": f"confirmed on {rounds} fresh rounds; {seen}"})
    if second.verdict in ("regressed", "improved"):
        return second.model_copy(update={"verdict": "inconclusive", "why": f"{rounds} fresh rounds say the opposite; {seen}"})
    return second.model_copy(update={"why": f"not confirmed on {rounds} fresh rounds; {seen}"})


def _unconfirmed(item: Item, why: str, config: Check) -> Item:
    """A suspicion that nobody could look into; a regression only where the settings say so."""
    if item.verdict == "regressed" and config.unconfirmed == "regression":
        return item.model_copy(update={"why": f"unconfirmed, counted by check.unconfirmed: {why}"})
    return item.model_copy(update={"verdict": "unconfirmed", "why": f"looks {_direction(item)}, unconfirmed: {why}"})


def _direction(item: Item) -> str:
    return "slower" if item.verdict == "regressed" else "faster"
