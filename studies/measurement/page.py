"""The generated part of docs/measurement.md: a sentence per target, tables with intervals, and the figure."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flows.publish.marked_page import render, rewrite
from flows.records.formatting import count, interval
from studies.measurement.intervals import Rate, mean_power
from studies.measurement.records import SWEEP_FILES, IdenticalPart, PlantedPart, Summary

TEMPLATE, PART = Path(__file__).with_name("page.md.j2"), "measurement"
INK, OBSERVED, PREDICTED = "#222222", "#d1495b", "#00798c"
NOMINAL = 0.05
"""Share of false alarms that a test at 95 % allows."""
SESSIONS_TARGET, PAIRS_TARGET, TRIALS_TARGET = 20, 8, 100
REACHED = 0.8
"""Share of cases in which a minimum detectable effect is detected."""
SIZES_TARGET = (0.03, 0.05, 0.10, 0.20)

IDENTICAL = (
    f"At least {SESSIONS_TARGET} real A/A sessions of {PAIRS_TARGET} identical pairs, with the rate of false verdicts and its bound"
)
PLANTED = f"Planted slowdowns of 3, 5, 10 and 20 %, at least {TRIALS_TARGET} real trials each, with their detection rates"
EFFECT = "The stated minimum detectable effect agrees with them"


class Verdict(NamedTuple):
    """One target, and what was observed."""

    target: str
    met: bool | None = None
    """None: not observed yet."""
    seen: str = ""

    @property
    def sentence(self) -> str:
        """For the page and a terminal."""
        if self.met is None:
            return f"{self.target}: not observed yet."
        return f"{self.target}: {'PASS' if self.met else 'FALLS SHORT'}. {self.seen}"


def write_page(page: Path, found: Summary) -> None:
    """Rewrite what stands between the marks of the page."""
    text = render(
        TEMPLATE,
        found=found,
        verdicts=judge(found),
        sweep_files=SWEEP_FILES,
        median=statistics.median,
        percent=percent,
        interval=_interval,
        rate=lambda own: f"{own.count} of {own.trials}: {percent(own.share)} {_interval(own.ci95)}",
    )
    rewrite(page, {PART: text})


def judge(found: Summary) -> tuple[Verdict, ...]:
    """One verdict per target, in the order of the page."""
    return (
        _identical(found.identical) if found.identical and found.identical.results else Verdict(IDENTICAL),
        *(_planted(found.planted) if found.planted else (Verdict(PLANTED), Verdict(EFFECT))),
    )


def _identical(part: IdenticalPart) -> Verdict:
    every = part.results[-1]
    pairs, alarms = every.corrected.trials // every.sessions, every.sessions_with_alarm
    return Verdict(
        IDENTICAL,
        every.sessions >= SESSIONS_TARGET and pairs >= PAIRS_TARGET and alarms.ci95[0] <= NOMINAL,
        f"{every.sessions} real sessions of {pairs} pairs; {every.corrected.count} of {every.corrected.trials} pairs called faster "
        f"or slower after Holm, in {count(alarms.count, 'session')} ({percent(alarms.share)}, "
        f"one-sided 95 % limit {percent(alarms.upper95)}; the test allows {percent(NOMINAL)}).",
    )


def _planted(part: PlantedPart) -> tuple[Verdict, Verdict]:
    sizes = {own.slower_by: own.found for own in part.results}
    trials = min((sizes[size].trials for size in SIZES_TARGET if size in sizes), default=0)
    shown = [f"{percent(size, 0)}: {percent(own.share, 0)} detected" for size, own in sizes.items() if size in SIZES_TARGET]
    contradictions = [percent(size, 0) for size, own in sizes.items() if _contradicts(size, own, part.minimum_detectable_effect)]
    against = f"Contradicted by the trials at {', '.join(contradictions)}" if contradictions else "No size contradicts it"
    enough = trials >= TRIALS_TARGET
    return (
        Verdict(PLANTED, enough and all(size in sizes for size in SIZES_TARGET), f"{trials} trials each; {', '.join(shown)}."),
        Verdict(
            EFFECT,
            enough and not contradictions,
            f"Stated is {percent(part.minimum_detectable_effect)}, to be detected in 80 of 100 cases. {against}.",
        ),
    )


def _contradicts(size: float, found: Rate, minimum_detectable_effect: float) -> bool:
    """True where a slowdown above the stated effect is surely found less often than promised, or one below it more often."""
    return found.ci95[1] < REACHED if size >= minimum_detectable_effect else found.ci95[0] > REACHED


def percent(share: float, digits: int = 1) -> str:
    """A share in per cent."""
    return f"{100 * share:.{digits}f} %"


def _interval(bounds: tuple[float, float]) -> str:
    """In per cent, without the sign."""
    return interval(bounds, lambda share: f"{100 * share:.1f}")


def draw_detection(part: PlantedPart, path: Path) -> None:
    """Write an SVG: share of trials detected with exact 95 % intervals, the predicted curve, and the minimum detectable effect."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    sizes = np.array([own.slower_by for own in part.results])
    shares = np.array([own.found.share for own in part.results])
    low, high = np.array([own.found.ci95 for own in part.results]).T
    curve = np.geomspace(sizes.min() / 2, sizes.max() * 1.2, 80)
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    predicted = [100 * mean_power(float(size), part.trial_spreads, part.rounds) for size in curve]
    axes.plot(100 * curve, predicted, color=PREDICTED, label="predicted from the spreads of the trials")
    around = 100 * np.stack([shares - low, high - shares])
    axes.errorbar(100 * sizes, 100 * shares, yerr=around, fmt="o", color=OBSERVED, capsize=3, label="detected, exact 95 % interval")
    axes.axvline(100 * part.minimum_detectable_effect, color=INK, linestyle=":", label="minimum detectable effect, median")
    axes.set_xscale("log")
    axes.set_xticks(100 * sizes, [f"{100 * size:g}" for size in sizes], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 103)
    axes.set_xlabel("planted slowdown, % (logarithmic)")
    axes.set_ylabel("trials detected, %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper left")
    with rc_context({"svg.hashsalt": "sixfold"}):  # the same ids whenever it is drawn
        figure.savefig(path, metadata={"Date": None})
