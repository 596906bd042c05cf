"""What the gate compares: each quantity of each cell, now against a baseline, and again on fresh rounds where times differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.check.baseline import Baseline
from flows.check.confirm import Candidate, Confirm
from flows.check.verdict import Item, Tested, of_counts, of_missing_times, of_second_look, of_tested, of_unconfirmed
from flows.records.schema import CONTROL, ArtifactRecord, CellsFile, LatencyFile, LatencyRow
from flows.records.store import Store, parse_detections
from flows.stats.latency import MIN_ROUNDS, log_ratio_interval, speedup_change
from flows.stats.map_bootstrap import map_difference
from flows.sweep.settings import Check


@dataclass(frozen=True)
class Evidence:
    """What is compared, and by which rules."""

    baseline: Baseline
    ground_truth: dict[str, Any]
    store: Store
    config: Check
    confirm: Confirm | None
    """None: nothing is measured again."""


def compare_items(evidence: Evidence, cells: CellsFile, latency: LatencyFile) -> tuple[Item, ...]:
    """Every judged item: counts and failures first, then accuracies, then latencies, in the order of the baseline."""
    baseline = evidence.baseline
    certain: list[Item] = []
    accuracies: list[Tested] = []
    for name in dict.fromkeys(cell.cell for cell in (*baseline.cells.cells, *cells.cells)):
        before, now = baseline.cells.cell(name), cells.cell(name)
        if now is None or now.status != "ok":
            why = "not in this sweep" if now is None else f"{now.status}: {now.error or 'no reason recorded'}"
            certain.append(Item(cell=name, quantity="cell", verdict="missing", why=why))
        elif before is not None and before.status == "ok":
            certain += [
                of_counts(name, None, "params", before.params, now.params),
                of_counts(name, None, "macs", before.macs, now.macs),
            ]
            for runtime, old in before.artifacts.items():
                new = now.artifacts.get(runtime)
                if new is None:
                    gone = Item(cell=name, where=runtime, quantity="artifact", verdict="missing", why="no file for this runtime")
                    certain.append(gone)
                else:
                    certain.append(of_counts(name, runtime, "size_bytes", old.size_bytes, new.size_bytes))
                    accuracies.append(_accuracy(name, runtime, old, new, evidence))
    made = {cell.cell for cell in cells.cells if cell.status == "ok"}
    before_rows = {Candidate(row.cell, row.profile): row for row in baseline.latency.rows if row.cell in made and _judged(row)}
    speeds = [_speed(row, latency.row(row.cell, row.profile), evidence.config) for row in before_rows.values()]
    judged = tuple(of_tested(speeds, evidence.config))
    return (*certain, *of_tested(accuracies, evidence.config), *_confirmed(judged, before_rows, evidence))


def _accuracy(cell: str, runtime: str, before: ArtifactRecord, now: ArtifactRecord, evidence: Evidence) -> Tested:
    """mAP now against before on the same pictures; equal detections need no test.

    Equal files are not enough to do without one: another version of their runtime may see other things.
    """
    config = evidence.config
    old, new = before.on(config.split), now.on(config.split)
    item = Item(cell=cell, where=runtime, quantity="map_50_95", verdict="ok", before=old.map_50_95, now=new.map_50_95)
    old_text, new_text = evidence.baseline.detections(old.detections), evidence.store.file(new.detections).read_bytes()
    if old_text == new_text:
        same = {"change": 0.0, "interval": (0.0, 0.0), "why": "equal detections"}
        return item.model_copy(update=same), None
    pair = parse_detections(old_text, old.detections), parse_detections(new_text, new.detections)
    difference = map_difference(evidence.ground_truth, [pair], seed=config.seed, draws=config.draws, confidence=1.0 - config.alpha)
    found = {"change": difference.mean, "interval": (difference.low, difference.high)}
    return item.model_copy(update=found), difference


def _judged(row: LatencyRow) -> bool:
    """True for measured rows but the control's own: it is the measure. Estimates follow from counts that are judged already."""
    return row.is_measured and bool(row.rounds_s) and row.cell != CONTROL


def _speed(before: LatencyRow, now: LatencyRow | None, config: Check) -> Tested:
    """The speedup over the control now against before, so that a slower machine does not count."""
    item = Item(cell=before.cell, where=before.profile, quantity="speedup", verdict="ok", before=before.speedup)
    if now is None or not now.rounds_s:
        why = "no row" if now is None else now.why or "no rounds"
        gone = {"verdict": of_missing_times(before, now), "why": why}
        return item.model_copy(update=gone), None
    return _change(item, before, now, config)


def _change(item: Item, before: LatencyRow, now: LatencyRow, config: Check) -> Tested:
    change = speedup_change(now.rounds_s, now.control_rounds_s, before.rounds_s, before.control_rounds_s, 1.0 - config.alpha)
    few = f"{change.rounds} rounds are too few for an interval; {MIN_ROUNDS} are needed, then and now"
    found = {
        "now": log_ratio_interval(now.rounds_s, now.control_rounds_s).ratio,
        "change": change.ratio,
        "interval": change.interval,
        "why": item.why if change.interval else few,
    }
    return item.model_copy(update=found), change


def _confirmed(items: Sequence[Item], before: Mapping[Candidate, LatencyRow], evidence: Evidence) -> Iterator[Item]:
    """The items; those that look slower or faster are judged on fresh rounds alone, a second test with a p value of its own."""
    config = evidence.config
    suspects = {
        Candidate(item.cell, item.where or ""): item
        for item in items
        if item.verdict in ("regressed", "improved") and item.p_holm is not None
    }
    fresh = evidence.confirm(tuple(suspects)) if evidence.confirm and suspects else {}
    rows = {place: row for place, row in fresh.items() if isinstance(row, LatencyRow) and row.rounds_s and row.control_rounds_s}
    blank = {"verdict": "ok", "p_holm": None, "minimum_detectable_effect": None}
    again = [_change(suspects[place].model_copy(update=blank), before[place], row, config) for place, row in rows.items()]
    decided = dict(zip(rows, of_tested(again, config), strict=True))
    for item in items:
        place = Candidate(item.cell, item.where or "")
        if place not in suspects:
            yield item
        elif place in decided:
            yield of_second_look(item, decided[place], len(rows[place].rounds_s))
        else:
            none = fresh.get(place) if evidence.confirm else "not measured again (--no-confirm)"
            yield of_unconfirmed(item, (none.why if isinstance(none, LatencyRow) else none) or "no fresh rounds", config)
