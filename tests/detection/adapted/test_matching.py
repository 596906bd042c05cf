"""Set predictors are compared by the objects that they found, whatever the order of their queries."""

from __future__ import annotations

import pytest
import torch

from detection.adapted.matching import matched_targets
from detection.family import Points

SIZE = (64, 96)


def points(boxes: list[list[float]], scores: list[list[float]]) -> Points:
    """Of one picture."""
    return Points(torch.logit(torch.tensor([scores])), None, (), torch.tensor([boxes]))


OBJECTS = [[8.0, 8, 24, 24], [40, 10, 60, 30], [70, 40, 90, 60]]
SCORES = [[0.9, 0.05], [0.1, 0.8], [0.02, 0.03]]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_the_order_of_queries_does_not_matter(order: list[int]) -> None:
    """Each of the student's queries is told what the teacher says of the same object."""
    own = points(OBJECTS, SCORES)
    teacher = points([OBJECTS[place] for place in order], [SCORES[place] for place in order])
    targets = matched_targets(teacher, own, SIZE)
    assert torch.allclose(targets.scores, torch.tensor([SCORES]), atol=1e-6)
    assert targets.boxes_xyxy_px is not None
    assert torch.equal(targets.boxes_xyxy_px, torch.tensor([OBJECTS]))


def test_a_student_with_more_queries_is_told_that_the_rest_are_nothing() -> None:
    """Queries without a partner have scores and confidence of 0."""
    own = points([*OBJECTS, [0.0, 0, 5, 5]], [*SCORES, [0.5, 0.5]])
    targets = matched_targets(points(OBJECTS, SCORES), own, SIZE)
    assert targets.confidence[0, :3].tolist() == pytest.approx([0.9, 0.8, 0.03])
    assert targets.confidence[0, 3] == 0


def test_a_student_with_fewer_queries_is_told_of_what_the_teacher_is_sure() -> None:
    """What is left out is what the teacher is least sure of, though its box is at the very place of a query."""
    own = points([OBJECTS[0], OBJECTS[2]], [[0.5, 0.5], [0.5, 0.5]])
    targets = matched_targets(points(OBJECTS, SCORES), own, SIZE)
    assert sorted(targets.confidence[0].tolist(), reverse=True) == pytest.approx([0.9, 0.8])
