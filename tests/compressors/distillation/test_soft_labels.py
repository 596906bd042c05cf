"""A teacher of which only boxes are known: they become labels that are not sure, of the classes that both know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from compressors.distillation import Distillation, SoftLabelLoss, teach
from detection.boxes import pairwise_iou
from detection.checkpoint import Detector
from detection.compact.losses import detection_loss
from detection.compact.network import Network, Outputs
from detection.data.augmentation import Augmentation, make_batch
from detection.data.dataset import Images
from detection.family import Batch
from detection.training import Recipe, fit
from tests.compressors.fixed_file_factory import Seen, fixed_detector

CPU = torch.device("cpu")
FILE: Any = {"onnx": "theirs.onnx", "classes": ["a"]}
BOX, ELSEWHERE = (2.0, 4.0, 18.0, 20.0), (28.0, 8.0, 44.0, 28.0)
"""In pixels of the file's 32 x 48; the student's picture is twice as large."""


@pytest.fixture(scope="module")
def batch(tiny_train: Images) -> Batch:
    """Two training pictures with their boxes."""
    return make_batch(tiny_train, np.arange(2), None, np.random.default_rng(0))


def loss_of(folder: Path, student: Detector, seen: Seen, classes: tuple[str, ...], select: str = "nms") -> SoftLabelLoss:
    """What a student lowers that is taught by a file that sees these boxes everywhere."""
    teacher = fixed_detector(folder / "theirs.onnx", seen, classes, select)
    objective = teach(Distillation(teacher=FILE), teacher, student, CPU)
    assert isinstance(objective, SoftLabelLoss)
    return objective


def taught(joined: Batch, batch: Batch) -> list[tuple[list[float], int, float]]:
    """(box, label, confidence) of what the teacher added to the first picture."""
    assert joined.confidence is not None
    rows = zip(joined.boxes_xyxy_px[0], joined.labels[0], joined.confidence[0], joined.present[0], strict=True)
    return [(box.tolist(), int(label), float(sure)) for box, label, sure, there in list(rows)[batch.labels.shape[1] :] if there]


def without_labels(batch: Batch) -> Batch:
    """The same pictures, nothing in them labelled."""
    return batch._replace(present=torch.zeros_like(batch.present))


def said(student: Detector, batch: Batch) -> Outputs:
    """What the student says of the batch, as leaves that gradients can be taken of."""
    with torch.no_grad():
        outputs = student.network()(batch.images)
    scores, boxes = (logits.clone().requires_grad_() for logits in outputs[:2])
    return Outputs(scores, boxes, outputs.features)


def test_boxes_come_in_the_students_pixels_and_classes(tmp_path: Path, tiny_detector: Detector, batch: Batch) -> None:
    """Twice as large as in the file's input, classes by name, scores as confidence; what it hardly believes is left out."""
    names = tiny_detector.spec.classes
    seen: Seen = [(BOX, (0.0, 0.7)), (ELSEWHERE, (0.3, 0.04))]
    objective = loss_of(tmp_path, tiny_detector, seen, (names[7], names[2]))
    joined = objective.joined(without_labels(batch))
    assert taught(joined, batch) == [
        ([4.0, 8.0, 36.0, 40.0], 2, pytest.approx(0.7)),
        ([56.0, 16.0, 88.0, 56.0], 7, pytest.approx(0.3)),
    ]
    assert torch.equal(joined.images, batch.images)
    assert objective.teacher_forwards == 2


def test_labels_stay_and_are_sure(tmp_path: Path, tiny_detector: Detector, batch: Batch) -> None:
    """They stand first, as they were."""
    joined = loss_of(tmp_path, tiny_detector, [(BOX, (0.7,))], tiny_detector.spec.classes[:1]).joined(batch)
    most = batch.labels.shape[1]
    assert joined.confidence is not None
    assert torch.equal(joined.confidence[:, :most], batch.present.float())
    for before, after in zip(batch[1:4], joined[1:4], strict=True):
        assert isinstance(before, Tensor)
        assert isinstance(after, Tensor)
        assert torch.equal(before, after[:, :most])


