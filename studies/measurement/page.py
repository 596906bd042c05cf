"""The generated part of docs/measurement.md: a sentence per target, then tables with intervals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from detection.frozen import InputError
from studies.measurement.figure import draw_detection
from studies.measurement.intervals import Equivalence, Rate
from studies.measurement.summary import (
    SWEEP_FILES,
    About,
    CoveragePart,
    FalseAlarms,
    IdenticalPart,
    LoadGenPart,
    PlantedPart,
    SameGraphPart,
    Summary,
)
from studies.measurement.targets import percent, sentences

BEGIN, END = "<!-- measurement:begin -->", "<!-- measurement:end -->"
FIGURE = "measurement-detection.svg"


def write_page(page: Path, summary: Summary) -> None:
    """Rewrite what stands between the marks of the page, and draw its figure beside it."""
    text = page.read_text() if page.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{page}: the marks {BEGIN} and {END} are not there. Put them where the numbers belong.")
    if summary.planted is not None:
        draw_detection(summary.planted, page.parent / FIGURE)
    page.write_text("\n".join([before + BEGIN, *block(summary), END + after]))


def block(summary: Summary) -> list[str]:
    """All lines between the marks."""
    lines = ["", "## Targets", "", *(f"- {sentence}" for sentence in sentences(summary)), ""]
    if summary.coverage is not None:
        lines += _coverage(summary.coverage)
    if summary.identical is not None:
        lines += _identical(summary.identical)
    if summary.same_graph is not None:
        lines += _same_graph(summary.same_graph)
    if summary.planted is not None:
        lines += _planted(summary.planted)
    if summary.loadgen is not None:
        lines += _loadgen(summary.loadgen)
    return lines


def _coverage(part: CoveragePart) -> list[str]:
    settings = part.about.settings
    rows = [
        f"| {own.noise} | {own.model} | {own.recorded_files} x {own.recorded_rounds} | {percent(own.spread)} "
        f"| {own.correlation:+.2f} | {percent(own.coverage)} {_range(own.coverage_ci95)} | {_rate(own.false_alarms)} |"
        for own in part.results
    ]
    return [
        "## Coverage by simulation",
        "",
        f"{settings['sweeps']} sweeps of {settings['cells']} cells and a control, {settings['rounds']} rounds each, per recorded "
        "noise and per way to draw more of it. The spread is that of one recorded median; round to round is its correlation.",
        "",
        "| recorded noise | drawn as | files x rounds | spread | round to round | coverage [95 %] | sweeps with a false verdict |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        _origin(part.about),
        "",
    ]


def _identical(part: IdenticalPart) -> list[str]:
    return [
        "## Identical files, really timed",
        "",
        *_alarm_table("runtime", part.results),
        "",
        f"Of {part.blocks} timed blocks {part.repeated_blocks} were taken again because something disturbed them, and "
        f"{part.disturbed_blocks} were still disturbed. {_origin(part.about)}",
        "",
    ]


def _same_graph(part: SameGraphPart) -> list[str]:
    if not part.results:
        return ["## Equal graphs, other weights", "", f"The sweep has too few rounds for a test. {_origin(part.about)}", ""]
    return [
        "## Equal graphs, other weights",
        "",
        "Cells of one sweep that differ in the values of their weights alone: trained with and without distillation.",
        "",
        *_alarm_table("profile", part.results),
        "",
        _origin(part.about),
        "",
    ]


def _alarm_table(first: str, results: Sequence[FalseAlarms]) -> list[str]:
    rows = [
        f"| {own.runtime} | {own.sessions or 'a sweep'} | {own.rounds} | {1e3 * own.median_s:.2f} | {percent(own.spread)} "
        f"| {_rate(own.uncorrected)} | {_rate(own.corrected)} | {_rate(own.sessions_with_alarm)} |"
        for own in results
    ]
    return [
        f"| {first} | real sessions | rounds | ms | spread | pairs outside 95 % | pairs after Holm | sessions with any |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _planted(part: PlantedPart) -> list[str]:
    rows = [
        f"| {percent(own.slower_by, 0)} | {percent(own.measured)} {_range(own.measured_ci95)} | {_rate(own.found)} "
        f"| {percent(own.predicted)} | {own.called_faster} |"
        for own in part.results
    ]
    return [
        "## Planted slowdowns, really timed",
        "",
        f"![share of trials noticed against the planted slowdown, with the prediction]({FIGURE})",
        "",
        "| planted | measured [95 %] | noticed | predicted | called faster |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"{part.runtime}, {1e3 * part.median_s:.2f} ms, {part.rounds} rounds; from round to round the ratio varies by "
        f"{percent(statistics.median(part.trial_spreads))} (median of the trials). Each pair states a minimal detectable effect of "
        f"its own, from its own rounds: in the median {percent(part.minimal_effect)} for one comparison, and "
        f"{percent(part.minimal_effect_in_sweep)} for each of {SWEEP_FILES} in a sweep. Of the planted slowdowns at least as large "
        f"as what their own pair states, {_rate(part.own_effect_reached)} were noticed.",
        "",
        f"Of {part.blocks} timed blocks {part.repeated_blocks} were taken again, {part.disturbed_blocks} were still disturbed. "
        f"{_origin(part.about)}",
        "",
    ]


def _loadgen(part: LoadGenPart) -> list[str]:
    rows = [
        f"| {own.cell} | {own.runtime} | {own.p50.pairs} | {1e3 * own.ours_p50_s:.2f} | {1e3 * own.loadgen_p50_s:.2f} "
        f"| {_difference(own.p50)} | {_difference(own.p90)} |"
        for own in part.results
    ]
    return [
        "## Against LoadGen",
        "",
        f"{part.queries} calls or queries in each process; p90 is the early-stopping estimate on both sides. "
        "A difference is ours over LoadGen's, minus 1.",
        "",
        "| cell | runtime | alternations | our p50, ms | LoadGen p50, ms | p50 difference [90 %] | p90 difference [90 %] |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        _origin(part.about),
        "",
    ]


def _origin(about: About) -> str:
    days = "" if about.days is None else f"{' to '.join(dict.fromkeys(about.days))}, "
    return f"`{about.command}`, {days}{'; '.join(about.machines)}, {', '.join(about.versions)}."


def _range(interval: tuple[float, float]) -> str:
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _rate(found: Rate) -> str:
    return f"{found.count} of {found.trials}: {percent(found.share)} {_range(found.ci95)}"


def _difference(test: Equivalence) -> str:
    return f"{100 * test.mean:+.1f} % [{100 * test.ci90[0]:+.1f}, {100 * test.ci90[1]:+.1f}]"
