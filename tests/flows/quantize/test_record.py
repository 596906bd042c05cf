"""The share of detections that changed, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detection.boxes import Detections
from flows.quantize.record import compare, count_pairs


def found(*rows: tuple[tuple[float, float, float, float], int]) -> Detections:
    """Detections of these boxes and labels, best first."""
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.linspace(0.9, 0.5, len(rows), dtype=np.float32), np.array([label for _, label in rows], np.int64))


CAT, DOG = ((0.0, 0.0, 10.0, 10.0), 0), ((50.0, 50.0, 60.0, 60.0), 1)
HALF = ((0.0, 0.0, 10.0, 5.0), 0)
"""IoU 0.5 with the cat."""
LESS = ((0.0, 0.0, 10.0, 4.9), 0)
POINT = ((3.0, 3.0, 3.0, 3.0), 0)
NOTHING = found()


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        (found(CAT, DOG), found(DOG, CAT), 2),
        (found(CAT), found(HALF), 1),
        (found(CAT), found(LESS), 0),
        (found(CAT), found((CAT[0], 1)), 0),
        (found(CAT), found(HALF, CAT), 1),
        (found(HALF, CAT), found(CAT), 1),
        (found(CAT), NOTHING, 0),
        (found(POINT), found(POINT), 1),
    ],
    ids=["order", "half", "less", "class", "one-each", "one-each-turned", "nothing", "no-area"],
)
def test_partners_are_of_one_class_and_overlap_by_half(a: Detections, b: Detections, pairs: int) -> None:
    """IoU 0.5 is enough and 0.49 is not; a detection has one partner at most, whichever file comes first."""
    assert count_pairs(a, b) == count_pairs(b, a) == pairs


def test_those_that_overlap_most_become_partners_first() -> None:
    """A box that fits two keeps to its equal, or its better score would take what the other one needs."""
    middle, right = ((2.0, 0.0, 12.0, 10.0), 0), ((5.0, 0.0, 15.0, 10.0), 0)  # IoU 0.67 with the cat, 0.54 with each other
    assert count_pairs(found(middle, CAT), found(CAT, right)) == 2
    assert count_pairs(found(CAT, right), found(middle, CAT)) == 2


def test_the_share_is_summed_over_pictures_before_it_is_divided() -> None:
    """Two pictures with 2 + 1 and 0 + 1 detections and one pair: 2 of 4 changed; the other way round the same."""
    exact, other = [found(CAT, DOG), NOTHING], [found(CAT), NOTHING]
    changed = compare(exact, other)
    assert (changed.share_of_detections_that_changed, changed.pictures) == (pytest.approx(1 / 3), 2)
    assert (changed.float_detections, changed.detections) == (2, 1)
    more = [found(CAT), found(DOG)]
    assert compare(exact, more).share_of_detections_that_changed == 0.5
    assert compare(more, exact).share_of_detections_that_changed == 0.5


def test_equals_did_not_change_and_nothing_has_no_share() -> None:
    """0 for a file against itself, 1 where all is lost, none where neither finds anything."""
    some = [found(CAT, DOG), found(DOG)]
    assert compare(some, some).share_of_detections_that_changed == 0
    assert compare(some, [NOTHING, NOTHING]).share_of_detections_that_changed == 1
    assert compare([NOTHING], [NOTHING]).share_of_detections_that_changed is None
