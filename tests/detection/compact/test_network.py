"""The network is what its spec says: points where it claims, boxes as decoded by hand, edits in their places."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detection.checkpoint import fresh
from detection.compact.architecture import architecture_of
from detection.compact.network import Network, conv_unit, prediction_points
from tests.detection.variants import PLAIN, VARIANTS, lively

POINTS = 8 * 12 + 4 * 6 + 2 * 3
"""Of a picture of 64 x 96 pixels at strides 8, 16 and 32."""


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    """Random pictures of 64 x 96."""
    return torch.rand(count, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def test_points_are_cell_centres_row_by_row() -> None:
    """At 64 x 96: x runs first, 12 to a row at stride 8; then 6 at stride 16 and 3 at stride 32."""
    points_px, strides_px = prediction_points((64, 96), (8, 16, 32))
    assert points_px.shape == (POINTS, 2)
    assert points_px[:2].tolist() == [[4, 4], [12, 4]]
    assert points_px[11:13].tolist() == [[92, 4], [4, 12]]
    assert points_px[96:98].tolist() == [[8, 8], [24, 8]]
    assert points_px[-1].tolist() == [80, 48]
    assert strides_px.flatten().tolist() == [8.0] * 96 + [16.0] * 24 + [32.0] * 6


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_says_the_same_shapes(name: str) -> None:
    """(B, N, C) scores, (B, N, 4 K) box logits, and one feature map per level, as (height, width)."""
    with torch.no_grad():
        outputs = lively(VARIANTS[name]).network()(pixels(2))
    levels = {8: (2, 16, 8, 12), 16: (2, 16, 4, 6), 32: (2, 16, 2, 3)}
    shapes = [shape for level, shape in levels.items() if level in architecture_of(VARIANTS[name]).levels]
    points = sum(shape[2] * shape[3] for shape in shapes)
    assert outputs.score_logits.shape == (2, points, 3)
    assert outputs.box_logits.shape == (2, points, 16)
    assert [tuple(level.shape) for level in outputs.features] == shapes
    assert all(tensor.isfinite().all() for tensor in (*outputs[:2], *outputs.features))


@pytest.mark.parametrize("index", [0, 11, 40, 84, 95, 96, 101, 119, 120, 125])
def test_a_point_sees_the_features_around_itself(index: int) -> None:
    """A change of the feature at a point's place moves that point and its neighbours, of its own level alone.

    So rows, columns and levels are in the order of points_px. A head of one 3x3 convolution looks one cell far.
    """
    network = lively(PLAIN).network()
    (x, y), stride_px = network.points_px[index].tolist(), int(network.strides_px[index].item())

    def touch(_: nn.Module, __: object, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        touched = [level.clone() for level in levels]
        touched[(8, 16, 32).index(stride_px)][0, :, int(y // stride_px), int(x // stride_px)] += 10.0
        return touched

    with torch.no_grad():
        before = network(pixels(1))
        network.neck.register_forward_hook(touch)
        after = network(pixels(1))
    for old, new in zip(before[:2], after[:2], strict=True):
        moved = (old != new).any(-1)[0]
        assert moved[index]
        assert (network.strides_px[moved] == stride_px).all()
        assert (network.points_px[moved] - network.points_px[index]).abs().max() <= stride_px


def test_boxes_are_decoded_by_hand() -> None:
    """All the mass on bins 1, 0, 3, 2 puts the sides 1, 0, 3 and 2 strides from the point; evenly spread, 1.5 each."""
    network = Network(PLAIN)
    logits = torch.zeros(1, POINTS, 4, 4)
    for side, bin_index in enumerate((1, 0, 3, 2)):
        logits[0, 98, side, bin_index] = 100.0
    boxes = network.decode_boxes(logits.flatten(2))
    assert network.points_px[98].tolist() == [40, 8]
    torch.testing.assert_close(boxes[0, 98], torch.tensor([40 - 16.0, 8.0, 40 + 48, 8 + 32]))
    torch.testing.assert_close(boxes[0, 0], torch.tensor([4 - 12.0, 4 - 12, 4 + 12, 4 + 12]))


@pytest.mark.parametrize("largest", [1.0, 20.0, 60.0])
def test_a_quotient_of_sums_is_the_expectation_of_a_softmax(largest: float) -> None:
    """Within 1e-4 px of torch's softmax in float64, up to logits of 60 on either side, all of them there included; so are the
    gradients, which are finite."""
    network, generator = Network(PLAIN), torch.Generator().manual_seed(0)
    sides = largest * (2 * torch.rand(2, POINTS, 4, 4, generator=generator) - 1)
    sides[0, :40] = largest * torch.randint(0, 2, (40, 4, 4), generator=generator).mul(2).sub(1)  # both ends in one side
    sides[1, :2] = torch.tensor([largest, -largest])[:, None, None]  # all at one end
    logits, exact = sides.flatten(2).requires_grad_(), sides.double().flatten(2).requires_grad_()
    distance_px = (torch.unflatten(exact, -1, (4, 4)).softmax(-1) * torch.arange(4.0)).sum(-1) * network.strides_px
    expected = torch.cat([network.points_px - distance_px[..., :2], network.points_px + distance_px[..., 2:]], -1)
    boxes = network.decode_boxes(logits)
    torch.testing.assert_close(boxes.double(), expected, rtol=0, atol=1e-4)
    pull = torch.randn(boxes.shape, generator=generator)
    (boxes * pull).sum().backward()
    (expected * pull).sum().backward()
    assert logits.grad is not None
    assert exact.grad is not None
    inside = sides.flatten(2).abs() < 60  # what is cut there has no gradient beyond
    torch.testing.assert_close(logits.grad.double()[inside], exact.grad[inside], rtol=1e-3, atol=1e-4)
    assert logits.grad.isfinite().all()


def test_logits_beyond_60_are_as_60() -> None:
    """Cut before they are exponentiated: finite boxes, and no gradient that leads further out."""
    network = Network(PLAIN)
    logits = torch.linspace(-1000, 1000, POINTS * 16).reshape(1, POINTS, 16).requires_grad_()
    boxes = network.decode_boxes(logits)
    assert torch.equal(boxes, network.decode_boxes(logits.clamp(-60, 60)))
    boxes.sum().backward()
    assert logits.grad is not None
    assert boxes.isfinite().all()
    assert logits.grad.isfinite().all()
    assert (logits.grad[logits.abs() > 60] == 0).all()


def test_pictures_of_a_batch_do_not_mix() -> None:
    """In evaluation mode a picture gets the same answer alone and in company."""
    network = lively(PLAIN).network()
    with torch.no_grad():
        together, alone = network(pixels(3)), network(pixels(3)[1:2])
    torch.testing.assert_close(together.score_logits[1:2], alone.score_logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.box_logits[1:2], alone.box_logits, atol=1e-5, rtol=1e-4)


def test_edits_change_the_named_layers_and_no_others() -> None:
    """The narrowed block has 5 inner channels; every other parameter keeps its shape."""
    before, after = (Network(spec).state_dict() for spec in (PLAIN, VARIANTS["pruned"]))
    changed = {name for name in before if before[name].shape != after[name].shape}
    assert after["stages.2.1.reduce.0.weight"].shape == (5, 24, 3, 3)
    assert after["stages.2.1.expand.0.weight"].shape == (24, 5, 3, 3)
    assert {name.rpartition(".")[0] for name in changed} == {"stages.2.1.reduce.0", "stages.2.1.reduce.1", "stages.2.1.expand.0"}


def test_edits_apply_in_order() -> None:
    """Factored after pruning, a convolution has the pruned widths outside and the ranks inside."""
    state = Network(VARIANTS["pruned-factored"]).state_dict()
    shapes = [tuple(state[f"stages.2.1.reduce.0.{part}.weight"].shape) for part in range(3)]
    assert shapes == [(4, 24, 1, 1), (3, 4, 3, 3), (5, 3, 1, 1)]


def test_a_narrowed_depthwise_convolution_stays_depthwise() -> None:
    """One group per channel, after pruning too."""
    layer = Network(VARIANTS["pruned-depthwise"]).get_submodule("stages.2.1.expand.0")
    assert isinstance(layer, nn.Conv2d)
    assert (layer.groups, layer.in_channels, layer.out_channels) == (5, 5, 5)


def test_protected_layers_are_the_last_convolutions() -> None:
    """They exist, and put out classes and bins: six of them, two per level."""
    network = Network(PLAIN)
    widths = {name: network.get_submodule(name).out_channels for name in network.protected_layers()}
    assert widths == {f"heads.{level}.{name}": width for level in range(3) for name, width in (("score", 3), ("box", 16))}


@pytest.mark.parametrize("kind", ["dense", "depthwise", "ghost"])
def test_units_of_every_kind_fit_the_same_place(kind: str) -> None:
    """Inputs, outputs and stride are what was asked for, and negative values are gone (ReLU)."""
    unit = conv_unit(kind, 6, 10, 3, 2)  # type: ignore[arg-type]
    out = unit(torch.randn(2, 6, 16, 24, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (2, 10, 8, 12)
    assert out.min() == 0


def test_light_blocks_are_lighter() -> None:
    """Depthwise pairs and ghosts have fewer weights than the dense convolutions in their place."""
    dense, depthwise, ghost = (
        sum(tensor.numel() for tensor in fresh(VARIANTS[name], 0).weights.values()) for name in ("dense", "depthwise", "ghost")
    )
    assert depthwise < ghost < dense


def test_a_stem_of_stride_4_looks_at_patches_side_by_side() -> None:
    """A pixel changes the one place of the stem's map whose 4 x 4 patch it lies in, and no pixel is left out."""
    stem = lively(VARIANTS["short"]).network().stem[0]  # type: ignore[index]
    picture = torch.zeros(1, 3, 64, 96)
    with torch.no_grad():
        before = stem(picture)  # type: ignore[operator]
        assert before.shape == (1, 8, 16, 24)
        for y, x in ((0, 0), (3, 4), (31, 50), (63, 95)):
            touched = picture.clone()
            touched[..., y, x] = 1.0
            moved = (stem(touched) - before).abs().amax(dim=(0, 1)).nonzero()  # type: ignore[operator]
            assert moved.tolist() == [[y // 4, x // 4]]
