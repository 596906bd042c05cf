"""The settings of our own family refuse what cannot be built."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from detection.compact.architecture import Architecture


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stem_width": 0}, "greater than 0"),
        ({"stage_widths": (8, 8, 8)}, "4 are needed, one for each stride from 4 to 32"),
        ({"levels": (8, 16)}, "3 are needed, one for each stride from 4 to 16"),
        ({"levels": (8, 32)}, "each twice the one before"),
        ({"levels": ()}, "from 8, 16 or 32 on"),
        ({"levels": (16, 32, 64)}, "32 is the coarsest"),
        ({"stem_stride": 4}, "the first is stem_width, 16"),
        ({"box_bins": 1}, "greater than or equal to 2"),
        ({"head_block": "thick"}, "'dense', 'depthwise' or 'ghost'"),
    ],
)
def test_an_impossible_architecture_is_refused(wrong: dict[str, object], message: str) -> None:
    """Widths are positive, every stage has one, levels double, distributions have two bins at least, blocks are of a known kind."""
    with pytest.raises(ValidationError, match=message):
        Architecture.model_validate(wrong)


def test_an_odd_ghost_is_refused_where_it_is_written_down() -> None:
    """The cheap half copies the real one, so the width has to be even; the message says so."""
    with pytest.raises(ValueError, match="must be even"):
        Architecture(neck_block="ghost", neck_width=15)


def test_a_label_says_the_widths_and_what_is_unusual() -> None:
    """The stage widths, and each setting that is not the default, by its name."""
    assert Architecture().label() == "32-64-128-256"
    assert Architecture(levels=(8, 16), stage_widths=(16, 24, 40), stage_depths=(1, 1, 1), neck_block="ghost").label() == (
        "16-24-40-levels-8-16-stage_depths-1-1-1-neck_block-ghost"
    )
