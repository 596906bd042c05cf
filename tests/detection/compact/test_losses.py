"""The loss: its terms against hand numbers, its assignment against its own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from detection.checkpoint import Detector
from detection.compact.losses import TOP_CANDIDATES, Targets, _distribution_focal, assign, complete_iou, detection_loss
from detection.compact.network import Network, Outputs
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.family import Batch
from tests.detection.variants import PLAIN

NETWORK = Network(PLAIN)
POINTS = len(NETWORK.points_px)


def batch_of(*pictures: list[tuple[int, tuple[float, float, float, float]]], room: int = 0) -> Batch:
    """A batch without interesting pixels; each picture is a list of (label, box), padded to `room` boxes at least."""
    most = max(room, 1, *(len(own) for own in pictures))
    boxes, labels = torch.zeros(len(pictures), most, 4), torch.zeros(len(pictures), most, dtype=torch.int64)
    present = torch.zeros(len(pictures), most, dtype=torch.bool)
    for row, own in enumerate(pictures):
        for column, (label, box) in enumerate(own):
            boxes[row, column], labels[row, column], present[row, column] = torch.tensor(box), label, True
    return Batch(torch.zeros(len(pictures), 3, 64, 96), boxes, labels, present)


def guesses(seed: int) -> tuple[Tensor, Tensor]:
    """Random scores (1, N, 3) and random boxes (1, N, 4) around the points."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.rand(1, POINTS, 4, generator=generator) * 30
    boxes = torch.cat([NETWORK.points_px - sides[..., :2], NETWORK.points_px + sides[..., 2:]], -1)
    return torch.rand(1, POINTS, 3, generator=generator), boxes


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 2, 2), 1.0),
        ((1, 0, 3, 2), 1 / 3 - 1 / 13),  # centres 1 apart, enclosed in 3 x 2: diagonal squared 13
        ((3, 0, 5, 2), 0.0 - 9 / 29),  # apart: the gap still counts, 3 squared over 25 + 4
        ((0, 0, 4, 4), 4 / 16 - 2 / 32),  # contained, same shape
    ],
)
def test_complete_overlap_by_hand(other: tuple[float, ...], expected: float) -> None:
    """Squares, so that only overlap and distance count (arXiv:1911.08287, equations 6 and 7)."""
    a, b = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor(other, dtype=torch.float32)
    assert complete_iou(a, b).item() == pytest.approx(expected, abs=1e-6)
    assert complete_iou(b, a).item() == pytest.approx(expected, abs=1e-6)


def test_a_wrong_shape_costs_by_hand() -> None:
    """2 x 1 and 1 x 2 at one corner: overlap 1/3, distance 0.5/8, v = 4/pi^2 (atan 2 - atan 1/2)^2, alpha = v / (2/3 + v)."""
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    expected = 1 / 3 - 0.5 / 8 - v * v / (2 / 3 + v)
    assert complete_iou(torch.tensor([0.0, 0, 2, 1]), torch.tensor([0.0, 0, 1, 2])).item() == pytest.approx(expected, abs=1e-6)


def test_a_degenerate_prediction_still_has_a_gradient() -> None:
    """A box without area gives finite numbers, and a way out."""
    box = torch.tensor([[10.0, 10, 10, 10]], requires_grad=True)
    (1 - complete_iou(box, torch.tensor([[20.0, 20, 30, 40]]))).sum().backward()  # type: ignore[no-untyped-call]
    assert box.grad is not None
    assert box.grad.isfinite().all()
    assert box.grad.abs().sum() > 0


def test_the_distribution_loss_by_hand() -> None:
    """Even logits over 4 bins cost ln 4 wherever the side is; a distance of 1.25 is three parts bin 1 and one part bin 2."""
    even = torch.zeros(2, 16)
    distance = torch.tensor([[1.0, 2.0, 0.0, 2.5], [0.3, 1.7, 2.2, 0.9]])
    torch.testing.assert_close(_distribution_focal(even, distance), torch.full((2,), math.log(4)))
    logits = torch.tensor([0.0, 2.0, 1.0, -1.0]).repeat(1, 4)
    norm = math.log(sum(math.exp(value) for value in (0, 2, 1, -1)))
    expected = 0.75 * (norm - 2) + 0.25 * (norm - 1)
    assert _distribution_focal(logits, torch.full((1, 4), 1.25)).item() == pytest.approx(expected, rel=1e-5)


def test_a_side_on_a_bin_can_be_free() -> None:
    """All the mass on the bin of the side costs nothing; on its neighbour it costs the whole difference of the logits."""
    sure = torch.zeros(1, 4, 4)
    sure[..., 2] = 20.0
    assert _distribution_focal(sure.flatten(1), torch.full((1, 4), 2.0)).item() == pytest.approx(0.0, abs=1e-6)
    assert _distribution_focal(sure.flatten(1), torch.full((1, 4), 1.0)).item() == pytest.approx(20.0, rel=1e-5)


