"""The answer of a sweep: one recommendation per profile, as data and in sentences. Test numbers join here, after every choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from detection.frozen import Digest, Frozen
from flows.records.formatting import (
    count,
    larger_or_smaller,
    listed,
    megabytes,
    milliseconds,
    permitted,
    points,
    times,
    with_interval,
)
from flows.records.schema import CONTROL, ArtifactRecord, LatencyRow, RecordFile, Source, SpeedVerdict
from flows.report.findings import Choice, Findings, Panel, Point, Tier, reference_to_beat
from flows.stats.latency import EQUAL_WITHIN, MIN_ROUNDS, Comparison, Paired, verdicts
from flows.stats.map_bootstrap import Difference

MOST_NAMES = 4
"""Names listed in a sentence before the rest is only counted."""
Compare = Callable[[ArtifactRecord, ArtifactRecord], Difference]
"""(another's file, chosen file) -> paired difference of test mAP, above 0 where the chosen one is better."""


class Side(Frozen):
    """One cell's numbers on the profile of a recommendation."""

    cell: str
    methods: tuple[str, ...]
    p50_s: float
    interval_s: tuple[float, float] | None
    size_bytes: int
    val_map: float
    test_map: float
    artifact_digest: Digest
    end_to_end_p50_s: float | None = None
    """With letterboxing before and selection after; None where not measured, and in records of older versions."""


OF_A_POINT = ("cell", "methods", "p50_s", "interval_s", "size_bytes", "val_map", "end_to_end_p50_s")
"""What a side has of its point."""


class ReferenceComparison(Frozen):
    """The chosen cell compared with a reference, on one profile that measured both."""

    reference: str
    is_as_fast: bool
    """False where no reference is, and this is the fastest."""
    p50_s: float
    size_bytes: int
    val_map: float
    test_map: float
    speed: Comparison | None
    """Of the cell compared with it: above 1 the cell is faster. None where they were not timed in the same rounds."""
    test_difference: Difference
    """Of mAP, the cell's minus the reference's."""


class Recommendation(Frozen):
    """What to deploy on one profile; `chosen` and `control` are None only where the control has no number there."""

    profile: str
    source: Source
    runtime: str
    artifacts_of: str
    """Runtime whose files gave accuracy and size."""
    verdict: Literal["recommended", "keep_uncompressed", "undecided"]
    chosen: Side | None
    control: Side | None
    baseline: Side | None = None
    """What drops are told against: the control, or the user's detector as it was brought where that is better on val; None in
    older records: the control."""
    speedup: float | None
    speedup_ci95: tuple[float, float] | None
    speed_verdict: SpeedVerdict | None = None
    """Of the chosen one against the control; None where nothing was measured or tested."""
    minimum_detectable_effect: float | None = None
    """The ratio of times that its rounds would probably have found."""
    test_difference: Difference | None
    """Chosen minus baseline; None where the baseline itself is kept."""
    reference_comparison: ReferenceComparison | None = None
    """The simpler network that the chosen one has to beat; None where no reference was measured, and in older records."""
    front: tuple[str, ...]
    indistinguishable: tuple[str, ...]
    tiers: tuple[Tier, ...]
    exported_to: str | None
    """Folder below models/best; None where the sweep made no file for this runtime."""
    answer: str
    notes: tuple[str, ...]
    control_below_threshold: bool = False
    """Whether the control itself has no more val mAP than may be lost, so that what detects nothing qualifies; do not ship then."""


class RecommendationFile(RecordFile):
    """`results/report/recommendation.json`."""

    sweep: str
    dataset: str
    dataset_digest: Digest
    max_drop: float
    """Permitted loss of val mAP against the control, in shares of 1."""
    profiles: tuple[Recommendation, ...]


def recommend(findings: Findings, compare: Compare) -> RecommendationFile:
    """One recommendation per panel. The choices were made from val; now test numbers are looked up and compared."""
    exporting = _exporting(findings)
    return RecommendationFile(
        sweep=findings.cells.sweep,
        dataset=findings.cells.dataset.name,
        dataset_digest=findings.cells.dataset.digest,
        max_drop=findings.max_drop,
        profiles=tuple(_recommendation(findings, number, compare, number in exporting) for number in range(len(findings.panels))),
    )


def relative_speed(own: LatencyRow, other: LatencyRow) -> Comparison | None:
    """The other's time over one's own, where both were timed in the same rounds with the same control; else None."""
    if not own.rounds_s or not other.rounds_s:
        return None
    same = (own.profile, own.environment, own.control_rounds_s) == (other.profile, other.environment, other.control_rounds_s)
    if not same:
        return None
    (compared,) = verdicts([Paired(str(own.artifact_digest), own.rounds_s, str(other.artifact_digest), other.rounds_s)])
    return compared


def _exporting(findings: Findings) -> set[int]:
    """Panels whose choice can be copied to models/best: one per profile, a measured one before an estimated one."""
    taken: dict[str, int] = {}
    for number, panel in sorted(enumerate(findings.panels), key=lambda pair: not pair[1].is_measured):
        if panel.has_own_artifacts and findings.choices[number].cell is not None:
            taken.setdefault(panel.profile, number)
    return set(taken.values())


def _recommendation(findings: Findings, number: int, compare: Compare, is_exported: bool) -> Recommendation:
    panel, choice = findings.panels[number], findings.choices[number]
    point = panel.point(choice.cell) if choice.cell else None
    difference, reference = None, None
    if choice.verdict == "recommended" and point and panel.baseline:
        difference = compare(_artifact(findings, panel, panel.baseline.cell), _artifact(findings, panel, point.cell))
        reference = _compare_with_reference(findings, panel, point, compare)
    found = Recommendation(
        profile=panel.profile,
        source=panel.source,
        runtime=panel.runtime,
        artifacts_of=panel.artifacts_of,
        verdict=choice.verdict,
        chosen=_side(findings, panel, point),
        control=_side(findings, panel, panel.point(CONTROL)),
        baseline=_side(findings, panel, panel.baseline),
        speedup=point.speedup if point else None,
        speedup_ci95=point.speedup_ci95 if point else None,
        speed_verdict=point.verdict if point else None,
        minimum_detectable_effect=point.minimum_detectable_effect if point else None,
        test_difference=difference,
        reference_comparison=reference,
        front=choice.front,
        indistinguishable=choice.indistinguishable,
        tiers=choice.tiers,
        exported_to=panel.profile if is_exported else None,
        answer="",
        notes=(),
        control_below_threshold=choice.control_below_threshold,
    )
    return found.model_copy(update={"answer": _answer(found, panel, choice), "notes": tuple(_notes(found, panel, choice))})


def _compare_with_reference(findings: Findings, panel: Panel, chosen: Point, compare: Compare) -> ReferenceComparison | None:
    """The chosen cell compared with the reference that it has to beat; nothing where times are modelled."""
    if not panel.simpler or not panel.is_measured:
        return None
    point, is_as_fast = reference_to_beat(chosen.p50_s, panel.simpler)
    artifact = _artifact(findings, panel, point.cell)
    return ReferenceComparison(
        reference=point.cell,
        is_as_fast=is_as_fast,
        p50_s=point.p50_s,
        size_bytes=point.size_bytes,
        val_map=point.val_map,
        test_map=artifact.test.map_50_95,
        speed=relative_speed(chosen, point),
        test_difference=compare(artifact, _artifact(findings, panel, chosen.cell)),
    )


def _side(findings: Findings, panel: Panel, point: Point | None) -> Side | None:
    if point is None:
        return None
    artifact, shared = _artifact(findings, panel, point.cell), {name: getattr(point, name) for name in OF_A_POINT}
    return Side(**shared, test_map=artifact.test.map_50_95, artifact_digest=artifact.digest)


def _artifact(findings: Findings, panel: Panel, name: str) -> ArtifactRecord:
    return findings.cells.record(name).artifacts[panel.artifacts_of]


def _answer(own: Recommendation, panel: Panel, choice: Choice) -> str:
    """What to deploy there, what it buys and what it costs; or why nothing."""
    chosen, control, baseline = own.chosen, own.control, own.baseline
    if chosen is None or control is None or baseline is None:
        return f"On `{own.profile}` nothing can be recommended: the control has no number there, so no drop can be judged."
    if own.verdict == "keep_uncompressed":
        return f"On `{own.profile}` keep {_which(baseline)}: {_why_control(panel, choice)}."
    lead = f"On `{own.profile}` use `{chosen.cell}`"
    if own.control_below_threshold or not panel.is_measured:
        how = "" if panel.is_measured else "by estimate and not by measurement, "
        how += f"by speed only, since the control's val mAP is {baseline.val_map:.3f}, " if own.control_below_threshold else ""
        lead = f"On `{own.profile}`, {how}`{chosen.cell}` comes first"
    test = f"test mAP {chosen.test_map:.3f} against {baseline.test_map:.3f} of {_which(baseline)}"
    if own.test_difference is not None:
        test += f" (difference {_in_points(own.test_difference)})"
    sizes = f"({megabytes(chosen.size_bytes)} MB against {megabytes(control.size_bytes)} MB)"
    smaller = f"{larger_or_smaller(control.size_bytes / chosen.size_bytes, '.1f')} {sizes}"
    parts = [_faster(own, panel, chosen, control), _end_to_end(chosen, control), smaller, test]
    return f"{lead}: {', '.join(filter(None, parts))}.{_than_reference(own.reference_comparison)}"


def _which(baseline: Side) -> str:
    return "the control" if baseline.cell == CONTROL else "the detector as it was given"


def _whose(own: Recommendation) -> str:
    return "the given detector's" if own.baseline and own.baseline.cell != CONTROL else "the control's"


def _why_control(panel: Panel, choice: Choice) -> str:
    if not choice.compared:
        return "no combination has a number there"
    if not choice.within_drop:
        return f"no combination qualifies, each of the {choice.compared} loses more than {permitted(choice.max_drop)} of val mAP"
    kept = f"{choice.within_drop} of {choice.compared} combinations stay within {permitted(choice.max_drop)} of val mAP"
    effects = [own.minimum_detectable_effect for own in panel.points if own.verdict == "not significant"]
    found = [effect for effect in effects if effect]
    faster = "faster"
    if not panel.is_measured:
        faster += f" by more than {100 * (EQUAL_WITHIN - 1):.0f}\u00a0% by estimate"
    elif any(point.is_tested for point in panel.points):
        faster += " beyond chance"
        faster += f" (a ratio of {times(max(found))} would probably have been found in each)" if found else ""
    return f"{kept}, and none of them is {faster}"


def _faster(own: Recommendation, panel: Panel, chosen: Side, control: Side) -> str:
    seconds = f"{milliseconds(chosen.p50_s)} ms against {milliseconds(control.p50_s)} ms"
    if own.speedup is None:
        return seconds
    if not panel.is_measured and chosen.interval_s:
        low, high = map(milliseconds, chosen.interval_s)
        seconds += f", interval {low} to {high} ms"
    # Where rounds are too few for a test, they are too few for the word as well.
    claim = "faster" if own.speed_verdict == "faster" or not panel.is_measured else "the control's speed"
    about = "" if panel.is_measured else "about "
    return f"{with_interval(f'{about}{own.speedup:.1f}x {claim}', own.speedup_ci95, '.1f')} ({seconds})"


def _end_to_end(chosen: Side, control: Side) -> str:
    """What is left of the speed once letterboxing and selection, which nothing here compresses, are counted too."""
    own_s, control_s = chosen.end_to_end_p50_s, control.end_to_end_p50_s
    if own_s is None or control_s is None:
        return ""
    return f"{control_s / own_s:.1f}x from picture to boxes ({milliseconds(own_s)} ms against {milliseconds(control_s)} ms)"


def _than_reference(found: ReferenceComparison | None) -> str:
    """A sentence on the simpler network that the chosen one is compared with."""
    if found is None:
        return ""
    which = "the best reference that is as fast" if found.is_as_fast else "the fastest reference, though none is as fast"
    speed = f"; {with_interval(f'{found.speed.ratio:.2f}x its speed', found.speed.interval)}" if found.speed else ""
    own = found.test_difference
    more = "more test mAP" if own.low > 0.0 else "less test mAP" if own.high < 0.0 else "test mAP not significantly different"
    return f" Compared with `{found.reference}`, {which}: {more}, {_in_points(own)}{speed}."


def _in_points(difference: Difference) -> str:
    interval = f"95\u00a0% interval {points(difference.low)} to {points(difference.high)}"
    return f"{points(difference.mean)} points, {interval}"


def _notes(own: Recommendation, panel: Panel, choice: Choice) -> list[str]:
    """What a reader should know besides the answer."""
    lines = []
    point, drop = panel.point(choice.cell) if choice.cell else None, permitted(choice.max_drop)
    if own.control_below_threshold and own.baseline is not None:
        lines.append(
            f"Do not deploy yet: the control's own val mAP is {own.baseline.val_map:.3f}, no more than the {drop} that may be "
            "lost, so what detects nothing would pass. Train longer (`teacher.training.epochs`) or, where it is a file, see how "
            "it is fed and read (`sixfold inspect --params`); look at the labels; or permit less (`report.max_drop`)."
        )
    if own.verdict == "recommended" and panel.is_measured and point and not point.is_tested:
        few = f"{count(len(point.rounds_s), 'round')} are too few to say more than their range"
        lines.append(f"Not tested: {few}; {MIN_ROUNDS} are needed.")
    if own.test_difference is not None and own.test_difference.mean < -choice.max_drop:
        lines.append(f"Val chose it; on test it loses more than the {drop} permitted on val.")
    if own.indistinguishable and own.verdict == "recommended":
        lines.append(f"Not significantly slower: {listed(own.indistinguishable, MOST_NAMES)}.")
    if own.tiers:
        kept = [
            f"{tier.share * 100:g}\u00a0%: `{tier.cell}`{f', {tier.speedup:.1f}x' if tier.speedup else ''}" for tier in own.tiers
        ]
        lines.append(f"Fastest that keeps this share of {_whose(own)} val mAP: {'; '.join(kept)}.")
    if panel.validated_on:
        lines.append(f"The error of these estimates was found on {'; '.join(panel.validated_on)}.")
    if not panel.has_own_artifacts:
        borrowed = f"accuracy and size are those of the {panel.artifacts_of} file"
        lines.append(f"No file was made for {panel.runtime or 'its runtime'}: {borrowed}, and nothing is exported.")
    return lines
