"""The gate's verdict as a Markdown page, answer first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows.check.verdict import Item, ItemVerdict, Overall, Verdict
from flows.records.formatting import one_line, p_value, with_interval

TITLES: dict[Overall, str] = {
    "ok": "no regression",
    "regressed": "regression",
    "not_comparable": "not comparable",
    "incomplete": "incomplete",
    "no_baseline": "no baseline",
}
SHOWN: tuple[ItemVerdict, ...] = ("regressed", "missing", "unconfirmed", "inconclusive", "improved")
"""Verdicts that get a table, worst first; what is ok is counted, with the minimum detectable effect where it was tested."""
HEADS = ("cell", "where", "quantity", "before", "now", "change", "minimum detectable effect", "p (Holm)", "why")


def render(verdict: Verdict) -> str:
    """The page."""
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
    return [f"## {kind.capitalize()} ({len(items)})", "", f"| {' | '.join(HEADS)} |", "|---|---|---|---:|---:|---:|---:|---:|---|",
            *rows, ""]  # fmt: skip


def _cells(item: Item) -> tuple[str, ...]:
    return (
        f"`{item.cell}`",
        item.where or "",
        item.quantity,
        _number(item, item.before),
        _number(item, item.now),
        _change(item),
        _minimal_effect(item),
        p_value(item.p_holm),
        _escaped(item.why) if item.why else "",
    )


def _number(item: Item, value: float | None) -> str:
    if value is None:
        return ""
    return {"map_50_95": f"{value:.4f}", "speedup": f"{value:.2f}x"}.get(item.quantity, f"{value:,.0f}")


def _change(item: Item) -> str:
    """The change in the unit people speak of: points of mAP, percent of speed, plain counts."""
    if item.change is None:
        return ""
    if item.quantity not in ("map_50_95", "speedup"):
        return f"{item.change:+,.0f}"
    start, form, unit = (0.0, "+.2f", "points") if item.quantity == "map_50_95" else (1.0, "+.1f", "%")

    def show(value: float) -> str:
        return f"{(value - start) * 100:{form}}"

    return f"{with_interval(show(item.change), item.interval, show)} {unit}"


def _minimal_effect(item: Item) -> str:
    """In the unit of the change, either way."""
    if item.minimum_detectable_effect is None:
        return ""
    if item.quantity == "map_50_95":
        return f"{item.minimum_detectable_effect * 100:.2f} points"
    return f"{(item.minimum_detectable_effect - 1) * 100:.1f} %"


def _no_differences(items: Iterable[Item]) -> Iterator[str]:
    """For each quantity and place the tested items that are ok, with their minimum detectable effects."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        if item.verdict == "ok" and item.minimum_detectable_effect is not None:
            groups.setdefault((item.quantity, item.where or ""), []).append(f"`{item.cell}` ({_minimal_effect(item)})")
    for (quantity, where), names in groups.items():
        yield f"{quantity} on {where}, in brackets the change that would probably have been found: {', '.join(names)}."


def _bullets(title: str, sentences: Iterable[str]) -> list[str]:
    rows = [f"- {_escaped(sentence)}" for sentence in sentences]
    return [f"## {title}", "", *rows, ""] if rows else []


def _escaped(text: str) -> str:
    """Text that does not break a table: an error may hold line breaks and bars."""
    return one_line(text).replace("|", "\\|")