def test_a_side_beyond_the_last_bin_is_met_by_the_last() -> None:
    """A side 50 strides away asks for the last bin: it may not index beyond the distribution."""
    last = torch.zeros(1, 4, 4)
    last[..., 3] = 20.0
    assert _distribution_focal(last.flatten(1), torch.full((1, 4), 50.0)).item() < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_taken_points_lie_in_their_box_and_want_its_class(seed: int) -> None:
    """Whatever is predicted: inside, of the right class, not too many, never above 1, and the box really is one of ours."""
    own = [(0, (3.0, 5.0, 40.0, 44.0)), (2, (30.0, 20.0, 90.0, 60.0)), (1, (50.0, 2.0, 62.0, 16.0))]
    targets = assign(*guesses(seed), NETWORK.points_px, batch_of(own))
    taken = targets.weight[0] > 0
    assert taken.sum() >= 3
    goal, points = targets.boxes_xyxy_px[0, taken], NETWORK.points_px[taken]
    assert ((points > goal[:, :2]) & (points < goal[:, 2:])).all()
    for label, box in own:
        mine = (goal == torch.tensor(box)).all(-1)
        assert 1 <= mine.sum() <= TOP_CANDIDATES
        assert (targets.scores[0, taken][mine].argmax(-1) == label).all()
    torch.testing.assert_close(targets.scores.sum(-1), targets.weight)
    assert targets.scores.max() <= 1


def test_the_best_point_wants_its_overlap() -> None:
    """One box, one point predicting half of it: the soft score is that overlap (TOOD, section 3.3)."""
    targets = assign(
        torch.full((1, 1, 3), 0.3),
        torch.tensor([[[0.0, 0, 10, 20]]]),
        torch.tensor([[5.0, 5.0]]),
        batch_of([(1, (0.0, 0, 20, 20))]),
    )
    torch.testing.assert_close(targets.scores, torch.tensor([[[0.0, 0.5, 0.0]]]))


@pytest.mark.parametrize("first", [0, 1])
def test_a_contested_point_goes_to_the_box_it_overlaps_most(first: int) -> None:
    """A point inside both boxes that predicts the smaller one is the smaller one's, in either order."""
    large, small = (0, (0.0, 0.0, 64.0, 64.0)), (1, (8.0, 8.0, 56.0, 56.0))
    own = [large, small] if first == 0 else [small, large]
    targets = assign(torch.full((1, 1, 3), 0.5), torch.tensor([[small[1]]]), torch.tensor([[32.0, 32.0]]), batch_of(own))
    assert targets.boxes_xyxy_px[0, 0].tolist() == list(small[1])
    assert targets.scores[0, 0].tolist() == [0.0, 1.0, 0.0]


def test_a_bystander_does_not_decide_a_contest() -> None:
    """The point (24, 10) lies outside A, which its prediction overlaps most, and in B (4/57) and C (3/20): it is C's."""
    own = [(0, (0.0, 0.0, 20.0, 20.0)), (1, (22.0, 0.0, 60.0, 20.0)), (2, (20.0, 0.0, 40.0, 20.0))]
    targets = assign(
        torch.full((1, 1, 3), 0.5), torch.tensor([[[0.0, 0.0, 26.0, 20.0]]]), torch.tensor([[24.0, 10.0]]), batch_of(own)
    )
    assert targets.boxes_xyxy_px[0, 0].tolist() == [20.0, 0.0, 40.0, 20.0]


def test_padding_claims_nothing() -> None:
    """More room for boxes changes no target, not even where the padding holds a box over the whole picture."""
    own = [(1, (10.0, 10.0, 50.0, 40.0))]
    tight, roomy = batch_of(own), batch_of(own, room=4)
    roomy.boxes_xyxy_px[0, 1:] = torch.tensor([0.0, 0.0, 96.0, 64.0])
    expected, found = (assign(*guesses(0), NETWORK.points_px, batch) for batch in (tight, roomy))
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.weight, expected.weight)
    taken = expected.weight > 0
    torch.testing.assert_close(found.boxes_xyxy_px[taken], expected.boxes_xyxy_px[taken])


def test_pictures_do_not_share_targets() -> None:
    """Each picture of a batch gets what it would get alone."""
    one, other = [(1, (10.0, 10.0, 50.0, 40.0))], [(0, (40.0, 0.0, 90.0, 60.0)), (2, (0.0, 0.0, 30.0, 30.0))]
    scores, boxes = (torch.cat(pair) for pair in zip(guesses(0), guesses(1), strict=True))
    together = assign(scores, boxes, NETWORK.points_px, batch_of(one, other))
    for row, own in enumerate((one, other)):
        alone = assign(scores[row : row + 1], boxes[row : row + 1], NETWORK.points_px, batch_of(own))
        torch.testing.assert_close(Targets(*(part[row : row + 1] for part in together)).scores, alone.scores)


