"""Plain sentences about one method, computed from its numbers: what it did, and where it did not help."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flows.compare import retrain_text
from flows.records.formatting import points as in_points
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference
from studies.methods.results import Beside, FoundBy, MethodResult, Search, Shown, Summary, Timing
from studies.methods.subjects import Rivalry

WITHIN = 0.01
"""One point of mAP: what the sentences call a small loss."""
MOST_NAMES = 3
"""So many variants a sentence names with their numbers; the rest is in the table."""
SAME_MACS = 1.02
"""Multiply-adds that differ by less are called the same."""
ROUNDING = 1e-9
RIVALS: dict[Rivalry, str] = {
    "equal_macs": "random pruning at equal multiply-adds",
    "no_slower": "the best reference that is no slower",
}
"""What the variants stand beside where it is not one and the same; otherwise its name is said."""


def sentences(found: Summary, own: MethodResult) -> list[str]:
    """One line per runtime, then what a search was worth, the three seeds, and what was not made."""
    lines = [f"In {runtime}: {' '.join(said)}" for runtime in found.runtimes if (said := _in_runtime(found, own, runtime))]
    lines += _searched(own.searches)
    lines += list(retrain_text.sentences(own.seeds)) if own.seeds is not None else []
    if own.missing:
        lines.append(f"Not made: {_listed([f'`{name}`' for name in own.missing])}.")
    return lines


def _in_runtime(found: Summary, own: MethodResult, runtime: str) -> list[str]:
    made = [variant for variant in own.variants if variant.within(runtime) is not None]
    if not made:
        return []
    costs_less = any(found.control.macs > variant.macs * SAME_MACS for variant in made)
    said = [_reach(found.control, made, runtime) if costs_less else _counted("the control", _to_control(made, runtime))]
    said += _speeds(made, runtime)
    # Labels alone make the control's very network; then the same would be said twice.
    is_told = any(
        reference.within(runtime) is not None and _difference(reference, runtime) == NO_DIFFERENCE for reference in own.references
    )
    said += [] if is_told and own.rivalry == "plain" else _besides(own, runtime)
    return [*said, *_idle(made)]


def _reach(control: Shown, made: Sequence[Shown], runtime: str) -> str:
    """How few multiply-adds are left within one point of the control, or how near any comes."""
    differences = {variant.label: _difference(variant, runtime) for variant in made}
    near = [variant for variant in made if differences[variant.label].mean >= -WITHIN - ROUNDING]
    if near:
        least = min(near, key=lambda variant: variant.macs)
        return (
            f"Within 1 point of the control's test mAP down to {100 * least.macs / control.macs:.0f} % of its multiply-adds "
            f"(`{least.label}` {spread(differences[least.label])})."
        )
    best = max(made, key=lambda variant: differences[variant.label].mean)
    return (
        f"No variant lies within 1 point of the control's test mAP; nearest is `{best.label}`, {spread(differences[best.label])}."
    )


def _counted(rival: str, differences: Sequence[tuple[str, Difference]]) -> str:
    """How many variants have more test mAP than a rival, less, or neither beyond the interval; where it did not help, which."""
    more = [entry for entry in differences if entry[1].low > 0.0]
    less = [entry for entry in differences if entry[1].high < 0.0]
    neither = [entry for entry in differences if entry not in more and entry not in less]
    said = [f"more test mAP in {len(more)} of {len(differences)}"]
    said += [f"less in {len(less)} ({_with_numbers(less)})"] if less else []
    if neither:
        named = _with_numbers(neither) if len(neither) == 1 else _listed([f"`{label}`" for label, _ in neither])
        said.append(f"not told apart in {len(neither)} ({named})")
    return f"Beside {rival}: {', '.join(said)}."


def _speeds(made: Sequence[Shown], runtime: str) -> list[str]:
    """Per profile: how many variants are faster than the control, which are not, and how fast the fastest is."""
    timed = [(variant.label, timing) for variant in made for timing in getattr(variant.within(runtime), "timings", ())]
    said = []
    for profile in dict.fromkeys(timing.profile for _, timing in timed):
        own = [(label, timing) for label, timing in timed if timing.profile == profile]
        tested = [entry for entry in own if entry[1].verdict not in (None, "too few rounds")]
        if not tested:
            said.append(f"{profile}: measured in too few rounds to say faster or slower.")
            continue
        faster = [entry for entry in tested if entry[1].verdict == "faster"]
        slower = [entry for entry in tested if entry[1].verdict == "slower"]
        neither = [entry for entry in tested if entry not in faster and entry not in slower]
        text = f"Measured faster than the control in {len(faster)} of {len(tested)}"
        text += f", up to {_fastest(faster)}" if faster else ""
        text += f"; slower in {len(slower)} ({_ratios(slower)})" if slower else ""
        text += f"; no difference in {len(neither)} ({_ratios(neither)})" if neither else ""
        said.append(f"{text} ({profile}).")
        if idle := [label for label, timing in tested if timing.smaller_not_faster]:
            said.append(f"Smaller but not faster: {_listed([f'`{label}`' for label in idle])}.")
    return said


def _besides(own: MethodResult, runtime: str) -> list[str]:
    """The variants beside what they have to beat; a float sibling apart, since it is the rival of one."""
    here = [beside for beside in own.beside if beside.runtime == runtime]
    by_rival: dict[str, list[tuple[str, Difference]]] = {}
    for beside in here:
        name = RIVALS.get(own.rivalry, f"`{beside.rival}`")
        by_rival.setdefault(name, []).append((beside.variant, beside.difference))
    said = [_counted(name, differences) for name, differences in by_rival.items()]
    if own.rivalry == "no_slower":
        alone = [f"`{variant.label}`" for variant in own.variants if _is_timed(variant, runtime) and not _has_rival(variant, here)]
        said += [f"No reference is as fast as {_listed(alone)}."] if alone else []
    return said


def _idle(made: Sequence[Shown]) -> list[str]:
    unchanged = [f"`{variant.label}`" for variant in made if variant.no_effect]
    return [f"Changed nothing: {_listed(unchanged)}."] if unchanged else []


def _searched(searches: Sequence[Search]) -> list[str]:
    """Whether the searches found what random architectures within the same budget would not have."""
    if not searches:
        return []

    def ahead(other: FoundBy) -> str:
        reached = [{found.by: found.supernet_val_map for found in search.found} for search in searches]
        leads = [own["search"] - own[other] for own in reached]
        by = f"by {in_points(min(leads))} to {in_points(max(leads))} points (mean {in_points(fmean(leads))})"
        return f"in {sum(lead > 0.0 for lead in leads)} of {len(leads)} searches, {by}"

    return [
        f"In the supernet, on the val pictures that chose, the search's architecture is ahead of the best of as many random ones "
        f"{ahead('random_search')}, and of the largest network estimated to be as fast {ahead('largest_macs')}; no interval."
    ]


def spread(difference: Difference) -> str:
    """A difference in points with its interval."""
    return f"{in_points(difference.mean)} [{in_points(difference.low)}, {in_points(difference.high)}]"


def times(ratio: float) -> str:
    """A ratio of times."""
    return f"{ratio:.2f}x"


def _to_control(made: Sequence[Shown], runtime: str) -> list[tuple[str, Difference]]:
    return [(variant.label, _difference(variant, runtime)) for variant in made]


def _difference(variant: Shown, runtime: str) -> Difference:
    own = variant.within(runtime)
    assert own is not None, "only variants with a file in this runtime are told of"
    return own.difference


def _is_timed(variant: Shown, runtime: str) -> bool:
    own = variant.within(runtime)
    return own is not None and bool(own.timings)


def _has_rival(variant: Shown, here: Sequence[Beside]) -> bool:
    return any(beside.variant == variant.label for beside in here)


def _fastest(entries: Sequence[tuple[str, Timing]]) -> str:
    label, timing = max(entries, key=lambda entry: entry[1].speedup or 0.0)
    return f"{times(timing.speedup or 0.0)} (`{label}`)"


def _ratios(entries: Sequence[tuple[str, Timing]]) -> str:
    return _listed([f"`{label}` {times(timing.speedup)}" if timing.speedup else f"`{label}`" for label, timing in entries])


def _with_numbers(entries: Sequence[tuple[str, Difference]]) -> str:
    return _listed([f"`{label}` {spread(difference)}" for label, difference in entries])


def _listed(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
