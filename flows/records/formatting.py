"""Numbers as people read them: points of mAP, ratios, milliseconds, megabytes, intervals, counts; and errors in a line."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MINUS = "\u2212"
Show = str | Callable[[float], str]
"""How a number is shown: a format such as ".2f", or a function of this module."""


def points(share: float, sign: str = "+") -> str:
    """A difference of mAP in points, with its sign; with sign "-" a plus is left out."""
    text = f"{share * 100:{sign}.1f}"
    return text.replace("-", MINUS) if float(text) else "0.0"


def permitted(share: float) -> str:
    """A permitted drop of mAP in words: "1 point", "0.5 points"."""
    text = f"{share * 100:g}"
    return f"{text} point" if text == "1" else f"{text} points"


def milliseconds(seconds: float) -> str:
    """A time with three digits that count."""
    ms = seconds * 1e3
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def megabytes(size_bytes: float) -> str:
    """A size in MB (10^6 bytes)."""
    return f"{size_bytes / 1e6:.2f}"


def times(ratio: float) -> str:
    """A ratio near 1 with as many digits as it takes to differ from it."""
    return f"{ratio:.3f}x" if ratio < 1.1 else f"{ratio:.2f}x"


def larger_or_smaller(ratio: float, form: str = ".2f") -> str:
    """Of a size that is ratio times as small as another: "2.00x smaller", "1.50x larger"."""
    return f"{ratio:{form}}x smaller" if ratio >= 1.0 else f"{1 / ratio:{form}}x larger"


def interval(bounds: tuple[float, float] | None, show: Show = ".2f") -> str:
    """Both ends in brackets; empty where there is no interval."""
    if bounds is None:
        return ""
    low, high = (format(bound, show) if isinstance(show, str) else show(bound) for bound in bounds)
    return f"[{low}, {high}]"


def with_interval(text: str, bounds: tuple[float, float] | None, show: Show = ".2f") -> str:
    """The text, followed by the interval where there is one."""
    return f"{text} {interval(bounds, show)}" if bounds else text


def p_value(p: float | None) -> str:
    """Three decimals, "< 0.001" below; empty where nothing was tested."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 cell", "2 cells"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str], most: int, mark: str = "`") -> str:
    """The first names, between marks, and how many more there are."""
    shown = ", ".join(f"{mark}{name}{mark}" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def not_applicable(reasons: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each reason, with the methods that the detector cannot take because of it."""
    methods = defaultdict[str, list[str]](list)
    for method, reason in reasons.items():
        methods[reason].append(method)
    return tuple(
        f"not applicable to this detector: {', '.join(own)}. {reason[:1].upper()}{reason[1:]}" for reason, own in methods.items()
    )


def one_line(text: str | None) -> str:
    """The words of a text that may hold line breaks; says so where there is none."""
    return " ".join((text or "no reason recorded").split())


def literal(text: str) -> str:
    """A text of others in Markdown's code marks, where nothing in it counts as Markdown or HTML, backticks included."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    marks, space = "`" * (longest + 1), " " if longest else ""
    return f"{marks}{space}{one_line(text)}{space}{marks}"


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of all that stands in nested mappings and is no mapping itself."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def describe_failure(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    words = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {words}"
