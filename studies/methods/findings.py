"""What stands out in one method's numbers, as data and as sentences: what it did, and where it did not help."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flows.compare import retrain_text
from flows.records.formatting import listed, points, with_interval
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference
from studies.methods.results import FoundBy, MethodResult, Search, Shown, Summary, Timing
from studies.methods.subjects import Rivalry

WITHIN = 0.01
"""One point of mAP: what the sentences call a small loss."""
MOST_NAMES = 3
"""Variants that a sentence names with their numbers; the rest is in the table."""
SAME_MACS = 1.02
"""Multiply-adds that differ by less are called the same."""
ROUNDING = 1e-9
BASELINES: dict[Rivalry, str] = {
    "equal_macs": "random pruning at equal multiply-adds",
    "no_slower": "the best reference that is no slower",
}
"""What the variants are compared with where it is not one and the same; otherwise its name is given."""
Named = tuple[str, Difference]
Timed = tuple[str, Timing]
"""Label of a variant, and what is said of it."""


def sentences(found: Summary, own: MethodResult) -> list[str]:
    """One line per runtime, then what a search was worth, the three seeds, and what was not made."""
    lines = [f"In {runtime}: {' '.join(said)}" for runtime in found.runtimes if (said := _in_runtime(found, own, runtime))]
    lines += _searched(own.searches)
    lines += retrain_text.sentences(own.seeds) if own.seeds is not None else []
    return lines + ([f"Not made: {listed(own.missing, MOST_NAMES)}."] if own.missing else [])


def _in_runtime(found: Summary, own: MethodResult, runtime: str) -> list[str]:
    made = [variant for variant in own.variants if variant.within(runtime) is not None]
    if not made:
        return []
    costs_less = any(found.control.macs > variant.macs * SAME_MACS for variant in made)
    to_control = [(variant.label, difference(variant, runtime)) for variant in made]
    lines = [_reach(found.control, made, runtime) if costs_less else _counted("the control", to_control)]
    for profile, tested in speeds_of(made, runtime).items():
        lines += [_speed(profile, tested)]
        not_faster = [label for label, timing in tested if timing.smaller_not_faster]
        lines += [f"Smaller but not faster: {listed(not_faster, MOST_NAMES)}."] if not_faster else []
    lines += [_counted(name, differences) for name, differences in compared(own, runtime).items()]
    lone = without_baseline(own, runtime)
    lines += [f"No reference is as fast as {listed(lone, MOST_NAMES)}."] if lone else []
    unchanged = [variant.label for variant in made if variant.no_effect]
    return lines + ([f"Changed nothing: {listed(unchanged, MOST_NAMES)}."] if unchanged else [])


def reach(control: Shown, made: Sequence[Shown], runtime: str) -> tuple[Shown, bool]:
    """The variant with the fewest multiply-adds within one point of the control, True; or the nearest to it, False."""
    near = [variant for variant in made if difference(variant, runtime).mean >= -WITHIN - ROUNDING]
    if near:
        return min(near, key=lambda variant: variant.macs), True
    return max(made, key=lambda variant: difference(variant, runtime).mean), False


def _reach(control: Shown, made: Sequence[Shown], runtime: str) -> str:
    variant, is_within = reach(control, made, runtime)
    change = spread(difference(variant, runtime))
    if is_within:
        share = f"{100 * variant.macs / control.macs:.0f} %"
        return f"Within 1 point of the control's test mAP down to {share} of its multiply-adds (`{variant.label}` {change})."
    return f"No variant lies within 1 point of the control's test mAP; nearest is `{variant.label}`, {change}."


def count(differences: Sequence[Named]) -> tuple[list[Named], list[Named], list[Named]]:
    """Variants with more test mAP than a baseline, with less, and neither: by whether the 95 % interval lies above or below 0."""
    more = [own for own in differences if own[1].low > 0.0]
    less = [own for own in differences if own[1].high < 0.0]
    return more, less, [own for own in differences if own not in more and own not in less]


def _counted(baseline: str, differences: Sequence[Named]) -> str:
    more, less, neither = count(differences)
    said = [f"more test mAP in {len(more)} of {len(differences)}"]
    said += [f"less in {len(less)} ({_with_numbers(less)})"] if less else []
    if neither:
        named = _with_numbers(neither) if len(neither) == 1 else listed([label for label, _ in neither], MOST_NAMES)
        said.append(f"not statistically significant in {len(neither)} ({named})")
    return f"Compared with {baseline}: {', '.join(said)}."


def speeds_of(made: Sequence[Shown], runtime: str) -> dict[str, list[Timed]]:
    """Profile -> its variants with a verdict, each with its time."""
    found: dict[str, list[Timed]] = {}
    for variant in made:
        for timing in getattr(variant.within(runtime), "timings", ()):
            tested = found.setdefault(timing.profile, [])
            if timing.verdict not in (None, "too few rounds"):
                tested.append((variant.label, timing))
    return found


def _speed(profile: str, tested: Sequence[Timed]) -> str:
    if not tested:
        return f"{profile}: measured in too few rounds to say faster or slower."
    faster, slower = ([own for own in tested if own[1].verdict == verdict] for verdict in ("faster", "slower"))
    neither = [own for own in tested if own not in faster and own not in slower]
    text = f"Measured faster than the control in {len(faster)} of {len(tested)}"
    if faster:
        label, timing = max(faster, key=lambda own: own[1].speedup or 0.0)
        text += f", up to {times(timing.speedup or 0.0)} (`{label}`)"
    text += f"; slower in {len(slower)} ({_ratios(slower)})" if slower else ""
    text += f"; not statistically significant in {len(neither)} ({_ratios(neither)})" if neither else ""
    return f"{text} ({profile})."


def compared(own: MethodResult, runtime: str) -> dict[str, list[Named]]:
    """Baseline -> the variants compared with it; a float sibling apart, since it is the baseline of one.

    Empty where the plain variant is the control to the last detection, with which they are compared already.
    """
    made = [reference for reference in own.references if reference.within(runtime) is not None]
    if own.rivalry == "plain" and any(difference(reference, runtime) == NO_DIFFERENCE for reference in made):
        return {}
    found: dict[str, list[Named]] = {}
    for entry in own.comparisons:
        if entry.runtime == runtime:
            name = BASELINES.get(own.rivalry, f"`{entry.rival}`")
            found.setdefault(name, []).append((entry.variant, entry.difference))
    return found


def without_baseline(own: MethodResult, runtime: str) -> list[str]:
    """Timed variants that are faster than every reference."""
    known = {entry.variant for entry in own.comparisons if entry.runtime == runtime}
    timed = [variant.label for variant in own.variants if getattr(variant.within(runtime), "timings", ())]
    return [label for label in timed if label not in known] if own.rivalry == "no_slower" else []


def leads(searches: Sequence[Search], other: FoundBy) -> list[float]:
    """Per search, how far its architecture's val mAP in the supernet is above what would have been chosen otherwise."""
    reached = [{own.by: own.supernet_val_map for own in search.found} for search in searches]
    return [own["search"] - own[other] for own in reached]