def test_pictures_without_boxes_train_only_the_scores() -> None:
    """The loss is finite and above 0, every score is pushed down, and no box logit is touched."""
    score_logits = torch.zeros(2, POINTS, 3, requires_grad=True)
    box_logits = torch.zeros(2, POINTS, 16, requires_grad=True)
    value = detection_loss(NETWORK, Outputs(score_logits, box_logits, ()), batch_of([], []))
    value.backward()  # type: ignore[no-untyped-call]
    assert 0 < value.item() < math.inf
    assert score_logits.grad is not None
    assert (score_logits.grad > 0).all()
    assert box_logits.grad is None or (box_logits.grad == 0).all()


def right_answer(box: tuple[float, float, float, float], label: int) -> tuple[Tensor, Tensor]:
    """Logits that say exactly this box at every point of stride 8 inside it, and nothing elsewhere."""
    score_logits, box_logits = torch.full((1, POINTS, 3), -30.0), torch.zeros(1, POINTS, 4, 4)
    for index, (x, y) in enumerate(NETWORK.points_px[:96].tolist()):
        if box[0] < x < box[2] and box[1] < y < box[3]:
            score_logits[0, index, label] = 30.0
            for side, distance_px in enumerate((x - box[0], y - box[1], box[2] - x, box[3] - y)):
                box_logits[0, index, side, round(distance_px / 8)] = 30.0
    return score_logits, box_logits.flatten(2)


def test_the_right_answer_costs_nothing_and_every_mistake_does() -> None:
    """Sides on the bins, all sure: 0. Another class, a missed object, a false alarm and a moved box each cost more."""
    box, batch = (4.0, 12.0, 28.0, 36.0), batch_of([(1, (4.0, 12.0, 28.0, 36.0))])
    scores, boxes = right_answer(box, 1)

    def cost(score_logits: Tensor, box_logits: Tensor) -> float:
        return detection_loss(NETWORK, Outputs(score_logits, box_logits, ()), batch).item()

    false_alarm = scores.clone()
    false_alarm[0, 60, 2] = 5.0
    assert cost(scores, boxes) == pytest.approx(0.0, abs=1e-3)
    assert cost(scores.roll(1, -1), boxes) > 0.05
    assert cost(scores.clamp(max=-5.0), boxes) > 0.05
    assert cost(false_alarm, boxes) > 0.05
    assert cost(scores, right_answer((4.0, 12.0, 28.0, 28.0), 1)[1]) > 0.05


def test_half_precision_outputs_give_a_float32_loss() -> None:
    """Logits leave autocast in bfloat16; sums over points need more digits."""
    outputs = Outputs(torch.zeros(1, POINTS, 3, dtype=torch.bfloat16), torch.zeros(1, POINTS, 16, dtype=torch.bfloat16), ())
    assert detection_loss(NETWORK, outputs, batch_of([(0, (8.0, 8.0, 40.0, 40.0))])).dtype == torch.float32


def test_one_batch_can_be_learned_by_heart(tiny_detector: Detector, tiny_train: Images) -> None:
    """Thirty steps on the same four pictures take at least a third off the loss."""
    network = tiny_detector.network().train()
    batch = make_batch(tiny_train, np.arange(4), None, np.random.default_rng(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    costs = []
    for _ in range(30):
        value = detection_loss(network, network(batch.images), batch)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        costs.append(value.item())
    assert costs[-1] < 2 / 3 * costs[0]


def test_a_box_that_is_not_sure_counts_less() -> None:
    """Its confidence multiplies the goal of the class and the weight of the box; who takes which point stays. 1 changes nothing."""
    (scores, boxes), batch = guesses(3), batch_of([(1, (8.0, 8.0, 40.0, 40.0)), (2, (56.0, 20.0, 90.0, 60.0))])
    plain = assign(scores, boxes, NETWORK.points_px, batch)
    sure = assign(scores, boxes, NETWORK.points_px, batch._replace(confidence=torch.ones(1, 2)))
    soft = assign(scores, boxes, NETWORK.points_px, batch._replace(confidence=torch.tensor([[1.0, 0.25]])))
    for one, other in zip(plain, sure, strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(soft.scores[..., 1], plain.scores[..., 1])
    torch.testing.assert_close(soft.scores[..., 2], plain.scores[..., 2] * 0.25)
    torch.testing.assert_close(soft.weight, soft.scores.sum(-1))
    assert plain.scores[..., 2].sum() > 0
    assert torch.equal(soft.boxes_xyxy_px, plain.boxes_xyxy_px)


def test_a_label_keeps_its_points_against_a_box_that_is_not_sure() -> None:
    """Both lie in the same place and the other fits better; sure, it would take points."""
    (scores, boxes), batch = guesses(4), batch_of([(0, (20.0, 10.0, 60.0, 50.0)), (1, (22.0, 12.0, 58.0, 48.0))])
    rivals = [assign(scores, boxes, NETWORK.points_px, batch._replace(confidence=torch.tensor([[1.0, own]]))) for own in (1.0, 0.1)]
    assert rivals[0].scores[..., 1].sum() > 0
    of_label, alone = (
        rivals[1].scores[..., 0] > 0,
        assign(scores, boxes, NETWORK.points_px, batch_of([(0, (20.0, 10.0, 60.0, 50.0))])),
    )
    assert torch.equal(of_label, alone.scores[..., 0] > 0)
