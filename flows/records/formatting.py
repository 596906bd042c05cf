"""Numbers as people read them: points of mAP, milliseconds, megabytes."""

from __future__ import annotations

MINUS = "\u2212"


def points(share: float) -> str:
    """A difference of mAP in points, with its sign."""
    text = f"{share * 100:+.1f}"
    return text.replace("-", MINUS) if float(text) else "0.0"


def permitted(share: float) -> str:
    """A permitted drop of mAP in words: "1 point", "0.5 points"."""
    text = f"{share * 100:g}"
    return f"{text} point" if text == "1" else f"{text} points"


def milliseconds(seconds: float) -> str:
    """A time with three digits that count."""
    ms = seconds * 1e3
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def megabytes(size_bytes: int) -> str:
    """A size in MB (10^6 bytes)."""
    return f"{size_bytes / 1e6:.2f}"
