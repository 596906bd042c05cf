"""The plain detector: its assignment and soft labels by hand, and that tools which trace networks take it as it is."""

from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from detection.family import Batch
from examples.plain_yolo import PlainYolo, assign, complete_iou, family

CLASSES, SIZE = ("cat", "dog", "bird"), (64, 96)


def network() -> PlainYolo:
    """A small one with random weights, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return family.build({"width": 16}, CLASSES, SIZE)


def batch_with(confidence: Tensor | None) -> Batch:
    """Two boxes in one picture."""
    boxes = torch.tensor([[[8.0, 8.0, 40.0, 48.0], [48.0, 16.0, 80.0, 40.0]]])
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return Batch(images, boxes, torch.tensor([[0, 2]]), torch.ones(1, 2, dtype=torch.bool), confidence)


def test_its_size_at_its_default_width() -> None:
    """As large as the smallest of the detectors that users have: 2 to 3 M parameters."""
    parameters = sum(parameter.numel() for parameter in family.build({}, CLASSES, (192, 256)).parameters())
    assert 2e6 < parameters < 3.1e6


def test_each_box_is_learned_by_the_points_that_fit_it() -> None:
    """At most ten points, all within; the best fit is the best overlap; a point in two boxes goes to the one it overlaps more."""
    own = network()
    points = own.points_px
    batch = batch_with(None)
    boxes = torch.cat([points - 16, points + 16], 1)[None]  # 32 x 32 around each point
    fit, owner = assign(torch.full((1, len(points), 3), 0.5), boxes, points, batch)
    for number, (x1, y1, x2, y2) in enumerate(batch.boxes_xyxy_px[0].tolist()):
        taken = (fit[0] > 0) & (owner[0] == number)
        inside = (points > torch.tensor([x1, y1])).all(1) & (points < torch.tensor([x2, y2])).all(1)
        assert 1 <= int(taken.sum()) <= 10
        assert (taken & ~inside).sum() == 0
    assert fit[0, owner[0] == 0].max() == pytest.approx(32 * 32 / (32 * 40))  # a square within the first box, 32 wide, 40 high
    both = Batch(batch.images, torch.tensor([[[0.0, 0.0, 96.0, 64.0], [16.0, 16.0, 48.0, 48.0]]]), batch.labels, batch.present)
    fit, owner = assign(torch.full((1, len(points), 3), 0.5), boxes, points, both)
    at = int(((points - 32).abs().sum(1) + own.strides_px[:, 0]).argmin())  # a point near the middle of the small box
    assert fit[0, at] > 0
    assert owner[0, at] == 1


def test_soft_labels_count_less() -> None:
    """At a confidence of one half the boxes pull half as hard, and no class pulls harder; sure boxes count as labels do."""
    own = network()
    raw = own(batch_with(None).images)
    scores, sides = (torch.cat([part.flatten(2) for part in parts], 2) for parts in zip(*raw, strict=True))

    def pulls(confidence: Tensor | None) -> list[Tensor]:
        loss = family.loss(own, raw, batch_with(confidence))
        maps = [part for level in raw for part in level]
        gradients = torch.autograd.grad(loss, maps, retain_graph=True)
        return [torch.cat([own.flatten(2) for own in gradients[start::2]], 2) for start in (0, 1)]

    of_scores, of_sides = pulls(None)
    assert of_scores.shape == scores.shape
    assert of_sides.shape == sides.shape
    assert of_sides.abs().sum() > 0
    for surely, as_labels in zip(pulls(torch.ones(1, 2)), (of_scores, of_sides), strict=True):
        torch.testing.assert_close(surely, as_labels)
    soft_scores, soft_sides = pulls(torch.full((1, 2), 0.5))
    torch.testing.assert_close(soft_sides, of_sides / 2)
    assert (soft_scores >= of_scores).all()
    assert (soft_scores > of_scores).any()


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0.0, 0.0, 2.0, 2.0), 1.0),
        ((1.0, 0.0, 3.0, 2.0), 1 / 3 - 1 / 13),  # centres 1 apart, both within 3 x 2, whose diagonal squared is 13
        ((3.0, 0.0, 5.0, 2.0), -9 / 29),
    ],
)
def test_complete_overlap_by_hand(other: tuple[float, ...], expected: float) -> None:
    """Squares, of which only overlap and distance count (arXiv:1911.08287, equations 6 and 7)."""
    square = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    assert complete_iou(square, torch.tensor([other])).item() == pytest.approx(expected, abs=1e-6)


def test_fx_traces_it() -> None:
    """Tools that rewrite graphs see all of it: the traced network says the same."""
    own, images = network().eval(), batch_with(None).images
    traced = torch.fx.symbolic_trace(own)
    with torch.no_grad():
        torch.testing.assert_close(traced(images), own(images))


def test_torch_pruning_narrows_it_without_help() -> None:
    """Every convolution but the last ones is in a group, and the network runs with a quarter of each group's channels gone."""
    own, images = network().eval(), batch_with(None).images
    protected = [own.get_submodule(name) for name in family.protected(own)]
    graph = tp.DependencyGraph().build_dependency(own, images)
    groups = list(graph.get_all_groups(ignored_layers=protected))
    outputs = {
        item.dep.target.module
        for group in groups
        for item in group
        if isinstance(item.dep.target.module, nn.Conv2d) and graph.is_out_channel_pruning_fn(item.dep.handler)
    }
    convolutions = [module for module in own.modules() if isinstance(module, nn.Conv2d)]
    print(f"{len(groups)} groups hold the outputs of {len(outputs)} of {len(convolutions)} convolutions")
    assert outputs == set(convolutions) - set(protected)
    before = sum(parameter.numel() for parameter in own.parameters())
    for group in groups:
        channels = len(group[0].idxs)
        graph.get_pruning_group(group[0].dep.target.module, group[0].dep.handler, list(range(channels // 4))).prune()
    assert sum(parameter.numel() for parameter in own.parameters()) < 0.7 * before
    boxes, scores = family.decode(own, own(images))
    assert boxes.shape[1] == scores.shape[1] == len(own.points_px)