@pytest.mark.parametrize(
    ("label", "shift_px", "counts"),
    [(0, 0.0, False), (0, 10.0, False), (0, 11.0, True), (1, 0.0, True)],
    ids=["same", "IoU 22/42", "IoU 21/43", "other class"],
)
def test_an_object_with_a_label_counts_once(
    tmp_path: Path, tiny_detector: Detector, batch: Batch, label: int, shift_px: float, counts: bool
) -> None:
    """A box of 32 pixels moved by s overlaps by (32 - s) / (32 + s) with the label; from a half on it is the same object."""
    own = torch.tensor([4.0, 8.0, 36.0, 40.0]) + torch.tensor([shift_px, 0.0, shift_px, 0.0])
    labelled = Batch(batch.images, own.expand(2, 1, 4), torch.full((2, 1), label), torch.ones(2, 1, dtype=torch.bool))
    joined = loss_of(tmp_path, tiny_detector, [(BOX, (0.7,))], tiny_detector.spec.classes[:1]).joined(labelled)
    assert bool(taught(joined, labelled)) == counts


def test_padding_is_no_label(tmp_path: Path, tiny_detector: Detector, batch: Batch) -> None:
    """A box that lies where the batch is only padded is learned from."""
    padded = Batch(batch.images, torch.tensor([4.0, 8.0, 36.0, 40.0]).expand(2, 1, 4), torch.zeros(2, 1, dtype=torch.int64),
                   torch.zeros(2, 1, dtype=torch.bool))  # fmt: skip
    joined = loss_of(tmp_path, tiny_detector, [(BOX, (0.7,))], tiny_detector.spec.classes[:1]).joined(padded)
    assert len(taught(joined, padded)) == 1


@pytest.mark.parametrize(("select", "count"), [("nms", 1), ("best", 2)])
def test_boxes_are_suppressed_unless_the_file_has_done_it(
    tmp_path: Path, tiny_detector: Detector, batch: Batch, select: str, count: int
) -> None:
    """Two boxes of one object, a pixel apart."""
    seen: Seen = [(BOX, (0.7,)), ((3.0, 4.0, 19.0, 20.0), (0.6,))]
    joined = loss_of(tmp_path, tiny_detector, seen, tiny_detector.spec.classes[:1], select).joined(without_labels(batch))
    assert len(taught(joined, batch)) == count


def test_boxes_end_at_the_picture(tmp_path: Path, tiny_detector: Detector, batch: Batch) -> None:
    """One is cut, one lies outside, one has no width, one is no number; and a file may see nothing at all."""
    nan = float("nan")
    outside, flat, broken = (50.0, 2.0, 60.0, 12.0), (7.0, 2.0, 7.0, 12.0), (nan, nan, nan, nan)
    seen: Seen = [((40.0, -4.0, 60.0, 12.0), (0.7,)), *((box, (0.9,)) for box in (outside, flat, broken))]
    joined = loss_of(tmp_path, tiny_detector, seen, tiny_detector.spec.classes[:1], "best").joined(without_labels(batch))
    assert taught(joined, batch) == [([80.0, 0.0, 96.0, 24.0], 0, pytest.approx(0.7))]
    blind = loss_of(tmp_path, tiny_detector, [(BOX, (0.0,))], tiny_detector.spec.classes[:1])
    assert torch.equal(blind.joined(batch).present, batch.present)


def test_soft_labels_reach_the_loss(tmp_path: Path, tiny_detector: Detector, batch: Batch) -> None:
    """Without labels all scores would sink; the teacher's class rises at points inside its box, and in no other class or place."""
    objective = loss_of(tmp_path, tiny_detector, [(BOX, (0.7,))], tiny_detector.spec.classes[3:4])
    network, bare = cast(Network, tiny_detector.network()), without_labels(batch)
    outputs = said(tiny_detector, batch)
    alone = detection_loss(network, outputs, bare)
    (sinking,) = torch.autograd.grad(alone, outputs.score_logits, retain_graph=True)
    scores, boxes = torch.autograd.grad(
        objective(network, outputs, bare, alone, half=False), (outputs.score_logits, outputs.box_logits)
    )
    inside = (network.points_px > torch.tensor([4.0, 8.0])).all(-1) & (network.points_px < torch.tensor([36.0, 40.0])).all(-1)
    assert (sinking > 0).all()
    rising = (scores < 0).nonzero()
    assert set(rising[:, 0].tolist()) == {0, 1}
    assert set(rising[:, 2].tolist()) == {3}
    assert inside[rising[:, 1]].all()
    moved = boxes.abs().sum(-1).nonzero()[:, 1]
    assert set(moved.tolist()) >= set(rising[:, 1].tolist())
    assert inside[moved].all()


