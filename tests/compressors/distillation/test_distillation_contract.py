"""Every variant of distillation teaches whatever the other methods make, and leaves it as they made it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from compressors.contract import Workbench
from compressors.distillation import Distillation, teach
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, factor
from compressors.pruning import Pruning, prune
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture
from detection.data.augmentation import Augmentation
from detection.training import Recipe, fit

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=2,
    batch_size=12,
    augmentation=Augmentation(flip_horizontal=1.0, scale=0, brightness=0, contrast=0, colour=0),
)
"""Every picture flipped, so that the second epoch sees what the first did."""
VARIANTS = {
    config.label(): config
    for config in (
        Distillation(),
        Distillation(features_by="cwd"),
        Distillation(features_by="mgd"),
        Distillation(features_by="none"),
        Distillation(boxes=0.0),
        Distillation(features_by="cwd", cache=True),
    )
}
LESSONS = [("scores+LD+PKD", "itself"), *((variant, "larger") for variant in VARIANTS)]
"""Variant and teacher: every variant with a teacher of other widths, the default also with the sweep's own."""
STUDENTS = ("itself", "lightweight", "pruning", "low_rank", "fewer levels", "one branch")
CASES = tuple(
    (variant, teacher, student)
    for place, (variant, teacher) in enumerate(LESSONS)
    for student in dict.fromkeys((STUDENTS[place % len(STUDENTS)], "fewer levels"))
)
"""Every lesson for a student of its own and for one with fewer levels, to whom the teacher's points have to be brought."""


@pytest.fixture(scope="module")
def detectors(tiny_detector: Detector, workbench: Workbench) -> dict[str, Detector]:
    """What the other methods make of the teacher, shapes that a search may choose, and a larger teacher."""
    spec = tiny_detector.spec

    def shaped(**changes: Any) -> Detector:
        return fresh(spec.having(Architecture.model_validate(spec.settings.model_dump() | changes)), 1)

    return {
        "itself": tiny_detector,
        "lightweight": rebuild(tiny_detector, Lightweight(), workbench)[0],
        "pruning": prune(tiny_detector, Pruning(importance="l2"), workbench)[0],
        "low_rank": factor(tiny_detector, LowRank(energy=0.4, round_to=4, only_if_faster=False), workbench)[0],
        "fewer levels": shaped(levels=(8, 16), stage_widths=(16, 16, 24), stage_depths=(1, 1, 1), neck_width=8),
        "one branch": shaped(head_branches="shared", stem_stride=4, stem_width=16),
        "larger": shaped(stage_widths=(16, 24, 32, 48), neck_width=24),
    }


def test_every_student_and_every_lesson_is_here() -> None:
    """Six kinds of student, seven lessons."""
    assert {student for _, _, student in CASES} == set(STUDENTS)
    assert {(variant, teacher) for variant, teacher, _ in CASES} == set(LESSONS)


@pytest.mark.parametrize(("variant", "teacher", "student"), CASES)
def test_every_variant_teaches_what_the_others_made(
    variant: str, teacher: str, student: str, detectors: dict[str, Detector], workbench: Workbench
) -> None:
    """The training ends with finite losses, the planned forwards, other weights of the same shape; for a student of its own the
    lesson repeats to the bit."""
    config, given, taught_by = VARIANTS[variant], detectors[student], detectors[teacher]
    before = given.digest, taught_by.digest
    results = []
    for _ in range(1 if student == "fewer levels" and variant != "scores+LD+PKD" else 2):
        objective = teach(config, taught_by, given, CPU, seed=0, train=workbench.train, recipe=RECIPE)
        taught, record = fit(given, workbench.train, RECIPE, seed=0, device=CPU, objective=objective)
        results.append(taught.digest)
        assert all(math.isfinite(value) for value in record.loss_per_epoch)
        assert objective.teacher_forwards == config.teacher_forwards(RECIPE, len(workbench.train))
    assert len(set(results)) == 1
    assert results[0] != given.digest
    assert taught.spec == given.spec
    assert (given.digest, taught_by.digest) == before


def test_variants_differ_in_what_they_teach(detectors: dict[str, Detector], workbench: Workbench) -> None:
    """No two variants end with the same weights, so each is in the loss; remembering changes nothing but rounding."""
    ends = {}
    for name, config in VARIANTS.items():
        student = detectors["fewer levels"]
        objective = teach(config, detectors["larger"], student, CPU, train=workbench.train, recipe=RECIPE)
        ends[name], _ = fit(student, workbench.train, RECIPE, seed=0, device=CPU, objective=objective)
    remembered, computed = ends.pop("scores+LD+CWD+cached"), ends["scores+LD+CWD"]
    assert len({detector.digest for detector in ends.values()}) == len(ends)
    for name, weights in computed.weights.items():
        torch.testing.assert_close(remembered.weights[name], weights, rtol=0.05, atol=1e-3)
