"""A training that learns from the teacher as well as from the labels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from compressors.contract import Workbench
from compressors.distillation.features import FEATURE_WEIGHTS, FeaturesBy
from compressors.distillation.method import Distillation, DistillationLoss, feature_widths, refuse_teacher, teach
from compressors.distillation.teacher_outputs import Computed
from compressors.pruning import Pruning, prune
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture
from detection.compact.losses import detection_loss
from detection.compact.network import Network, Outputs
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.family import Batch
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
    return fresh(tiny_detector.spec.having(tiny_detector.spec.settings.model_copy(update={"neck_width": 8})), 5)


def said(detector: Detector, batch: Batch) -> Outputs:
    """What the detector says of the batch, as leaves that gradients can be taken of."""
    with torch.no_grad():
        outputs = detector.network()(batch.images)
    scores, boxes = (logits.clone().requires_grad_() for logits in outputs[:2])
    return Outputs(scores, boxes, outputs.features)


def term(name: str, teacher: Detector, student: Detector, outputs: Outputs, batch: Batch, **more: Any) -> Tensor:
    """One of the three terms alone: the loss with this weight at 1 and the others at 0, less the loss against the labels."""
    objective = teach(Distillation.model_validate(NOTHING | {name: 1.0} | more), teacher, student, CPU)
    labels = of_labels(student.network(), outputs, batch)
    return lowered(objective, student.network(), outputs, batch) - labels


def of_labels(network: nn.Module, outputs: Outputs, batch: Batch) -> Tensor:
    """The loss against the labels alone."""
    return detection_loss(cast(Network, network), outputs, batch)


def lowered(objective: DistillationLoss, network: nn.Module, outputs: Outputs, batch: Batch) -> Tensor:
    """What a training with this objective lowers."""
    return objective(network, outputs, batch, of_labels(network, outputs, batch), half=False)


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
    other = fresh(tiny_detector.spec, 7)
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
    outputs, taught = said(fresh(tiny_detector.spec, 7), batch), said(tiny_detector, batch)

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
    objective = teach(Distillation.model_validate(NOTHING), tiny_detector, student, CPU)
    assert number(lowered(objective, network, outputs, batch)) == pytest.approx(number(of_labels(network, outputs, batch)))


@pytest.mark.parametrize("by", ["cwd", "mgd"])
def test_other_feature_terms_stand_in_the_same_place(
    by: FeaturesBy, tiny_detector: Detector, student: Detector, batch: Batch
) -> None:
    """Twice the weight adds twice as much to the loss, whichever term is chosen."""
    outputs, network = said(student, batch), student.network()

    def value(features: float) -> float:
        objective = teach(Distillation(scores=0, boxes=0, features_by=by, features=features), tiny_detector, student, CPU)
        return number(lowered(objective, network, outputs, batch) - of_labels(network, outputs, batch))

    assert value(0.0) == pytest.approx(0.0, abs=1e-4)
    assert value(2.0) == pytest.approx(2 * value(1.0), rel=1e-3)
    assert value(1.0) > 0


def test_a_teacher_for_larger_pictures_looks_at_the_students(tiny_detector: Detector) -> None:
    """A student of another input size is taught at its own points, by the same weights."""
    student = tiny_detector.at((32, 64))
    objective = teach(Distillation(), tiny_detector, student, CPU)
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.zeros(2, 1, 4), torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.bool))
    outputs, network = said(student, batch), student.network()
    assert outputs.score_logits.shape[1] == 4 * 8 + 2 * 4 + 1 * 2
    features_alone = teach(Distillation(scores=0, boxes=0), tiny_detector, student, CPU)
    assert number(lowered(features_alone, network, outputs, batch)) == pytest.approx(
        number(of_labels(network, outputs, batch)), abs=1e-4
    )
    assert torch.isfinite(lowered(objective, network, outputs, batch))


@pytest.fixture(scope="module")
def distilled(tiny_detector: Detector, student: Detector, tiny_train: Images) -> tuple[DistillationLoss, Detector, Any]:
    """A student distilled for eight epochs: the objective, the detector and its record."""
    objective = teach(Distillation(), tiny_detector, student, CPU)
    trained, record = fit(student, tiny_train, Recipe(epochs=8, batch_size=8), seed=0, device=CPU, objective=objective)
    return objective, trained, record


def test_every_picture_goes_through_the_teacher_once(distilled: tuple[DistillationLoss, Detector, Any]) -> None:
    """Eight epochs of 24 pictures are 192 forwards, as many as the student's."""
    objective, _, record = distilled
    assert objective.teacher_forwards == record.images == 8 * 24


def test_the_teacher_does_not_change(distilled: tuple[DistillationLoss, Detector, Any], tiny_detector: Detector) -> None:
    """After a training the objective's teacher has the weights and statistics it came with, and never a gradient."""
    objective, *_ = distilled
    assert isinstance(objective.outputs, Computed)
    teacher = objective.outputs.network
    state = teacher.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_detector.weights.items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not teacher.training


def test_adapters_are_trained_and_thrown_away(
    distilled: tuple[DistillationLoss, Detector, Any], tiny_detector: Detector, student: Detector
) -> None:
    """They moved from where they started, and the taught detector has the student's spec and no weight besides."""
    objective, taught, _ = distilled
    begun = teach(Distillation(), tiny_detector, student, CPU).parameters()
    assert not all(torch.equal(a, b) for a, b in zip(objective.parameters(), begun, strict=True))
    assert taught.spec == student.spec
    assert taught.weights.keys() == student.weights.keys()


