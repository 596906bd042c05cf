"""What the gate decides: when an item has regressed, improved, is missing or cannot be decided, and what the sweep has then.

Nothing else in the project says "regressed": `of_counts` for what has no chance in it, `of_missing_times` for a time that is gone,
`of_tested` for accuracies and times, `of_second_look` and `of_unconfirmed` after it, `of_sweep` for all items together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from detection.frozen import Frozen
from flows.records.formatting import count
from flows.records.schema import LatencyRow, RecordFile
from flows.stats.latency import Ratio, detectable, holm, level_of_next
from flows.stats.map_bootstrap import Difference, detectable_difference
from flows.sweep.settings import Check

ItemVerdict = Literal["ok", "regressed", "improved", "unconfirmed", "inconclusive", "missing"]
"""`unconfirmed`: looks slower or faster, and could not be measured again."""
Overall = Literal["ok", "regressed", "not_comparable", "incomplete", "no_baseline"]
ONE_POINT = 0.01
"""A point of mAP, as a share of 1."""


class Item(Frozen):
    """One quantity of one cell, now against the baseline."""

    cell: str
    where: str | None = None
    """Runtime or profile; None for what belongs to the network."""
    quantity: Literal["cell", "artifact", "params", "macs", "size_bytes", "map_50_95", "speedup"]
    verdict: ItemVerdict
    before: float | None = None
    now: float | None = None
    change: float | None = None
    """Now minus before; for a speedup, now over before."""
    interval: tuple[float, float] | None = None
    """Of the change; None for exact counts."""
    p_holm: float | None = None
    """That there is no change, corrected for being one of many; None where nothing was tested."""
    minimum_detectable_effect: float | None = None
    """The minimum detectable effect: of mAP a share, of a speedup a ratio. None where not tested."""
    why: str | None = None


class Verdict(RecordFile):
    """`results/check/verdict.json`."""

    overall: Overall
    exit_code: int
    answer: str
    """In a sentence or three."""
    baseline: str
    sweep: str
    split: str
    rules: tuple[str, ...]
    """How items were judged."""
    notes: tuple[str, ...]
    items: tuple[Item, ...]


Tested = tuple[Item, Ratio | Difference | None]
"""An item that chance has a part in, and what its test is of; None where nothing is tested. What is not "ok" stays so."""


def of_counts(cell: str, where: str | None, quantity: Any, before: int | None, now: int | None) -> Item:
    """Of a count without chance in it: any growth is a regression."""
    assert before is not None, "an ok cell has its counts"
    assert now is not None, "an ok cell has its counts"
    verdict: ItemVerdict = "ok" if now == before else "regressed" if now > before else "improved"
    return Item(cell=cell, where=where, quantity=quantity, verdict=verdict, before=before, now=now, change=now - before)


def of_missing_times(before: LatencyRow, now: LatencyRow | None) -> ItemVerdict:
    """Of a cell without times now: regressed where it no longer fits into the device, else missing."""
    return "regressed" if now is not None and now.fits is False and before.fits is not False else "missing"


def of_tested(tested: Sequence[Tested], config: Check) -> Iterator[Item]:
    """The items with their verdicts, their p values corrected together.

    Regressed: a drop beyond the limit that chance does not explain; improved: the same upwards. Otherwise ok where the
    interval stays within the limit, and inconclusive where it reaches beyond: these pictures or rounds cannot decide.
    """
    alpha, p_values = config.alpha, holm([own.p for _, own in tested if own is not None and own.p is not None])
    found = sum(p < alpha for p in p_values)
    corrected = iter(p_values)
    for item, estimate in tested:
        p = next(corrected) if estimate is not None and estimate.p is not None else None
        if item.verdict != "ok":
            yield item
            continue
        assert item.change is not None, "what is judged has a change"
        unchanged, limit = 0.0, config.map_drop_points * ONE_POINT
        if item.quantity == "speedup":
            unchanged, limit = 1.0, config.latency_drop_share
        drop = unchanged - item.change
        verdict: ItemVerdict = "ok"
        if p is not None and p < alpha and abs(drop) > limit:
            verdict = "regressed" if drop > 0.0 else "improved"
        elif item.interval is None or unchanged - item.interval[0] > limit:
            verdict = "inconclusive"
        effect = None
        if p is not None and estimate is not None:
            level = level_of_next(alpha, len(p_values), found - (p < alpha))
            effect = detectable(estimate, level) if isinstance(estimate, Ratio) else detectable_difference(estimate, level)
        yield item.model_copy(update={"verdict": verdict, "p_holm": p, "minimum_detectable_effect": effect})


def of_second_look(first: Item, second: Item, rounds: int) -> Item:
    """The judgement on fresh rounds, with what was seen before; two looks that contradict each other decide nothing."""
    assert first.change is not None, "it was tested"
    seen = f"{(first.change - 1.0) * 100:+.1f} % at first"
    if second.verdict == first.verdict:
        return second.model_copy(update={"why": f"confirmed on {rounds} fresh rounds; {seen}"})
    if second.verdict in ("regressed", "improved"):
        return second.model_copy(update={"verdict": "inconclusive", "why": f"{rounds} fresh rounds say the opposite; {seen}"})
    return second.model_copy(update={"why": f"not confirmed on {rounds} fresh rounds; {seen}"})


def of_unconfirmed(item: Item, why: str, config: Check) -> Item:
    """What could not be measured again; a regression only where the settings say so."""
    if item.verdict == "regressed" and config.unconfirmed == "regression":
        return item.model_copy(update={"why": f"unconfirmed, counted by check.unconfirmed: {why}"})
    looks = "slower" if item.verdict == "regressed" else "faster"
    return item.model_copy(update={"verdict": "unconfirmed", "why": f"looks {looks}, unconfirmed: {why}"})


def of_sweep(items: Sequence[Item]) -> tuple[Overall, str]:
    """The overall verdict, and the sentences that open the page: one regression outranks whatever is missing."""
    number = Counter(item.verdict for item in items)
    cells = {verdict: count(len({item.cell for item in items if item.verdict == verdict}), "cell") for verdict in number}
    rest = f" {number['unconfirmed']} look slower or faster, unconfirmed." if number["unconfirmed"] else ""
    rest += f" {number['inconclusive']} cannot be decided by this many pictures or rounds." if number["inconclusive"] else ""
    rest += f" {number['improved']} got better." if number["improved"] else ""
    if number["regressed"]:
        missing = f" {number['missing']} are missing." if number["missing"] else ""
        return "regressed", f"{number['regressed']} of {len(items)} items got worse, in {cells['regressed']}.{missing}{rest}"
    if number["missing"]:
        return "incomplete", f"{number['missing']} of {len(items)} items are missing, in {cells['missing']}.{rest}"
    return "ok", f"None of {len(items)} items got worse.{rest}"
