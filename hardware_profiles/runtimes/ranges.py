"""Where the values of a tensor begin and end when they are rounded to 8 bits: what calibrators find and writers need."""

from __future__ import annotations

from typing import NamedTuple

LEVELS = 256
"""Of an unsigned byte."""


class Range(NamedTuple):
    """Least and greatest value that int8 distinguishes; zero lies within, since padding and ReLU need it exactly."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Distance of two neighbouring levels; 1 where nothing but zero occurs."""
        return (self.high - self.low) / (LEVELS - 1) or 1.0

    @property
    def zero_point(self) -> int:
        """The level that stands for zero."""
        return min(LEVELS - 1, max(0, round(-self.low / self.scale)))

    def with_exact_zero(self) -> Range:
        """The range moved by less than half a level so that one level is exactly zero."""
        return Range(-self.zero_point * self.scale, (LEVELS - 1 - self.zero_point) * self.scale)


Ranges = dict[str, Range]
"""Tensor name in the float file -> its range."""
PICTURE_RANGE = Range(0.0, 255.0)
"""Of the picture, whatever a calibrator saw: 256 levels, each a value that a byte has."""