def test_the_student_comes_closer_to_its_teacher(
    distilled: tuple[DistillationLoss, Detector, Any], tiny_detector: Detector, student: Detector, batch: Batch
) -> None:
    """The training's loss falls, and so does what separates the student's scores from the teacher's."""
    _, taught, record = distilled
    assert record.loss_per_epoch[-1] < record.loss_per_epoch[0]
    before, after = (number(term("scores", tiny_detector, one, said(one, batch), batch)) for one in (student, taught))
    assert after < before


@pytest.mark.parametrize("by", ["cwd", "mgd"])
def test_a_training_with_each_feature_term_keeps_the_students_shape(
    by: FeaturesBy, tiny_detector: Detector, student: Detector, tiny_train: Images, batch: Batch
) -> None:
    """In bfloat16 too the features come closer, what the term brought along has moved, and nothing of it is in the detector."""
    objective = teach(Distillation(scores=0, boxes=0, features_by=by, features=20.0), tiny_detector, student, CPU)
    assert objective.features is not None

    def apart(detector: Detector) -> float:
        assert objective.features is not None
        with torch.no_grad():
            own, goal = (one.network()(batch.images).features for one in (detector, tiny_detector))
            return float(objective.features(own, goal))

    before, begun = apart(student), [parameter.detach().clone() for parameter in objective.parameters()]
    recipe = Recipe(epochs=6, batch_size=8, learning_rate=5e-3, precision="bfloat16")
    taught, _ = fit(student, tiny_train, recipe, seed=0, device=CPU, objective=objective)
    assert apart(taught) < before
    assert not any(torch.equal(first, last) for first, last in zip(begun, objective.parameters(), strict=True))
    assert taught.spec == student.spec
    assert taught.weights.keys() == student.weights.keys()


def test_each_feature_term_has_its_own_weight() -> None:
    """Where none is given it is the chosen term's, and the record says which: through JSON and back nothing changes."""
    for by, weight in FEATURE_WEIGHTS.items():
        config = Distillation(features_by=by)
        assert config.features == weight
        assert Distillation.model_validate_json(config.model_dump_json()) == config
    assert Distillation(features_by="cwd", features=7.0).features == 7.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features_by": "fitnet"}, r"features_by\n.*'pkd', 'cwd', 'mgd' or 'none'"),
        ({"features": -1.0}, r"features\n.*greater than or equal to 0"),
        ({"features_by": "none", "features": 1.0}, "features 1: with features_by none there is nothing to weigh"),
        ({"temperature": 0.0}, r"temperature\n.*greater than 0"),
        ({"teacher": {"levels": [8, 32]}}, r"teacher\n.*levels \(8, 32\)"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    """The message names the field and what is allowed."""
    with pytest.raises(ValidationError, match=message):
        Distillation.model_validate(settings)


def test_a_teacher_that_predicts_elsewhere_is_refused(tiny_detector: Detector) -> None:
    """The family says so of its settings; whether boxes are compared depends on their weight. `teach` refuses as well."""
    student = tiny_detector.spec
    finer = student.settings.model_copy(update={"box_bins": 8})
    with pytest.raises(ValueError, match=r"teacher.box_bins 8: the student has 4; make them equal, or set boxes to 0"):
        refuse_teacher(Distillation(), finer, student)
    refuse_teacher(Distillation(boxes=0.0), finer, student)
    with pytest.raises(ValueError, match=r"teacher.box_bins"):
        teach(Distillation(), fresh(student.having(finer), 0), tiny_detector, CPU)


def test_feature_widths_are_those_of_the_maps_compared(tiny_detector: Detector, student: Detector) -> None:
    """Sixteen channels on each level, and eight; of a student with fewer levels the teacher's on those alone."""
    assert feature_widths(tiny_detector, student) == ([16] * 3, [8] * 3)
    fewer = {"levels": (8, 16), "stage_widths": (16, 16, 24), "stage_depths": (1, 1, 1), "neck_width": 8}
    short = fresh(student.spec.having(student.spec.settings.model_copy(update=fewer)), 0)
    assert feature_widths(tiny_detector, short) == ([16] * 2, [8] * 2)


def test_feature_widths_follow_pruning(tiny_detector: Detector, workbench: Workbench) -> None:
    """A pruned neck is as narrow as its last layers say: the widths are read off the network, not the settings."""
    pruned, change = prune(tiny_detector, Pruning(importance="l2"), workbench)
    last = [f"neck.{part}.1" for part in ("top_down.0", "bottom_up.0", "bottom_up.1")]
    assert feature_widths(tiny_detector, pruned) == ([16] * 3, [len(change.details["kept_channels"][norm]) for norm in last])


def test_labels_tell_the_variant() -> None:
    """Every setting that is not the default is in the name, and a term without weight is not."""
    wide = Architecture(stage_widths=(48, 96, 192, 384))
    two_levels = Architecture(stage_widths=(48, 96, 192), stage_depths=(1, 1, 1), levels=(8, 16), neck_width=96)
    assert Distillation().label() == "scores+LD+PKD"
    assert Distillation(features=0.0).label() == Distillation(features_by="none").label() == "scores+LD"
    assert Distillation(features_by="cwd").label() == "scores+LD+CWD"
    assert Distillation(scores=0.5, boxes=0.0, features_by="mgd", features=9.0).label() == "scores0.5+MGD9"
    assert Distillation(temperature=3.0, teacher=wide, cache=True).label() == "scores+LD+PKD+T3+teacher-48-96-192-384+cached"
    assert Distillation(teacher=two_levels).label() == (
        "scores+LD+PKD+teacher-48-96-192-levels-8-16-stage_depths-1-1-1-neck_width-96"
    )
    assert Distillation(scores=0.0, boxes=0.0, features=0.0).label() == "labels"
