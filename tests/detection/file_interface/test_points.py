"""Grids, anchors and priors against places worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from detection.file_interface.points import Anchors, Given, Grid, Level, Priors, cells, place


def test_a_grid_by_hand() -> None:
    """32 x 48 pixels at strides 16 and 32: 2 x 3 cells, then 1 x 2, row by row; x comes first, in strides from the corner."""
    placed = place(Grid(strides=(16, 32), offset=0.5), (32, 48))
    assert placed.levels == (Level(2, 3, 1), Level(1, 2, 1))
    assert placed.centres_px.tolist() == [[8, 8], [24, 8], [40, 8], [8, 24], [24, 24], [40, 24], [16, 16], [48, 16]]
    assert placed.strides_px[:, 0].tolist() == [16] * 6 + [32] * 2
    assert place(Grid(strides=(16,), offset=0), (32, 48)).centres_px[-1].tolist() == [32, 16]


@pytest.mark.parametrize(
    ("input_size", "stride", "expected"),
    [((320, 416), 64, (5, 7)), ((300, 300), 16, (19, 19)), ((300, 300), 300 / 7, (7, 7)), ((300, 300), 300, (1, 1))],
)
def test_cells_of_a_level(input_size: tuple[int, int], stride: float, expected: tuple[int, int]) -> None:
    """A part of a cell at the border is a cell; rounding errors are not."""
    assert cells(input_size, stride) == expected


def test_anchors_by_hand() -> None:
    """Two anchors (height, width) at 1 x 2 cells: inner, both at the first cell come first; outer, the first at both cells does."""
    sizes = (((10, 20), (30, 40)),)
    inner = place(Anchors(strides=(16,), sizes_px=sizes), (16, 32))
    outer = place(Anchors(strides=(16,), sizes_px=sizes, order="outer"), (16, 32))
    assert inner.centres_px.tolist() == [[8, 8], [8, 8], [24, 8], [24, 8]]
    assert inner.sizes_px.tolist() == [[20, 10], [40, 30]] * 2
    assert outer.centres_px.tolist() == [[8, 8], [24, 8]] * 2
    assert outer.sizes_px.tolist() == [[20, 10]] * 2 + [[40, 30]] * 2


def test_priors_by_hand() -> None:
    """Sizes 30 to 60 at ratio 4: squares of 30 and of the root of 1800, then 60 wide and 15 high, and the other way round."""
    priors = Priors(strides=(100,), min_sizes_px=(30,), max_sizes_px=(60,), aspect_ratios=((4,),))
    np.testing.assert_allclose(place(priors, (100, 100)).sizes_px, [[30, 30], [1800**0.5] * 2, [60, 15], [15, 60]], rtol=1e-6)
    clipped = priors.model_copy(update={"clip": True})
    np.testing.assert_allclose(place(clipped, (50, 20)).sizes_px, [[20, 30], [20, 1800**0.5], [20, 15], [15, 50]], rtol=1e-6)


def test_given_priors_are_shares() -> None:
    """Of an input of 100 x 200: centre (0.5, 0.25) is at 100, 25; half of the width is 100."""
    placed = place(Given(boxes_cxcywh=((0.5, 0.25, 0.5, 0.1),)), (100, 200))
    np.testing.assert_allclose(placed.centres_px, [[100, 25]])
    np.testing.assert_allclose(placed.sizes_px, [[100, 10]], rtol=1e-6)


def test_places_are_shared_and_read_only() -> None:
    """The second call gives the same arrays, which nobody can change."""
    grid = Grid(strides=(16,))
    placed = place(grid, (32, 32))
    assert place(Grid(strides=(16,)), (32, 32)) is placed
    with pytest.raises(ValueError, match="read-only"):
        placed.centres_px[0] = 0


def test_every_stride_has_its_sizes() -> None:
    """A list that is too short is named with both counts."""
    with pytest.raises(ValidationError, match="sizes_px has 1 entries for 2 strides"):
        Anchors(strides=(8, 16), sizes_px=(((1, 1),),))
    with pytest.raises(ValidationError, match="aspect_ratios has 0 entries for 1 strides"):
        Priors(strides=(8,), min_sizes_px=(1,), max_sizes_px=(2,), aspect_ratios=())
