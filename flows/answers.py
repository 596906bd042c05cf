"""The answer of a sweep: one recommendation per profile, as data and in plain words. Test numbers join here, after every choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from detection.frozen import Digest, Frozen
from flows.analysis import Choice, Panel, Point, Tier, choose
from flows.flags import times
from flows.map_difference import Difference
from flows.records import CONTROL, ArtifactRecord, CellsFile, Source, SpeedVerdict
from flows.statistics import MIN_ROUNDS

MINUS = "\u2212"
MOST_NAMES = 4
"""Names listed in a sentence before the rest is only counted."""

Compare = Callable[[ArtifactRecord, ArtifactRecord], Difference]
"""(control's file, chosen file) -> paired difference of test mAP, above 0 where the chosen one is better."""


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


class Recommendation(Frozen):
    """What to ship on one profile; `chosen` and `control` are None only where the control has no number there."""

    profile: str
    source: Source
    runtime: str
    artifacts_of: str
    """Runtime whose files gave accuracy and size."""
    verdict: Literal["ship", "keep_control", "undecided"]
    chosen: Side | None
    control: Side | None
    speedup: float | None
    speedup_ci95: tuple[float, float] | None
    speed_verdict: SpeedVerdict | None = None
    """Of the chosen one against the control; None where nothing was measured or tested."""
    minimal_effect: float | None = None
    """The ratio of times that its rounds would probably have found."""
    test_difference: Difference | None
    """Chosen minus control; None where the control itself is kept."""
    front: tuple[str, ...]
    not_told_apart: tuple[str, ...]
    tiers: tuple[Tier, ...]
    exported_to: str | None
    """Folder below models/best; None where the sweep made no file for this runtime."""
    answer: str
    notes: tuple[str, ...]


class RecommendationFile(Frozen):
    """`results/report/recommendation.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    sweep: str
    dataset: str
    dataset_digest: Digest
    max_drop: float
    """Permitted loss of val mAP against the control, in shares of 1."""
    profiles: tuple[Recommendation, ...]


def recommend(cells: CellsFile, found: tuple[Panel, ...], max_drop: float, compare: Compare) -> RecommendationFile:
    """One recommendation per panel. Choices are made first, from val; then test numbers are looked up and compared."""
    choices = [choose(panel, max_drop) for panel in found]
    exporting = _exporting(found, choices)
    return RecommendationFile(
        sweep=cells.sweep,
        dataset=cells.dataset.name,
        dataset_digest=cells.dataset.digest,
        max_drop=max_drop,
        profiles=tuple(
            _recommendation(cells, panel, choice, compare, panel.profile if number in exporting else None)
            for number, (panel, choice) in enumerate(zip(found, choices, strict=True))
        ),
    )


def points(share: float) -> str:
    """A difference of mAP in points, with its sign."""
    text = f"{share * 100:+.1f}"
    return text.replace("-", MINUS) if float(text) else "0.0"


def milliseconds(seconds: float) -> str:
    """A time with three digits that count."""
    ms = seconds * 1e3
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def megabytes(size_bytes: int) -> str:
    """A size in MB (10^6 bytes)."""
    return f"{size_bytes / 1e6:.2f}"


def _exporting(found: tuple[Panel, ...], choices: list[Choice]) -> set[int]:
    """Panels whose choice can be copied to models/best: one per profile, a measured one before an estimated one."""
    taken: dict[str, int] = {}
    for number in sorted(range(len(found)), key=lambda number: not found[number].is_measured):
        if found[number].has_own_artifacts and choices[number].cell is not None:
            taken.setdefault(found[number].profile, number)
    return set(taken.values())


def _recommendation(cells: CellsFile, panel: Panel, choice: Choice, compare: Compare, exported_to: str | None) -> Recommendation:
    point = panel.point(choice.cell) if choice.cell else None
    chosen, control = (_side(cells, panel, point), _side(cells, panel, panel.point(CONTROL)))
    difference = None
    if choice.verdict == "ship" and chosen and control:
        difference = compare(_artifact(cells, panel, CONTROL), _artifact(cells, panel, chosen.cell))
    return Recommendation(
        profile=panel.profile,
        source=panel.source,
        runtime=panel.runtime,
        artifacts_of=panel.artifacts_of,
        verdict=choice.verdict,
        chosen=chosen,
        control=control,
        speedup=point.speedup if point else None,
        speedup_ci95=point.speedup_ci95 if point else None,
        speed_verdict=point.verdict if point else None,
        minimal_effect=point.minimal_effect if point else None,
        test_difference=difference,
        front=choice.front,
        not_told_apart=choice.not_told_apart,
        tiers=choice.tiers,
        exported_to=exported_to,
        answer=_answer(panel, choice, point, chosen=chosen, control=control, difference=difference),
        notes=_notes(panel, choice, difference),
    )


def _side(cells: CellsFile, panel: Panel, point: Point | None) -> Side | None:
    if point is None:
        return None
    artifact = _artifact(cells, panel, point.cell)
    return Side(
        cell=point.cell,
        methods=point.methods,
        p50_s=point.p50_s,
        interval_s=point.interval_s,
        size_bytes=point.size_bytes,
        val_map=point.val_map,
        test_map=artifact.test.map_50_95,
        artifact_digest=artifact.digest,
    )


def _artifact(cells: CellsFile, panel: Panel, name: str) -> ArtifactRecord:
    cell = cells.cell(name)
    assert cell is not None, f"{name} came from these records"
    return cell.artifacts[panel.artifacts_of]


def _answer(
    panel: Panel, choice: Choice, point: Point | None, *, chosen: Side | None, control: Side | None, difference: Difference | None
) -> str:
    if point is None or chosen is None or control is None:
        return f"On `{panel.profile}` nothing can be recommended: the control has no number there, so no drop can be judged."
    if choice.verdict == "keep_control":
        return f"On `{panel.profile}` keep the control: {_why_control(panel, choice)}."
    lead = f"On `{panel.profile}` ship `{chosen.cell}`"
    if not panel.is_measured:
        lead = f"On `{panel.profile}`, by estimate and not by measurement, `{chosen.cell}` comes first"
    parts = [_faster(panel, point, control), _smaller(chosen, control)]
    test = f"test mAP {chosen.test_map:.3f} against {control.test_map:.3f} of the control"
    if difference is not None:
        interval = f"95\u00a0% interval {points(difference.low)} to {points(difference.high)}"
        test += f" (difference {points(difference.mean)} points, {interval})"
    return f"{lead}: {', '.join([part for part in parts if part] + [test])}."


def _why_control(panel: Panel, choice: Choice) -> str:
    if not choice.compared:
        return "no combination has a number there"
    if not choice.within_drop:
        return (
            f"no combination qualifies, each of the {choice.compared} loses more than {choice.max_drop * 100:g} points of val mAP"
        )
    kept = f"{choice.within_drop} of {choice.compared} combinations stay within {choice.max_drop * 100:g} points of val mAP"
    return f"{kept}, and none of them {_none_faster(panel)}"


def _none_faster(panel: Panel) -> str:
    """The absence of a finding, with what would have been found."""
    effects = [point.minimal_effect for point in panel.points if point.verdict == "no difference" and point.minimal_effect]
    if not any(point.is_tested for point in panel.points):
        return "is faster"
    found = f" (a ratio of {times(max(effects))} would probably have been found in each)" if effects else ""
    return f"is faster beyond chance{found}"


def _faster(panel: Panel, point: Point, control: Side) -> str:
    seconds = f"{milliseconds(point.p50_s)} ms against {milliseconds(control.p50_s)} ms"
    if point.speedup is None:
        return seconds
    interval = f" [{point.speedup_ci95[0]:.1f}, {point.speedup_ci95[1]:.1f}]" if point.speedup_ci95 else ""
    if not panel.is_measured and point.interval_s:
        seconds += f", interval {milliseconds(point.interval_s[0])} to {milliseconds(point.interval_s[1])} ms"
    if panel.is_measured and point.verdict != "faster":  # rounds too few for a test, so for the word as well
        return f"{point.speedup:.1f}x the control's speed{interval} ({seconds})"
    return f"{'' if panel.is_measured else 'about '}{point.speedup:.1f}x faster{interval} ({seconds})"


def _smaller(chosen: Side, control: Side) -> str:
    sizes = f"({megabytes(chosen.size_bytes)} MB against {megabytes(control.size_bytes)} MB)"
    if chosen.size_bytes <= control.size_bytes:
        return f"{control.size_bytes / chosen.size_bytes:.1f}x smaller {sizes}"
    return f"{chosen.size_bytes / control.size_bytes:.1f}x larger {sizes}"


def _notes(panel: Panel, choice: Choice, difference: Difference | None) -> tuple[str, ...]:
    notes = []
    point = panel.point(choice.cell) if choice.cell else None
    if choice.verdict == "ship" and panel.is_measured and point and not point.is_tested:
        rounds = f"{point.rounds} {'round' if point.rounds == 1 else 'rounds'}"
        notes.append(f"Not tested: {rounds} are too few to say more than their range; {MIN_ROUNDS} are needed.")
    if difference is not None and difference.mean < -choice.max_drop:
        notes.append(f"Val chose it; on test it loses more than the {choice.max_drop * 100:g} points permitted on val.")
    if choice.not_told_apart and choice.verdict == "ship":
        rest = len(choice.not_told_apart) - MOST_NAMES
        names = ", ".join(f"`{name}`" for name in choice.not_told_apart[:MOST_NAMES])
        notes.append(f"Within the noise of its speed: {names}{f' and {rest} more' if rest > 0 else ''}.")
    if choice.tiers:
        kept = "; ".join(
            f"{tier.share * 100:g}\u00a0%: `{tier.cell}`" + (f", {tier.speedup:.1f}x" if tier.speedup else "")
            for tier in choice.tiers
        )
        notes.append(f"Fastest that keeps this share of the control's val mAP: {kept}.")
    if panel.validated_on:
        notes.append(f"The error of these estimates was found on {'; '.join(panel.validated_on)}.")
    if not panel.has_own_artifacts:
        runtime = panel.runtime or "its runtime"
        borrowed = f"accuracy and size are those of the {panel.artifacts_of} file"
        notes.append(f"No file was made for {runtime}: {borrowed}, and nothing is exported.")
    return tuple(notes)
