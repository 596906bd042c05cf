"""The generated part of docs/measurement.md: a sentence per target, then tables with intervals."""

from __future__ import annotations

import statistics
from pathlib import Path

from flows.publish.marked_page import render, rewrite
from studies.measurement.intervals import Equivalence, Rate
from studies.measurement.records import SWEEP_FILES, Summary
from studies.measurement.targets import judge, percent

TEMPLATE, PART = Path(__file__).with_name("page.md.j2"), "measurement"


def write_page(page: Path, found: Summary) -> None:
    """Rewrite what stands between the marks of the page."""
    text = render(
        TEMPLATE,
        found=found,
        verdicts=judge(found),
        sweep_files=SWEEP_FILES,
        median=statistics.median,
        percent=percent,
        ms=lambda seconds: f"{1e3 * seconds:.2f}",
        interval=_interval,
        rate=_rate,
        difference=_difference,
    )
    rewrite(page, {PART: text})


def _interval(interval: tuple[float, float]) -> str:
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _rate(found: Rate) -> str:
    return f"{found.count} of {found.trials}: {percent(found.share)} {_interval(found.ci95)}"


def _difference(test: Equivalence) -> str:
    return f"{100 * test.mean:+.1f} % [{100 * test.ci90[0]:+.1f}, {100 * test.ci90[1]:+.1f}]"
