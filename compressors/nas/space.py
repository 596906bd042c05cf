"""The networks that a search may choose from: what the family offers below a detector, for pictures of one size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from detection.family import SearchSpace, family_of
from detection.frozen import InputError
from detection.spec import Spec, smaller_input


class SpaceConfig(Protocol):
    """The settings of a search that decide which networks there are."""

    @property
    def width_shares(self) -> tuple[float, ...]:
        """Shares of the detector's widths."""
        ...

    @property
    def round_to(self) -> int:
        """Widths are multiples of this."""
        ...

    @property
    def space(self) -> Mapping[str, Any]:
        """The family's own options."""
        ...

    @property
    def input_share(self) -> float:
        """Of the sides of the pictures."""
        ...


def space_below(spec: Spec, config: SpaceConfig) -> SearchSpace:
    """Every network that a search from this detector may choose; InputError where there is no such space."""
    make = family_of(spec).space
    assert make is not None, "a family without a space has no cells with a search"
    space = make(spec, config.width_shares, config.round_to, config.space)
    if config.input_share == 1:
        return space
    try:
        smaller = smaller_input(space.largest, config.input_share)
    except InputError as error:
        raise InputError(f"nas.{error}") from error
    return make(smaller, config.width_shares, config.round_to, config.space)


def smallest(space: SearchSpace) -> dict[str, int]:
    """The choice of the least of everything."""
    return {name: options[0] for name, options in space.options().items()}


def size_of(space: SearchSpace) -> int:
    """How many choices there are."""
    return math.prod(len(options) for options in space.options().values())


def draw(space: SearchSpace, rng: np.random.Generator) -> dict[str, int]:
    """A choice drawn uniformly from the space."""
    return {name: int(options[rng.integers(len(options))]) for name, options in space.options().items()}
