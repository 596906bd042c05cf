"""The odd detector: its shuffle, its anchors and its soft labels by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from detection.family import Batch
from examples.odd_anchors import OddAnchors, family, match, overlap_and_ciou, shuffled

CLASSES, SIZE = ("cat", "dog", "bird"), (64, 96)


def network() -> OddAnchors:
    """A small one with random weights, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return family.build({"width": 64}, CLASSES, SIZE)


def batch_with(*boxes: tuple[float, float, float, float], confidence: float | None = None) -> Batch:
    """One picture with these boxes."""
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    labels, present = torch.arange(len(boxes))[None] % 3, torch.ones(1, len(boxes), dtype=torch.bool)
    sure = None if confidence is None else torch.full((1, len(boxes)), confidence)
    return Batch(images, torch.tensor([boxes]), labels, present, sure)


def test_it_has_what_makes_it_odd() -> None:
    """Groups, a transposed convolution, two normalisations, two activations, a bias everywhere; 0.3 to 0.8 M parameters."""
    own = family.build({}, CLASSES, (192, 256))
    kinds = {type(module) for module in own.modules()}
    assert {nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.SiLU, nn.LeakyReLU} <= kinds
    convolutions = [module for module in own.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(module.bias is not None for module in convolutions)
    assert 4 in {module.groups for module in convolutions}
    assert 0.3e6 < sum(parameter.numel() for parameter in own.parameters()) < 0.8e6


def test_channels_are_dealt_from_all_groups() -> None:
    """Eight channels in four groups of two: the first of each group, then the second of each."""
    dealt = shuffled(torch.arange(8.0).reshape(1, 8, 1, 1))
    assert dealt.flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_anchors_come_from_the_spec() -> None:
    """Two per cell in place of three: heights and widths in the order in which the network predicts them."""
    own = family.build({"width": 64, "anchors_px": [[[10, 20], [30, 40]], [[50, 60], [70, 80]]]}, CLASSES, SIZE)
    assert own.anchors_px[:2].tolist() == [[20, 10], [40, 30]]
    assert own.anchors_px[-2:].tolist() == [[60, 50], [80, 70]]
    assert [head.shape[1] for head in own(batch_with().images)] == [2 * 8, 2 * 8]


def test_a_box_is_learned_by_anchors_like_it_near_its_centre() -> None:
    """14 x 14 in the middle of four cells: those four, by the anchor of its size and by the next, 24 / 14 < 2 times as large."""
    own = network()
    owner, matched = match(own, batch_with((33.0, 25.0, 47.0, 39.0)))  # centre (40, 32), a corner of cells of 8 pixels
    found = {(tuple(own.centres_px[row].tolist()), own.anchors_px[row, 0].item()) for row in matched[0].nonzero()[:, 0].tolist()}
    cells = [(x, y) for x in (36.0, 44.0) for y in (28.0, 36.0)]
    assert found == {(cell, size) for cell in cells for size in (14.0, 24.0)}
    assert owner[0, matched[0]].unique().tolist() == [0]


def test_a_box_unlike_all_anchors_is_learned_by_the_closest() -> None:
    """2 x 2 pixels: a seventh of the smallest anchor's sides."""
    own = network()
    _, matched = match(own, batch_with((39.0, 31.0, 41.0, 33.0)))
    assert own.anchors_px[matched[0]].unique().tolist() == [14.0]


def test_a_contested_anchor_learns_the_box_of_its_size() -> None:
    """Two boxes with one centre: the anchor of 14 learns the one of 14, though that of 20 may have it too."""
    own = network()
    owner, matched = match(own, batch_with((30.0, 22.0, 50.0, 42.0), (33.0, 25.0, 47.0, 39.0)))
    learned = {size: owner[0, matched[0] & (own.anchors_px[:, 0] == size)].unique().tolist() for size in (14.0, 24.0)}
    assert learned == {14.0: [1], 24.0: [0]}


def test_of_boxes_as_large_the_nearer_one_is_learned() -> None:
    """Two of 40 x 40, one 10 px to the right of the other, in a row of cells of 16 px: the cell between them learns the nearer."""
    own = network()
    owner, matched = match(own, batch_with((14.0, 4.0, 54.0, 44.0), (24.0, 4.0, 64.0, 44.0)))  # centres (34, 24) and (44, 24)
    at = (own.strides_px[:, 0] == 16) & (own.anchors_px == torch.tensor([56.0, 40.0])).all(1) & (own.centres_px[:, 1] == 24)
    assert matched[0, at].tolist() == [False, True, True, True, False, False]  # centres at 8, 24, 40, 56, 72 and 88
    assert owner[0, at].tolist()[1:4] == [0, 1, 1]


def test_soft_labels_count_less() -> None:
    """At a confidence of one half the boxes pull half as hard, and neither objectness nor classes pull harder."""
    own, boxes = network(), ((8.0, 8.0, 40.0, 48.0), (48.0, 16.0, 80.0, 40.0))
    raw = own(batch_with(*boxes).images)

    def pulls(confidence: float | None) -> Tensor:
        """(anchors and cells, 5 + classes)."""
        gradients = torch.autograd.grad(family.loss(own, raw, batch_with(*boxes, confidence=confidence)), raw, retain_graph=True)
        return torch.cat([own.unflatten(1, (3, 8)).flatten(3).transpose(2, 3).reshape(-1, 8) for own in gradients])

    sure, soft = pulls(None), pulls(0.5)
    torch.testing.assert_close(pulls(1.0), sure)
    assert sure[:, :4].abs().sum() > 0
    torch.testing.assert_close(soft[:, :4], sure[:, :4] / 2)
    assert (soft[:, 4:] >= sure[:, 4:]).all()
    assert (soft[:, 4] > sure[:, 4]).any()
    assert (soft[:, 5:] > sure[:, 5:]).any()


def test_complete_overlap_by_hand() -> None:
    """2 x 2 squares, one apart: overlap 1/3, centres 1 apart in 3 x 2, whose diagonal squared is 13 (arXiv:1911.08287)."""
    a, b = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    overlap, complete = overlap_and_ciou(a, b)
    assert overlap.item() == pytest.approx(1 / 3, abs=1e-6)
    assert complete.item() == pytest.approx(1 / 3 - 1 / 13, abs=1e-6)
