"""The gate: are the results of this sweep worse than an accepted baseline? Answers with a verdict per item and an exit code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detection.frozen import DamagedError, InputError
from flows.check.baseline import MANIFEST, Baseline, baseline_names, read_baseline
from flows.check.confirm import Confirm
from flows.check.items import Evidence, compare_items
from flows.check.verdict import Item, ItemVerdict, Overall, Verdict, of_sweep
from flows.publish.marked_page import render as filled_in
from flows.records.files import write_text
from flows.records.formatting import one_line, p_value, with_interval
from flows.records.schema import CONTROL, CellsFile, LatencyFile, write_records
from flows.records.store import Store
from flows.sweep.settings import Check

EXIT_CODES: dict[Overall, int] = {"ok": 0, "regressed": 1, "not_comparable": 2, "incomplete": 3, "no_baseline": 4}
TITLES = {"ok": "no regression", "regressed": "regression"}
"""Others are called as they are."""
SHOWN: tuple[ItemVerdict, ...] = ("regressed", "missing", "unconfirmed", "inconclusive", "improved")
"""Verdicts that get a table, worst first; what is ok is counted, with the minimum detectable effect where it was tested."""


def check(
    baseline_folder: Path,
    cells: CellsFile,
    latency: LatencyFile,
    ground_truth: dict[str, Any],
    store: Store,
    config: Check,
    confirm: Confirm | None = None,
) -> Verdict:
    """The verdict on the current results; nothing is written.

    Its exit code: 0 ok, 1 regression, 2 not comparable, 3 incomplete, 4 no baseline. `ground_truth` is what `cells` were scored on,
    of `config.split`; `confirm` measures again what looks slower or faster, None does not.
    """

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
        _require_same_data(baseline.cells, cells)
        items = compare_items(Evidence(baseline, ground_truth, store, config, confirm), cells, latency)
    except InputError as error:
        return conclude("not_comparable", str(error))
    except DamagedError as error:
        return conclude("incomplete", str(error))
    return conclude(*of_sweep(items), items, tuple(_notes(baseline, cells, latency)))


def _require_same_data(before: CellsFile, now: CellsFile) -> None:
    if before.dataset.digest != now.dataset.digest:
        raise InputError(
            f"the baseline was made on data {before.dataset.name!r} ({before.dataset.digest[:12]}...), this sweep on "
            f"{now.dataset.name!r} ({now.dataset.digest[:12]}...): their mAP cannot be compared. Check against a "
            "baseline of the same data, or accept this sweep as a new baseline with `sixfold check --accept NAME`."
        )


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
        if before is None or now is None or not before.is_measured:
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
        f"{config.latency_drop_share:.0%} and Welch's t on the log ratios of rounds; what looks slower or faster is measured "
        f"again, and only called so if the fresh rounds alone say it too. What cannot be measured again is a {config.unconfirmed}. "
        "Estimated latencies are not judged: they follow from counts that are.",
        "Minimum detectable effect: the smallest change that such pictures or rounds detect with a probability of 0.8 at the same "
        "chance of a false alarm.",
    )


def write_verdict(verdict: Verdict, folder: Path) -> None:
    """Write `verdict.json` and `verdict.md`."""
    write_records(folder / "verdict.json", verdict)
    write_text(folder / "verdict.md", render(verdict))


def render(verdict: Verdict) -> str:
    """The verdict as a Markdown page, answer first."""
    return filled_in(
        Path(__file__).with_name("verdict.md.j2"),
        verdict=verdict,
        title=TITLES.get(verdict.overall, verdict.overall.replace("_", " ")),
        shown=SHOWN,
        unchanged=_unchanged(verdict.items),
        **{"number": _number, "change": _change, "detectable": _detectable, "p_value": p_value, "escaped": _escaped},
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


def _detectable(item: Item) -> str:
    """In the unit of the change, either way."""
    if item.minimum_detectable_effect is None:
        return ""
    if item.quantity == "map_50_95":
        return f"{item.minimum_detectable_effect * 100:.2f} points"
    return f"{(item.minimum_detectable_effect - 1) * 100:.1f} %"


def _unchanged(items: Iterable[Item]) -> list[str]:
    """For each quantity and place the tested items that are ok, with their minimum detectable effects."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        if item.verdict == "ok" and item.minimum_detectable_effect is not None:
            groups.setdefault((item.quantity, item.where or ""), []).append(f"`{item.cell}` ({_detectable(item)})")
    return [
        f"{quantity} on {where}, in brackets the change that would probably have been found: {', '.join(names)}."
        for (quantity, where), names in groups.items()
    ]


def _escaped(text: str) -> str:
    """Text that does not break a table: an error may hold line breaks and bars."""
    return one_line(text).replace("|", "\\|")
