"""A training that learns from the teacher as well as from the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.contract import Workbench
from compressors.distillation import Distillation, DistillationLoss, feature_widths, teach
from compressors.pruning import Pruning, prune
from detection.augmentation import make_batch
from detection.blueprint import Architecture
from detection.checkpoint import Detector, fresh
from detection.dataset import Images
from detection.losses import Batch, DetectionLoss
from detection.network import Outputs
from detection.training import Recipe, fit

CPU = torch.device("cpu")
NOTHING = {"scores": 0.0, "boxes": 0.0, "features": 0.0}


@pytest.fixture(scope="module")
def batch(tiny_train: Images) -> Batch:
    """Four training pictures with their boxes."""
    return make_batch(tiny_train, np.arange(4), None, np.random.default_rng(0))


@pytest.fixture(scope="module")
def student(tiny_detector: Detector) -> Detector:
    """A detector with a neck half as wide as the teacher's, and other weights."""
    architecture: Architecture = tiny_detector.blueprint.architecture.model_copy(update={"neck_width": 8})
    return fresh(tiny_detector.blueprint.model_copy(update={"architecture": architecture}), 5)


def said(detector: Detector, batch: Batch) -> Outputs:
    """What the detector says of the batch, as leaves that gradients can be taken of."""
    with torch.no_grad():
        outputs = detector.network()(batch.images)
    return Outputs(*(outputs[i].clone().requires_grad_() for i in range(2)), outputs.features)  # type: ignore[arg-type]


def term(name: str, teacher: Detector, student: Detector, outputs: Outputs, batch: Batch, **more: Any) -> Tensor:
    """One of the three terms alone: the loss with this weight at 1 and the others at 0, less the loss against the labels."""
    loss = teach(Distillation.model_validate(NOTHING | {name: 1.0} | more), teacher, student, CPU)
    network = student.network()
    alone: Tensor = loss(network, outputs, batch) - DetectionLoss()(network, outputs, batch)
    return alone


def number(of: Tensor) -> float:
    """The value without its graph."""
    return float(of.detach())


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_scores(tiny_detector: Detector, batch: Batch) -> None:
    """The cross entropy is then the teacher's own entropy, worked here by numpy, and its gradient is zero."""
    outputs = said(tiny_detector, batch)
    value = term("scores", tiny_detector, tiny_detector, outputs, batch)
    p = 1 / (1 + np.exp(-outputs.score_logits.detach().numpy().astype(float)))
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum() / max(1.0, p.max(-1).sum())
    assert number(value) == pytest.approx(entropy, rel=1e-3)
    (gradient,) = torch.autograd.grad(value, outputs.score_logits)
    assert float(gradient.abs().max()) < 1e-4


def test_a_student_that_is_its_teacher_has_no_box_term(tiny_detector: Detector, batch: Batch) -> None:
    """Equal distributions have no divergence, and no gradient."""
    outputs = said(tiny_detector, batch)
    value = term("boxes", tiny_detector, tiny_detector, outputs, batch)
    assert number(value) == pytest.approx(0.0, abs=1e-4)
    (gradient,) = torch.autograd.grad(value, outputs.box_logits)
    assert float(gradient.abs().max()) < 1e-4


def test_a_student_that_is_its_teacher_has_no_feature_term(tiny_detector: Detector, batch: Batch) -> None:
    """Equal maps correlate perfectly: one minus their correlation is zero."""
    assert number(term("features", tiny_detector, tiny_detector, said(tiny_detector, batch), batch)) == pytest.approx(0.0, abs=1e-4)


def test_the_box_term_by_hand(tiny_detector: Detector, batch: Batch) -> None:
    """T^2 times the divergence of the softened sides, averaged over four sides and weighted by the teacher's best score."""
    other = fresh(tiny_detector.blueprint, 7)
    outputs, taught = said(other, batch), said(tiny_detector, batch)
    value = term("boxes", tiny_detector, other, outputs, batch, temperature=2.0)

    def sides(logits: Tensor) -> Any:
        soft = np.exp(logits.detach().numpy().astype(float).reshape(*logits.shape[:2], 4, -1) / 2.0)
        return soft / soft.sum(-1, keepdims=True)

    own, goal = sides(outputs.box_logits), sides(taught.box_logits)
    divergence = (goal * np.log(goal / own)).sum(-1).mean(-1)
    sure = 1 / (1 + np.exp(-taught.score_logits.detach().numpy().astype(float).max(-1)))
    assert number(value) == pytest.approx(4.0 * (divergence * sure).sum() / max(1.0, sure.sum()), rel=1e-2, abs=1e-4)


