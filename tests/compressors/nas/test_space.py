"""The networks below a detector, whatever its family calls its decisions."""

from __future__ import annotations

import numpy as np
import pytest

from compressors.nas import Nas, space_to_search
from compressors.nas.space import draw, size_of, smallest
from detection.compact.architecture import Architecture
from detection.compact.space import space_of
from detection.family import SearchSpace
from detection.frozen import InputError
from detection.spec import Spec

LARGEST = Architecture(stage_widths=(16, 24, 40, 64), stage_depths=(1, 2, 3, 1), neck_width=32, head_width=10)
SPEC = Spec(classes=("a",), input_size=(64, 96), settings=LARGEST)
CONFIG = Nas(width_shares=(0.5, 0.75, 1.0))


@pytest.fixture
def space() -> SearchSpace:
    return space_to_search(SPEC, CONFIG)


def test_the_familys_space_is_asked_for() -> None:
    """Shares, rounding and the family's own options reach it as they are."""
    config = CONFIG.model_copy(update={"round_to": 4, "space": {"levels": [8, 16], "least_depth": 0}})
    assert space_to_search(SPEC, config) == space_of(SPEC, (0.5, 0.75, 1.0), 4, {"levels": (8, 16), "least_depth": 0})


def test_the_size_is_the_product_of_the_options(space: SearchSpace) -> None:
    """Widths 2 x 2 x 2 x 3 x 3 x 3 x 2 and depths 1 x 2 x 3 x 1."""
    assert size_of(space) == 2 * 2 * 2 * 3 * 3 * 3 * 2 * 1 * 2 * 3 * 1


def test_the_smallest_has_the_first_option_of_every_decision(space: SearchSpace) -> None:
    """Options are ascending, so it is the least of everything."""
    assert smallest(space) == {name: min(options) for name, options in space.options().items()}


def test_draws_are_options_and_reach_all_of_them(space: SearchSpace) -> None:
    """Every draw takes one option for each decision, and 200 draws meet each option of each decision."""
    rng = np.random.default_rng(0)
    draws = [draw(space, rng) for _ in range(200)]
    for name, options in space.options().items():
        assert {choice[name] for choice in draws} == set(options)
    assert size_of(space) > 1


def test_smaller_pictures_change_nothing_else() -> None:
    """Half the sides fit the two finer levels: the same decisions for pictures of 32 x 48."""
    config = CONFIG.model_copy(update={"space": {"levels": [8, 16]}})
    whole, half = (space_to_search(SPEC, config.model_copy(update={"input_share": share})) for share in (1.0, 0.5))
    assert half.largest == whole.largest.at((32, 48))
    assert half.options() == whole.options()


def test_pictures_that_do_not_fit_are_refused() -> None:
    """The levels that are left decide, and the message names the setting and the shares that fit."""
    with pytest.raises(InputError, match=r"nas\.input_share 0\.5: of \(64, 96\) .*the coarsest stride, 32; allowed are 1\."):
        space_to_search(SPEC, CONFIG.model_copy(update={"input_share": 0.5}))
