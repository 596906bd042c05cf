"""What the gate says: a verdict per item, one overall, and the page that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from detection.frozen import Frozen

ItemVerdict = Literal["ok", "regressed", "improved", "unconfirmed", "inconclusive", "missing"]
"""`unconfirmed`: looks slower or faster, and could not be measured again."""
Overall = Literal["ok", "regressed", "not_comparable", "incomplete", "no_baseline"]
EXIT_CODES: dict[Overall, int] = {"ok": 0, "regressed": 1, "not_comparable": 2, "incomplete": 3, "no_baseline": 4}
TITLES: dict[Overall, str] = {
    "ok": "no regression",
    "regressed": "regression",
    "not_comparable": "not comparable",
    "incomplete": "incomplete",
    "no_baseline": "no baseline",
}
SHOWN: tuple[ItemVerdict, ...] = ("regressed", "missing", "unconfirmed", "inconclusive", "improved")
"""Verdicts that get a table, worst first; what is ok is counted, with what would have been found where that was tested."""


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
    minimal_effect: float | None = None
    """The smallest change that would probably have been found: of mAP a share, of a speedup a ratio. None where not tested."""
    why: str | None = None


class Verdict(Frozen):
    """`results/check/verdict.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
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


def summarise(items: tuple[Item, ...]) -> tuple[Overall, str]:
    """The overall verdict, and the sentences that open the page."""
    items_with = Counter(item.verdict for item in items)
    worse_in = len({item.cell for item in items if item.verdict == "regressed"})
    missing_in = len({item.cell for item in items if item.verdict == "missing"})
    undecided = (
        f" {items_with['inconclusive']} cannot be decided by this many pictures or rounds." if items_with["inconclusive"] else ""
    )
    unsure = f" {items_with['unconfirmed']} look slower or faster, unconfirmed." if items_with["unconfirmed"] else ""
    rest = unsure + undecided + (f" {items_with['improved']} got better." if items_with["improved"] else "")
    if worse_in:
        missing = f" {items_with['missing']} are missing." if missing_in else ""
        return (
            "regressed",
            f"{items_with['regressed']} of {len(items)} items got worse, in {_count(worse_in, 'cell')}.{missing}{rest}",
        )
    if missing_in:
        return "incomplete", f"{items_with['missing']} of {len(items)} items are missing, in {_count(missing_in, 'cell')}.{rest}"
    return "ok", f"None of {len(items)} items got worse.{rest}"


def render(verdict: Verdict) -> str:
    """The verdict as a Markdown page, answer first."""
    lines = [
        f"# Verdict: {TITLES[verdict.overall]}",
        "",
        verdict.answer,
        "",
        f"Sweep `{verdict.sweep}` against baseline `{verdict.baseline}`; exit code {verdict.exit_code}.",
        "",
    ]
    for kind in SHOWN:
        lines += _table(kind, [item for item in verdict.items if item.verdict == kind])
    unchanged = sum(item.verdict == "ok" for item in verdict.items)
    if verdict.items:
        lines += [f"{unchanged} of {len(verdict.items)} items are ok and not listed.", ""]
    lines += _bullets("No difference found", _no_differences(verdict.items))
    lines += _bullets("Notes", verdict.notes) + _bullets("How it was judged", verdict.rules)
    return "\n".join(lines)


def _table(kind: ItemVerdict, items: list[Item]) -> list[str]:
    if not items:
        return []
    rows = [f"| {' | '.join(_cells(item))} |" for item in items]
    return [
        f"## {kind.capitalize()} ({len(items)})",
        "",
        "| cell | where | quantity | before | now | change | would find | p (Holm) | why |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
        *rows,
        "",
    ]


def _cells(item: Item) -> tuple[str, ...]:
    p = "" if item.p_holm is None else "< 0.001" if item.p_holm < 0.001 else f"{item.p_holm:.3f}"
    return (
        f"`{item.cell}`",
        item.where or "",
        item.quantity,
        _number(item, item.before),
        _number(item, item.now),
        _change(item),
        _minimal_effect(item),
        p,
        _one_line(item.why or ""),
    )


def _number(item: Item, value: float | None) -> str:
    if value is None:
        return ""
    return {"map_50_95": f"{value:.4f}", "speedup": f"{value:.2f}x"}.get(item.quantity, f"{value:,.0f}")


def _change(item: Item) -> str:
    """The change in the unit people speak of: points of mAP, percent of speed, plain counts."""
    if item.change is None:
        return ""
    if item.quantity == "map_50_95":
        return _with_interval(
            item.change * 100, item.interval and (item.interval[0] * 100, item.interval[1] * 100), "+.2f", " points"
        )
    if item.quantity == "speedup":
        percent = item.interval and ((item.interval[0] - 1) * 100, (item.interval[1] - 1) * 100)
        return _with_interval((item.change - 1) * 100, percent, "+.1f", " %")
    return f"{item.change:+,.0f}"


def _minimal_effect(item: Item) -> str:
    """In the unit of the change, either way."""
    if item.minimal_effect is None:
        return ""
    if item.quantity == "map_50_95":
        return f"{item.minimal_effect * 100:.2f} points"
    return f"{(item.minimal_effect - 1) * 100:.1f} %"


def _no_differences(items: Iterable[Item]) -> Iterator[str]:
    """For each quantity and place the tested items that are ok, with the smallest change that would have been found."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        if item.verdict == "ok" and item.minimal_effect is not None:
            groups.setdefault((item.quantity, item.where or ""), []).append(f"`{item.cell}` ({_minimal_effect(item)})")
    for (quantity, where), names in groups.items():
        yield f"{quantity} on {where}, in brackets the change that would probably have been found: {', '.join(names)}."


def _with_interval(value: float, interval: tuple[float, float] | None, form: str, unit: str) -> str:
    spread = f" [{interval[0]:{form}}, {interval[1]:{form}}]" if interval else ""
    return f"{value:{form}}{spread}{unit}"


def _bullets(title: str, sentences: Iterable[str]) -> list[str]:
    rows = [f"- {_one_line(sentence)}" for sentence in sentences]
    return [f"## {title}", "", *rows, ""] if rows else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _one_line(text: str) -> str:
    """Text that does not break a table: an error may hold line breaks and bars."""
    return " ".join(text.split()).replace("|", "\\|")
