"""Widths of narrower layers: shares of a width, in multiples, since runtimes compute channels in blocks."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH_MULTIPLE = 8
"""Of narrowed widths: odd ones cost without helping."""


def narrower_width(width: int, share: float) -> int:
    """This share of a width, rounded down to a multiple of 8; at least 8, and at most the width."""
    # 1e-9: a share that is a quotient of two widths meets its multiple in spite of rounding
    return min(width, max(WIDTH_MULTIPLE, int(width * share / WIDTH_MULTIPLE + 1e-9) * WIDTH_MULTIPLE))


def width_options(width: int, shares: Sequence[float], round_to: int, least: int = 1) -> tuple[int, ...]:
    """Shares of a width to the nearest multiple, none below it or the least, and the width itself; ascending."""
    options = {max(least, round_to, round(width * share / round_to) * round_to) for share in shares}
    return tuple(sorted(option for option in options | {width} if option <= width))
