"""What the study is to show, and whether it does: one sentence per target."""

from __future__ import annotations

from studies.measurement.intervals import Rate
from studies.measurement.summary import CoveragePart, IdenticalPart, LoadGenPart, PlantedPart, Summary

NOMINAL = 0.05
"""Share of false alarms that a test at 95 % allows."""
COVERAGE_TARGET = (0.93, 0.97)
SESSIONS_TARGET, TRIALS_TARGET, ALTERNATIONS_TARGET, MODELS_TARGET = 20, 100, 20, 3
SWEEPS_TARGET = 10_000
REACHED = 0.8
"""Share of cases in which a minimal detectable effect is noticed."""
SIZES_TARGET = (0.03, 0.05, 0.10, 0.20)


def sentences(summary: Summary) -> list[str]:
    """One sentence per target: PASS, FALLS SHORT, or not observed yet."""
    return [
        _coverage_verdict(summary.coverage),
        _identical_verdict(summary.identical),
        *_planted_verdicts(summary.planted),
        _loadgen_verdict(summary.loadgen),
    ]


def _coverage_verdict(part: CoveragePart | None) -> str:
    target = f"The 95 % interval covers 93 to 97 % in {SWEEPS_TARGET} simulated sweeps"
    if part is None or not part.results:
        return f"{target}: not observed yet."
    shares = [own.coverage for own in part.results]
    sweeps = min(own.sweeps for own in part.results)
    ok = sweeps >= SWEEPS_TARGET and COVERAGE_TARGET[0] <= min(shares) and max(shares) <= COVERAGE_TARGET[1]
    seen = f"{percent(min(shares))} to {percent(max(shares))}"
    alarms = [own.false_alarms.share for own in part.results]
    above = sum(own.false_alarms.ci95[0] > NOMINAL for own in part.results)
    return (
        f"{target}: {_word(ok)}. {seen} over {len(shares)} models of recorded noise, {sweeps} sweeps each. After Holm "
        f"{percent(NOMINAL)} of the sweeps may hold a false verdict: {above} of {len(shares)} models "
        f"{'lies' if above == 1 else 'lie'} above it, the highest at "
        f"{percent(max(alarms))}."
    )


def _identical_verdict(part: IdenticalPart | None) -> str:
    target = f"At least {SESSIONS_TARGET} real A/A sessions of 8 identical pairs, with the rate of false verdicts and its bound"
    if part is None or not part.results:
        return f"{target}: not observed yet."
    every = part.results[-1]
    pairs = every.corrected.trials // every.sessions
    ok = every.sessions >= SESSIONS_TARGET and pairs >= 8 and every.sessions_with_alarm.ci95[0] <= NOMINAL
    return (
        f"{target}: {_word(ok)}. {every.sessions} real sessions of {pairs} pairs; {every.corrected.count} of "
        f"{every.corrected.trials} pairs called faster or slower after Holm, in {every.sessions_with_alarm.count} "
        f"{'session' if every.sessions_with_alarm.count == 1 else 'sessions'} "
        f"({percent(every.sessions_with_alarm.share)}, one-sided 95 % limit {percent(every.sessions_with_alarm.upper95)}; "
        f"the test allows {percent(NOMINAL)})."
    )


def _planted_verdicts(part: PlantedPart | None) -> list[str]:
    target = f"Planted slowdowns of 3, 5, 10 and 20 %, at least {TRIALS_TARGET} real trials each, with their detection rates"
    agrees = "The stated minimal detectable effect agrees with them"
    if part is None:
        return [f"{target}: not observed yet.", f"{agrees}: not observed yet."]
    sizes = {own.slower_by: own.found for own in part.results}
    trials = min((sizes[size].trials for size in SIZES_TARGET if size in sizes), default=0)
    shown = ", ".join(f"{percent(size, 0)}: {percent(own.share, 0)} noticed" for size, own in sizes.items() if size in SIZES_TARGET)
    enough = trials >= TRIALS_TARGET
    ok = enough and all(size in sizes for size in SIZES_TARGET)
    contradictions = [percent(size, 0) for size, own in sizes.items() if _contradicts(size, own, part.minimal_effect)]
    against = f"Against it speak the trials at {', '.join(contradictions)}" if contradictions else "No size speaks against it"
    return [
        f"{target}: {_word(ok)}. {trials} trials each; {shown}.",
        f"{agrees}: {_word(enough and not contradictions)}. Stated is {percent(part.minimal_effect)}, noticed in 80 of 100 cases. "
        f"{against}.",
    ]


def _contradicts(size: float, found: Rate, minimal_effect: float) -> bool:
    """True where a slowdown above the minimal effect is surely noticed less often than promised, or one below it more often."""
    return found.ci95[1] < REACHED if size >= minimal_effect else found.ci95[0] > REACHED


def _loadgen_verdict(part: LoadGenPart | None) -> str:
    target = "Paired against LoadGen on three models, at least 20 alternations each, p50 and p90 within 3 %"
    if part is None:
        return f"{target}: not observed yet."
    pairs = min(own.p50.pairs for own in part.results)
    outside = [
        f"{own.cell} {name}" for own in part.results for name, test in (("p50", own.p50), ("p90", own.p90)) if not test.equivalent
    ]
    ok = pairs >= ALTERNATIONS_TARGET and len(part.results) >= MODELS_TARGET and not outside
    tail = f" Not shown to be within the margin: {', '.join(outside)}." if outside else " All 90 % intervals lie inside."
    return f"{target}: {_word(ok)}. {len(part.results)} models, {pairs} alternations each.{tail}"


def percent(share: float, digits: int = 1) -> str:
    """A share as people say it."""
    return f"{100 * share:.{digits}f} %"


def _word(ok: bool) -> str:
    return "PASS" if ok else "FALLS SHORT"
