"""What a teacher of our own family says at a student's points."""

from __future__ import annotations

import pytest
import torch

from detection.compact.architecture import Architecture, architecture_of
from detection.compact.family import refuse_teacher, targets_of
from detection.family import Points
from detection.spec import Spec
from tests.conftest import TINY
from tests.detection.variants import PLAIN, VARIANTS, lively


def test_a_student_with_fewer_levels_gets_all_that_the_teacher_sees() -> None:
    """Scores of a level that the student lacks arrive on its coarsest one, enlarged; boxes and confidence are of its own points."""
    student = Spec(
        classes=PLAIN.classes,
        input_size=PLAIN.input_size,
        settings=TINY.model_copy(update={"levels": (8, 16), "stage_widths": (16, 16, 24), "stage_depths": (1, 1, 1)}),
    )
    (height, width), levels, classes = PLAIN.input_size, architecture_of(PLAIN).levels, len(PLAIN.classes)
    counts = [(height // level) * (width // level) for level in levels]
    logits = torch.full((1, sum(counts), classes), -20.0)
    logits[0, sum(counts[:2]) :, 1] = 20.0  # the second class everywhere on the coarsest level
    boxes = torch.arange(float(sum(counts)))[None, :, None].expand(1, -1, 8)
    maps = tuple(torch.zeros(1, 16, height // level, width // level) for level in levels)
    points = Points(logits, boxes, maps)
    targets = targets_of(points, points, PLAIN, student)
    assert targets.scores.shape == (1, sum(counts[:2]), classes)
    assert targets.scores[0, : counts[0]].max() < 1e-6
    assert targets.scores[0, counts[0] :, 1].min() > 1 - 1e-6
    assert targets.scores[0, counts[0] :, 0].max() < 1e-6
    assert targets.confidence.max() < 1e-6
    assert targets.side_logits is not None
    assert targets.side_logits[0, :, 0].tolist() == list(range(sum(counts[:2])))
    assert [feature.shape for feature in targets.features] == [feature.shape for feature in maps[:2]]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_student_with_the_same_levels_gets_it_as_it_is(name: str) -> None:
    """Points stand where they stood: scores, sides and features are the teacher's own, confidence is its best score."""
    detector = lively(VARIANTS[name])
    network, family = detector.network(), detector.family
    with torch.no_grad():
        points = family.points(network, family.raw(network, torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))))
    targets = targets_of(points, points, detector.spec, detector.spec)
    assert torch.equal(targets.scores, points.score_logits.sigmoid())
    assert torch.equal(targets.confidence, targets.scores.amax(-1))
    assert targets.side_logits is not None
    assert points.side_logits is not None
    assert torch.equal(targets.side_logits, points.side_logits)
    assert all(torch.equal(own, given) for own, given in zip(targets.features, points.features, strict=True))


def test_a_teacher_that_predicts_elsewhere_is_refused() -> None:
    """It needs the student's levels, and its bins where boxes are compared; more levels or wider layers are welcome."""
    wide = TINY.model_copy(update={"stage_widths": (32, 32, 48, 64), "neck_width": 32})
    refuse_teacher(wide, TINY, True)
    refuse_teacher(TINY, TINY.model_copy(update={"levels": (8, 16), "stage_widths": (16, 16, 24)}), True)
    fewer = Architecture(levels=(8, 16), stage_widths=(32, 64, 128), stage_depths=(1, 2, 2), box_bins=4)
    with pytest.raises(ValueError, match=r"teacher.levels \(8, 16\): the student's \(8, 16, 32\) must be among them"):
        refuse_teacher(fewer, TINY, True)
    finer = TINY.model_copy(update={"box_bins": 8})
    with pytest.raises(ValueError, match=r"teacher.box_bins 8: the student has 4; make them equal, or set boxes to 0"):
        refuse_teacher(finer, TINY, True)
    refuse_teacher(finer, TINY, False)
