"""The generated parts of docs/methods.md: how to read them, then per method its sentences, its figure and its tables."""

from __future__ import annotations

from pathlib import Path

from flows.publish.marked_page import render, rewrite, table
from flows.records.formatting import megabytes, milliseconds, with_interval
from flows.records.schema import SpeedVerdict
from studies.methods.findings import sentences, spread, times
from studies.methods.results import Comparison, FoundBy, InRuntime, MethodResult, Shown, Summary, Timing
from studies.methods.subjects import Rivalry

OVERVIEW, METHOD = (Path(__file__).with_name(f"{name}.md.j2") for name in ("overview", "method"))
PART = "methods"
HEADS = ("", "variant", "params, M", "MACs, M", "share", "size, MB", "val mAP", "test mAP", "change, pt [95 %]")
FOUND_BY: dict[FoundBy, str] = {
    "search": "the search",
    "random_search": "random search",
    "largest_macs": "most MACs, as fast",
}
COMPARED: dict[Rivalry, str] = {
    "equal_macs": "compared with random pruning at equal multiply-adds, pt [95 %]",
    "no_slower": "compared with the best reference that is no slower, pt [95 %]",
    "plain": "compared with its reference, pt [95 %]",
}
VERDICTS: dict[SpeedVerdict, str] = {"not significant": "not statistically significant"}
"""Where the table has other words than the records."""
NONE = "\u2013"


def write_page(page: Path, found: Summary) -> None:
    """Rewrite what stands between the marks: one part for all methods, one for each."""
    rounds = sorted({timing.rounds for own in found.control.runtimes for timing in own.timings})
    parts = {PART: render(OVERVIEW, found=found, rounds=rounds)}
    for own in found.methods:
        tables = {runtime: variants_table(found, own, runtime) for runtime in found.runtimes}
        parts[f"{PART}:{own.method}"] = render(
            METHOD, found=found, own=own, sentences=sentences(found, own), tables=tables, found_by=FOUND_BY
        )
    rewrite(page, parts)


def variants_table(found: Summary, own: MethodResult, runtime: str) -> str:
    """The control, the variants and the references of one method in one runtime, with every profile that measured one of them."""
    inside = [(shown, values) for shown in (found.control, *own.shown) if (values := shown.within(runtime)) is not None]
    profiles = tuple(dict.fromkeys(timing.profile for _, values in inside for timing in values.timings))
    compared = {entry.variant: entry for entry in own.comparisons if entry.runtime == runtime}
    heads = [*HEADS, *(head for profile in profiles for head in (f"{profile}: ms", "speedup [95 %]"))]
    heads += [COMPARED[own.rivalry]] if compared else []
    rows = []
    for shown, values in inside:
        timed = {timing.profile: timing for timing in values.timings}
        rows.append(
            [
                own.marks.get(shown.label, "*"),
                *_size_and_accuracy(found, shown, values),
                *(text for profile in profiles for text in _time(timed.get(profile), shown)),
                *([_comparison(compared.get(shown.label), shown)] if compared else []),
            ]
        )
    return table(heads, rows, left=2)


def _size_and_accuracy(found: Summary, shown: Shown, values: InRuntime) -> list[str]:
    return [
        _name(found, shown),
        f"{shown.params / 1e6:.3f}",
        f"{shown.macs / 1e6:.1f}",
        f"{100 * shown.macs / found.control.macs:.0f} %",
        megabytes(values.size_bytes),
        f"{values.val_map:.3f}",
        f"{values.test_map:.3f}",
        NONE if shown.role == "control" else spread(values.difference),
    ]


def _name(found: Summary, shown: Shown) -> str:
    if shown.role == "control":
        return "control"
    words = ["reference"] if shown.role == "reference" else []
    words += [f"{shown.input_size[0]} x {shown.input_size[1]} pixels"] if shown.input_size != found.control.input_size else []
    words += [f"{shown.inherited_images / found.dataset.pictures['train']:.0f} epochs more"] if shown.inherited_images else []
    words += ["nothing changed"] if shown.no_effect else []
    return f"`{shown.label}`" + (f" ({', '.join(words)})" if words else "")


def _time(timing: Timing | None, shown: Shown) -> tuple[str, str]:
    if timing is None:
        return NONE, NONE
    if shown.role == "control" or timing.speedup is None:
        return milliseconds(timing.p50_s), NONE
    said = [] if timing.verdict in (None, "faster") else [VERDICTS.get(timing.verdict, timing.verdict)]
    said += ["smaller, not faster"] if timing.smaller_not_faster else []
    return milliseconds(timing.p50_s), "; ".join([with_interval(times(timing.speedup), timing.speedup_ci95), *said])


def _comparison(entry: Comparison | None, shown: Shown) -> str:
    if entry is None or shown.role != "variant":
        return NONE
    speed = "" if entry.speed_ratio is None else f" at {with_interval(times(entry.speed_ratio), entry.speed_ratio_ci95)} its speed"
    return f"`{entry.rival}` {spread(entry.difference)}{speed}"
