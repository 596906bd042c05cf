"""What `sixfold compare` found about two cells, A and B, and how it is told: sentences and a table."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from detection.frozen import Frozen
from flows.records.formatting import megabytes, milliseconds, points
from flows.stats.latency import Comparison
from flows.stats.map_bootstrap import Difference

HEADS = ("where", "what", "A", "B", "B beside A", "95 %", "p")
"""Of the table."""


class RuntimeComparison(Frozen):
    """Accuracy and size of both as files of one runtime."""

    runtime: str
    val: Difference
    """Of mAP 50-95, B minus A. Val chose among the cells, so it flatters what was chosen."""
    test: Difference
    val_map_50_95: tuple[float, float]
    """Of A and B, as are the next two."""
    test_map_50_95: tuple[float, float]
    size_bytes: tuple[int, int]
    size_ratio: float
    """A's size over B's: above 1 B is smaller."""
    is_same_file: bool


class ProfileComparison(Frozen):
    """Measured latency of both on one profile; modelled times are never compared here."""

    profile: str
    runtime: str
    """Name and version."""
    p50_s: tuple[float, float] | None
    """Of A and B; None where `why` says why."""
    comparison: Comparison | None
    """Of B beside A: its ratio is A's time over B's, above 1 where B is faster. None where `why` says why."""
    is_equal_within_5_percent: bool | None
    """Whether the whole interval of the ratio lies within 5 %; None without an interval."""
    why: str | None


class CellComparison(Frozen):
    """What `sixfold compare --json` prints."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    sweep: str
    a: str
    b: str
    pictures: dict[str, int]
    """Split -> pictures that the differences of mAP rest on."""
    runtimes: tuple[RuntimeComparison, ...]
    profiles: tuple[ProfileComparison, ...]


def sentences(found: CellComparison) -> tuple[str, ...]:
    """The answer: one sentence per runtime and one per profile that has measured both."""
    lines = [_runtime_sentence(found, own) for own in found.runtimes]
    lines += [_profile_sentence(found, own) for own in found.profiles if own.comparison is not None]
    if not found.runtimes:
        lines.insert(0, f"`{found.a}` and `{found.b}` have no file of the same runtime, so their accuracy is not compared.")
    if not any(own.comparison is not None for own in found.profiles):
        lines.append("No profile has measured both in the same rounds, so nothing is said of their speed.")
    return tuple(lines)


def _runtime_sentence(found: CellComparison, own: RuntimeComparison) -> str:
    if own.is_same_file:
        return f"In {own.runtime} both are the same file."
    test, spread = own.test, f"{points(own.test.mean)} points [{points(own.test.low)}, {points(own.test.high)}]"
    if test.low > 0.0:
        accuracy = f"has more test mAP than `{found.a}`: {spread}"
    elif test.high < 0.0:
        accuracy = f"has less test mAP than `{found.a}`: {spread}"
    else:
        accuracy = f"and `{found.a}` are not told apart by test mAP: {spread}"
    a_bytes, b_bytes = own.size_bytes
    size = f"the file of `{found.b}` is {_how_much_smaller(own)}" if a_bytes != b_bytes else "the files are equally large"
    return f"In {own.runtime} `{found.b}` {accuracy}; {size} ({megabytes(b_bytes)} MB against {megabytes(a_bytes)} MB)."


def _how_much_smaller(own: RuntimeComparison) -> str:
    return f"{own.size_ratio:.2f}x smaller" if own.size_ratio >= 1.0 else f"{1 / own.size_ratio:.2f}x larger"


def _profile_sentence(found: CellComparison, own: ProfileComparison) -> str:
    comparison = own.comparison
    assert comparison is not None, "only profiles with a ratio are told of"
    place, ratio = f"On {own.profile}", comparison.ratio
    if comparison.verdict == "same file":
        return f"{place} both are the same file, so equally fast."
    if comparison.interval is None:
        low, high = comparison.range
        counted = f"{comparison.rounds} rounds, too few to test"
        return f"{place} `{found.b}` runs at {ratio:.2f}x the speed of `{found.a}` ({low:.2f} to {high:.2f} in {counted})."
    low, high = comparison.interval
    if own.is_equal_within_5_percent:
        return f"{place} they are equally fast within 5 %: {ratio:.3f}x [{low:.3f}, {high:.3f}]."
    if comparison.verdict == "faster":
        return f"{place} `{found.b}` is {ratio:.2f}x faster than `{found.a}` [{low:.2f}, {high:.2f}]."
    if comparison.verdict == "slower":
        return f"{place} `{found.b}` is {1 / ratio:.2f}x slower than `{found.a}` [{1 / high:.2f}, {1 / low:.2f}]."
    return f"{place} they are neither told apart nor shown to be equal within 5 %: {ratio:.3f}x [{low:.3f}, {high:.3f}]."


def rows(found: CellComparison) -> tuple[tuple[str, ...], ...]:
    """The lines of the table under HEADS: mAP and size per runtime, measured latency per profile or why there is none."""
    lines: list[tuple[str, ...]] = []
    for own in found.runtimes:
        for split, difference in (("val", own.val), ("test", own.test)):
            spread = f"[{points(difference.low)}, {points(difference.high)}]"
            maps = own.val_map_50_95 if split == "val" else own.test_map_50_95
            shown = tuple(f"{value:.3f}" for value in maps)
            lines.append((own.runtime, f"{split} mAP", *shown, f"{points(difference.mean)} pt", spread, _p(difference.p)))
        sizes = tuple(megabytes(size) for size in own.size_bytes)
        lines.append((own.runtime, "size, MB", *sizes, _how_much_smaller(own), "", ""))
    for place in found.profiles:
        if place.comparison is None or place.p50_s is None:
            lines.append((place.profile, "p50, ms", "", "", place.why or "", "", ""))
            continue
        interval = place.comparison.interval
        shown = tuple(milliseconds(seconds) for seconds in place.p50_s)
        spread = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else f"{place.comparison.rounds} rounds"
        lines.append((place.profile, "p50, ms", *shown, f"{place.comparison.ratio:.3f}x the speed", spread, _p(place.comparison.p)))
    return tuple(lines)


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