def _searched(searches: Sequence[Search]) -> list[str]:
    if not searches:
        return []

    def ahead(other: FoundBy) -> str:
        own = leads(searches, other)
        by = f"by {points(min(own))} to {points(max(own))} points (mean {points(fmean(own))})"
        return f"in {sum(lead > 0.0 for lead in own)} of {len(own)} searches, {by}"

    return [
        "In the supernet, on the val pictures that the search used, its architecture is ahead of the random-search baseline (the "
        f"best of as many random ones) {ahead('random_search')}, and of the largest network estimated to be as fast "
        f"{ahead('largest_macs')}; without intervals."
    ]


def spread(change: Difference) -> str:
    """A difference in points with its interval."""
    return with_interval(points(change.mean), (change.low, change.high), points)


def times(ratio: float) -> str:
    """A ratio of times."""
    return f"{ratio:.2f}x"


def difference(variant: Shown, runtime: str) -> Difference:
    """Of its test mAP, to the control."""
    own = variant.within(runtime)
    assert own is not None, "only variants with a file in this runtime are asked for"
    return own.difference


def _ratios(entries: Sequence[tuple[str, Timing]]) -> str:
    said = [f"`{label}` {times(timing.speedup)}" if timing.speedup else f"`{label}`" for label, timing in entries]
    return listed(said, MOST_NAMES, mark="")


def _with_numbers(entries: Sequence[Named]) -> str:
    return listed([f"`{label}` {spread(change)}" for label, change in entries], MOST_NAMES, mark="")
