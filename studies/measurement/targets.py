"""What the study is to show, and whether it does: one verdict per target."""

from __future__ import annotations

from typing import NamedTuple

from studies.measurement.intervals import Rate
from studies.measurement.records import CoveragePart, IdenticalPart, LoadGenPart, PlantedPart, Summary

NOMINAL = 0.05
"""Share of false alarms that a test at 95 % allows."""
COVERAGE_TARGET = (0.93, 0.97)
SESSIONS_TARGET, PAIRS_TARGET, TRIALS_TARGET, ALTERNATIONS_TARGET, MODELS_TARGET, SWEEPS_TARGET = 20, 8, 100, 20, 3, 10_000
REACHED = 0.8
"""Share of cases in which a minimum detectable effect is detected."""
SIZES_TARGET = (0.03, 0.05, 0.10, 0.20)

COVERAGE = f"The 95 % interval covers 93 to 97 % in {SWEEPS_TARGET} simulated sweeps"
IDENTICAL = (
    f"At least {SESSIONS_TARGET} real A/A sessions of {PAIRS_TARGET} identical pairs, with the rate of false verdicts and its bound"
)
PLANTED = f"Planted slowdowns of 3, 5, 10 and 20 %, at least {TRIALS_TARGET} real trials each, with their detection rates"
EFFECT = "The stated minimum detectable effect agrees with them"
LOADGEN = f"Compared with LoadGen on three models, at least {ALTERNATIONS_TARGET} paired runs each, p50 and p90 within 3 %"


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


def judge(found: Summary) -> tuple[Verdict, ...]:
    """One verdict per target, in the order of the page."""
    return (
        _coverage(found.coverage) if found.coverage and found.coverage.results else Verdict(COVERAGE),
        _identical(found.identical) if found.identical and found.identical.results else Verdict(IDENTICAL),
        *(_planted(found.planted) if found.planted else (Verdict(PLANTED), Verdict(EFFECT))),
        _loadgen(found.loadgen) if found.loadgen else Verdict(LOADGEN),
    )


def _coverage(part: CoveragePart) -> Verdict:
    shares, alarms = [own.coverage for own in part.results], [own.false_alarms.share for own in part.results]
    sweeps, models = min(own.sweeps for own in part.results), len(shares)
    above = sum(own.false_alarms.ci95[0] > NOMINAL for own in part.results)
    return Verdict(
        COVERAGE,
        sweeps >= SWEEPS_TARGET and COVERAGE_TARGET[0] <= min(shares) and max(shares) <= COVERAGE_TARGET[1],
        f"{percent(min(shares))} to {percent(max(shares))} over {models} models of recorded noise, {sweeps} sweeps each. After "
        f"Holm {percent(NOMINAL)} of the sweeps may hold a false verdict: {above} of {models} models "
        f"{'lies' if above == 1 else 'lie'} above it, the highest at {percent(max(alarms))}.",
    )


def _identical(part: IdenticalPart) -> Verdict:
    every = part.results[-1]
    pairs, alarms = every.corrected.trials // every.sessions, every.sessions_with_alarm
    return Verdict(
        IDENTICAL,
        every.sessions >= SESSIONS_TARGET and pairs >= PAIRS_TARGET and alarms.ci95[0] <= NOMINAL,
        f"{every.sessions} real sessions of {pairs} pairs; {every.corrected.count} of {every.corrected.trials} pairs called faster "
        f"or slower after Holm, in {alarms.count} {'session' if alarms.count == 1 else 'sessions'} ({percent(alarms.share)}, "
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


def _loadgen(part: LoadGenPart) -> Verdict:
    pairs = min(own.p50.pairs for own in part.results)
    tests = [(f"{own.cell} {name}", test) for own in part.results for name, test in (("p50", own.p50), ("p90", own.p90))]
    outside = [name for name, test in tests if not test.equivalent]
    rest = f"Not shown to be within the margin: {', '.join(outside)}." if outside else "All 90 % intervals lie inside."
    return Verdict(
        LOADGEN,
        pairs >= ALTERNATIONS_TARGET and len(part.results) >= MODELS_TARGET and not outside,
        f"{len(part.results)} models, {pairs} paired runs each. {rest}",
    )


def percent(share: float, digits: int = 1) -> str:
    """A share in per cent."""
    return f"{100 * share:.{digits}f} %"
