"""The answer in plain words: what to ship on a profile, what it buys, what it costs, and what else should be known."""

from __future__ import annotations

from detection.frozen import Digest, Frozen
from flows.records.formatting import megabytes, milliseconds, permitted, points
from flows.records.schema import CONTROL
from flows.report.pareto import Choice, Panel, Point
from flows.report.reference_to_beat import Beside
from flows.stats.latency import EQUAL_WITHIN, MIN_ROUNDS
from flows.stats.map_bootstrap import Difference
from flows.stats.verdicts import times

MOST_NAMES = 4
"""Names listed in a sentence before the rest is only counted."""


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


def answer(
    panel: Panel,
    choice: Choice,
    point: Point | None,
    *,
    chosen: Side | None,
    control: Side | None,
    difference: Difference | None,
    beside: Beside | None,
) -> str:
    """What to ship there, what it buys and what it costs; or why nothing."""
    if point is None or chosen is None or control is None:
        return f"On `{panel.profile}` nothing can be recommended: the control has no number there, so no drop can be judged."
    if choice.verdict == "keep_control":
        return f"On `{panel.profile}` keep the control: {_why_control(panel, choice)}."
    lead = f"On `{panel.profile}` ship `{chosen.cell}`"
    if choice.is_blind or not panel.is_measured:
        how = "" if panel.is_measured else "by estimate and not by measurement, "
        how += f"by speed alone since the control's own val mAP is {control.val_map:.3f}, " if choice.is_blind else ""
        lead = f"On `{panel.profile}`, {how}`{chosen.cell}` comes first"
    parts = [_faster(panel, point, control), _end_to_end(chosen, control), _smaller(chosen, control)]
    test = f"test mAP {chosen.test_map:.3f} against {control.test_map:.3f} of the control"
    if difference is not None:
        test += f" (difference {_with_interval(difference)})"
    return f"{lead}: {', '.join([part for part in parts if part] + [test])}.{_than_reference(beside)}"


def _why_control(panel: Panel, choice: Choice) -> str:
    if not choice.compared:
        return "no combination has a number there"
    if not choice.within_drop:
        return f"no combination qualifies, each of the {choice.compared} loses more than {permitted(choice.max_drop)} of val mAP"
    kept = f"{choice.within_drop} of {choice.compared} combinations stay within {permitted(choice.max_drop)} of val mAP"
    return f"{kept}, and none of them {_none_faster(panel)}"


def _none_faster(panel: Panel) -> str:
    """The absence of a finding, with what would have been found."""
    effects = [point.minimal_effect for point in panel.points if point.verdict == "no difference" and point.minimal_effect]
    if not panel.is_measured:
        return f"is faster by more than {100 * (EQUAL_WITHIN - 1):.0f}\u00a0% by estimate"
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


def _end_to_end(chosen: Side, control: Side) -> str:
    """What is left of the speed once letterboxing and selection, which nothing here compresses, are counted too."""
    own_s, control_s = chosen.end_to_end_p50_s, control.end_to_end_p50_s
    if own_s is None or control_s is None:
        return ""
    return f"{control_s / own_s:.1f}x from picture to boxes ({milliseconds(own_s)} ms against {milliseconds(control_s)} ms)"


def _than_reference(beside: Beside | None) -> str:
    """A sentence on the simpler network that would have done."""
    if beside is None:
        return ""
    which = "the best reference that is as fast" if beside.is_as_fast else "the fastest reference, though none is as fast"
    ratio = beside.speed
    interval = f" [{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]" if ratio is not None and ratio.interval else ""
    speed = f"; {ratio.ratio:.2f}x its speed{interval}" if ratio is not None else ""
    own = beside.test_difference
    said = "more test mAP" if own.low > 0.0 else "less test mAP" if own.high < 0.0 else "not told apart by test mAP"
    return f" Beside `{beside.reference}`, {which}: {said}, {_with_interval(own)}{speed}."


def _with_interval(difference: Difference) -> str:
    interval = f"95\u00a0% interval {points(difference.low)} to {points(difference.high)}"
    return f"{points(difference.mean)} points, {interval}"


def _smaller(chosen: Side, control: Side) -> str:
    sizes = f"({megabytes(chosen.size_bytes)} MB against {megabytes(control.size_bytes)} MB)"
    if chosen.size_bytes <= control.size_bytes:
        return f"{control.size_bytes / chosen.size_bytes:.1f}x smaller {sizes}"
    return f"{chosen.size_bytes / control.size_bytes:.1f}x larger {sizes}"


def notes(panel: Panel, choice: Choice, difference: Difference | None) -> tuple[str, ...]:
    """What a reader should know beside the answer."""
    said = []
    point = panel.point(choice.cell) if choice.cell else None
    control = panel.point(CONTROL)
    if choice.is_blind and control is not None:
        said.append(
            f"Do not ship yet: the control's own val mAP is {control.val_map:.3f}, no more than the "
            f"{permitted(choice.max_drop)} that may be lost, so what detects nothing would pass. "
            "Train longer (`teacher.training.epochs`), look at the labels, or permit less (`report.max_drop`)."
        )
    if choice.verdict == "ship" and panel.is_measured and point and not point.is_tested:
        rounds = f"{point.rounds} {'round' if point.rounds == 1 else 'rounds'}"
        said.append(f"Not tested: {rounds} are too few to say more than their range; {MIN_ROUNDS} are needed.")
    if difference is not None and difference.mean < -choice.max_drop:
        said.append(f"Val chose it; on test it loses more than the {permitted(choice.max_drop)} permitted on val.")
    if choice.not_told_apart and choice.verdict == "ship":
        rest = len(choice.not_told_apart) - MOST_NAMES
        names = ", ".join(f"`{name}`" for name in choice.not_told_apart[:MOST_NAMES])
        said.append(f"Within the noise of its speed: {names}{f' and {rest} more' if rest > 0 else ''}.")
    if choice.tiers:
        kept = "; ".join(
            f"{tier.share * 100:g}\u00a0%: `{tier.cell}`" + (f", {tier.speedup:.1f}x" if tier.speedup else "")
            for tier in choice.tiers
        )
        said.append(f"Fastest that keeps this share of the control's val mAP: {kept}.")
    if panel.validated_on:
        said.append(f"The error of these estimates was found on {'; '.join(panel.validated_on)}.")
    if not panel.has_own_artifacts:
        runtime = panel.runtime or "its runtime"
        borrowed = f"accuracy and size are those of the {panel.artifacts_of} file"
        said.append(f"No file was made for {runtime}: {borrowed}, and nothing is exported.")
    return tuple(said)
