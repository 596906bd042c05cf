"""Choices of the networks of a search space: the smallest, random ones, and how many there are."""

from __future__ import annotations

import math

import numpy as np

from detection.family import SearchSpace


def smallest(space: SearchSpace) -> dict[str, int]:
    """The choice of the least of everything."""
    return {name: options[0] for name, options in space.options().items()}


def size_of(space: SearchSpace) -> int:
    """How many choices there are."""
    return math.prod(len(options) for options in space.options().values())


def draw(space: SearchSpace, rng: np.random.Generator) -> dict[str, int]:
    """A choice drawn uniformly from the space."""
    return {name: int(options[rng.integers(len(options))]) for name, options in space.options().items()}