def test_the_weight_of_the_scores_is_that_of_the_joined_loss(tmp_path: Path, tiny_detector: Detector, batch: Batch) -> None:
    """loss(labels) + weight * loss(labels and teacher's boxes)."""
    teacher = fixed_detector(tmp_path / "theirs.onnx", [(BOX, (0.7,))], tiny_detector.spec.classes[:1])
    network, outputs = cast(Network, tiny_detector.network()), said(tiny_detector, batch)
    labels, values = detection_loss(network, outputs, batch), []
    for weight in (0.5, 2.0):
        objective = teach(Distillation(teacher=FILE, scores=weight), teacher, tiny_detector, CPU)
        assert isinstance(objective, SoftLabelLoss)
        joined = detection_loss(network, outputs, objective.joined(batch))
        values.append(float((objective(network, outputs, batch, labels, half=False) - labels - weight * joined).detach()))
    assert values == pytest.approx([0.0, 0.0], abs=1e-5)


def test_a_student_learns_what_nobody_labelled(tmp_path: Path, tiny_detector: Detector, tiny_train: Images) -> None:
    """After 60 steps on four pictures without labels its surest box is the teacher's, of the teacher's class."""
    names = tiny_detector.spec.classes
    objective = loss_of(tmp_path, tiny_detector, [(BOX, (0.9,))], names[3:4])
    nothing = {"boxes_xyxy_px": (np.zeros((0, 4), np.float32),) * 4, "labels": (np.zeros(0, np.int64),) * 4}
    bare = replace(tiny_train, pixels=tiny_train.pixels[:4], picture_ids=tiny_train.picture_ids[:4], **nothing)  # type: ignore[arg-type]
    still = Augmentation(flip_horizontal=0, scale=0, brightness=0, contrast=0, colour=0)
    recipe = Recipe(epochs=60, batch_size=4, learning_rate=0.01, ema_decay=0.5, augmentation=still)
    student, record = fit(tiny_detector, bare, recipe, seed=0, device=CPU, objective=objective)
    assert record.loss_per_epoch[-1] < record.loss_per_epoch[0]
    assert objective.teacher_forwards == record.images == 240
    network = student.network()
    with torch.no_grad():
        images = make_batch(bare, np.arange(4), None, np.random.default_rng(0)).images
        boxes, scores = student.family.decode(network, student.family.raw(network, images))
    for own, sure in zip(boxes, scores, strict=True):
        point, label = divmod(int(sure.argmax()), len(names))
        assert label == 3
        assert float(pairwise_iou(own[point : point + 1], torch.tensor([[4.0, 8.0, 36.0, 40.0]]))) > 0.5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"boxes": 2.0}, "boxes 2.0: counts only with a teacher of our own family; of an ONNX file no more than its boxes"),
        ({"features": 0.5}, "features 0.5: counts only with a teacher of our own family"),
        ({"features_by": "cwd"}, "features_by cwd: counts only with a teacher of our own family"),
        ({"temperature": 1.0}, "temperature 1.0: counts only with a teacher of our own family"),
        ({"cache": True}, "cache True: counts only with a teacher of our own family"),
        ({"scores": 0.0}, "counts only with scores above 0"),
        ({"teacher": FILE | {"clases": []}}, r"teacher\.clases\n\s+Extra inputs are not permitted"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_a_file_cannot_teach_is_refused(setting: dict[str, Any], message: str) -> None:
    """By name, where it is set; defaults are not settings, and pass also where they are written out."""
    with pytest.raises(ValueError, match=message):
        Distillation.model_validate({"teacher": FILE} | setting)
    usual = Distillation(teacher=FILE)
    assert Distillation.model_validate(usual.model_dump(mode="json")) == usual
    assert usual.label() == "soft-labels+teacher-theirs"
    assert Distillation(teacher={"checkpoint": "models/teacher"}).label() == "scores+LD+PKD+teacher-teacher"  # type: ignore[arg-type]