def test_the_feature_term_is_one_minus_the_correlation(tiny_detector: Detector, batch: Batch) -> None:
    """Against numpy's correlation coefficient, channel by channel; opposite maps reach 2, and nothing leaves [0, 2]."""
    outputs, taught = said(fresh(tiny_detector.blueprint, 7), batch), said(tiny_detector, batch)

    def with_features(features: tuple[Tensor, ...]) -> float:
        return number(term("features", tiny_detector, tiny_detector, outputs._replace(features=features), batch))

    def apart(a: Any, b: Any) -> float:
        if a.std() > 0 and b.std() > 0:
            return float(1 - np.corrcoef(a, b)[0, 1])
        return 0.5 * float(a.std() + b.std() > 0)  # a silent channel is standardised to zeros

    expected = []
    for own, goal in zip(outputs.features, taught.features, strict=True):
        channels = [(own[:, c].flatten().numpy(), goal[:, c].flatten().numpy()) for c in range(own.shape[1])]
        expected.append(np.mean([apart(a, b) for a, b in channels]))
    assert with_features(outputs.features) == pytest.approx(float(np.mean(expected)), abs=1e-2)
    assert 0 <= with_features(outputs.features) <= 2
    assert with_features(tuple(3 * feature + 1 for feature in taught.features)) == pytest.approx(0.0, abs=1e-3)
    opposite = with_features(tuple(-feature for feature in taught.features))
    dead = float(np.mean([np.mean([float(f[:, c].std() == 0) for c in range(f.shape[1])]) for f in taught.features]))
    assert opposite == pytest.approx(2.0 * (1 - dead), abs=1e-3)


def test_without_weights_only_the_labels_count(tiny_detector: Detector, student: Detector, batch: Batch) -> None:
    """All three weights at zero leave exactly the loss against the labels."""
    outputs, network = said(student, batch), student.network()
    loss = teach(Distillation.model_validate(NOTHING), tiny_detector, student, CPU)
    assert number(loss(network, outputs, batch)) == pytest.approx(number(DetectionLoss()(network, outputs, batch)))


def test_adapters_stand_only_where_widths_differ(tiny_detector: Detector, student: Detector) -> None:
    """Eight channels are led to sixteen by a 1x1 convolution per level; equal widths need none and train nothing extra."""
    assert feature_widths(tiny_detector) == (16, 16, 16)
    assert feature_widths(student) == (8, 8, 8)
    needed = teach(Distillation(), tiny_detector, student, CPU)
    assert [tuple(adapter.weight.shape) for adapter in needed.adapters if isinstance(adapter, nn.Conv2d)] == [(16, 8, 1, 1)] * 3
    assert len(needed.parameters()) == 6
    assert teach(Distillation(), tiny_detector, fresh(tiny_detector.blueprint, 5), CPU).parameters() == []


def test_adapters_repeat_and_leave_the_generator_alone(tiny_detector: Detector, student: Detector) -> None:
    """Two losses start from the same adapters, wherever the global generator stands."""
    first = teach(Distillation(), tiny_detector, student, CPU).parameters()
    torch.rand(3)
    second = teach(Distillation(), tiny_detector, student, CPU).parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_feature_widths_follow_pruning(tiny_detector: Detector, workbench: Workbench) -> None:
    """A pruned neck is as narrow as its last layers say: the widths are read off the network, not the architecture."""
    pruned, change = prune(tiny_detector, Pruning(importance="l2"), workbench)
    widths = feature_widths(pruned)
    last = [f"neck.{part}.1" for part in ("top_down.0", "bottom_up.0", "bottom_up.1")]
    assert widths == tuple(len(change.details["kept_channels"][norm]) for norm in last)


@pytest.fixture(scope="module")
def lesson(tiny_detector: Detector, student: Detector, tiny_train: Images) -> tuple[DistillationLoss, Detector, Any]:
    """A student taught for eight epochs."""
    loss = teach(Distillation(), tiny_detector, student, CPU)
    taught, record = fit(student, tiny_train, Recipe(epochs=8, batch_size=8), seed=0, device=CPU, loss=loss)
    return loss, taught, record


def test_every_picture_goes_through_the_teacher_once(lesson: tuple[DistillationLoss, Detector, Any]) -> None:
    """Eight epochs of 24 pictures are 192 forwards, as many as the student's."""
    loss, _, record = lesson
    assert loss.teacher_forwards == record.images == 8 * 24


def test_the_teacher_does_not_change(lesson: tuple[DistillationLoss, Detector, Any], tiny_detector: Detector) -> None:
    """After a training the loss's teacher has the weights and statistics it came with, and never a gradient."""
    loss, *_ = lesson
    state = loss.teacher.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_detector.weights.items())
    assert all(parameter.grad is None for parameter in loss.teacher.parameters())
    assert not loss.teacher.training


def test_adapters_are_trained_and_thrown_away(
    lesson: tuple[DistillationLoss, Detector, Any], tiny_detector: Detector, student: Detector
) -> None:
    """They moved from where they started, and the taught detector has the student's blueprint and no weight besides."""
    loss, taught, _ = lesson
    begun = teach(Distillation(), tiny_detector, student, CPU).parameters()
    assert not all(torch.equal(a, b) for a, b in zip(loss.parameters(), begun, strict=True))
    assert taught.blueprint == student.blueprint
    assert taught.weights.keys() == student.weights.keys()


def test_the_student_comes_closer_to_its_teacher(
    lesson: tuple[DistillationLoss, Detector, Any], tiny_detector: Detector, student: Detector, batch: Batch
) -> None:
    """The training's loss falls, and so does what separates the student's scores from the teacher's."""
    _, taught, record = lesson
    assert record.loss_per_epoch[-1] < record.loss_per_epoch[0]
    before, after = (number(term("scores", tiny_detector, one, said(one, batch), batch)) for one in (student, taught))
    assert after < before


def test_labels_tell_the_variant() -> None:
    """Feature distillation is in the name only where it is in the loss."""
    assert Distillation().label() == "scores+LD+PKD"
    assert Distillation(features=0.0).label() == "scores+LD"
