"""What is exported says what the network says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detection.compact.deployed import Deployed
from tests.detection.variants import PLAIN, VARIANTS, lively


def pictures(count: int) -> Tensor:
    """(count, 64, 96, 3) uint8."""
    return torch.randint(0, 256, (count, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def as_pixels(stored: Tensor) -> Tensor:
    """The same as a network takes them: (B, 3, height, width) in [0, 1]."""
    return stored.permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("name", VARIANTS)
def test_it_decodes_as_the_trained_network(name: str) -> None:
    """Rows of patches, products over points and quotients of sums say what convolutions, softmax and expectation say, to a
    thousandth of a pixel."""
    network = lively(VARIANTS[name]).network()
    with torch.no_grad():
        wanted_boxes, wanted_scores = network.decode(network(as_pixels(pictures(2))))
        boxes, scores = Deployed(network)(pictures(2))
    torch.testing.assert_close(boxes, wanted_boxes, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(scores, wanted_scores, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["dense", "short"])
def test_it_takes_pictures_or_their_planes(name: str) -> None:
    """Both say the same, and the network that was given is left alone."""
    network = lively(VARIANTS[name]).network()
    before = network.stem[0].weight.clone()  # type: ignore[index,union-attr,operator]
    of_planes = Deployed(network, planes=True)
    with torch.no_grad():
        found, expected = Deployed(network)(pictures(2)), of_planes(of_planes.planes_of(pictures(2)))
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other)
    assert torch.equal(network.stem[0].weight, before)  # type: ignore[index,union-attr]


def test_four_pixels_of_a_row_are_one_place() -> None:
    """Channels 0 to 2 are the first pixel's colours, 9 to 11 the fourth's; without patches every pixel is a place."""
    stored = torch.arange(8 * 3, dtype=torch.uint8).reshape(1, 1, 8, 3)
    rows = Deployed(lively(VARIANTS["short"]).network()).planes_of(stored)
    assert rows.shape == (1, 12, 1, 2)
    assert rows[0, :, 0, 0].tolist() == list(range(12))
    assert Deployed(lively(PLAIN).network()).planes_of(stored).shape == (1, 3, 1, 8)


def test_one_product_predicts_where_branches_are_shared() -> None:
    """Scores and boxes of a level together; apart where each has a branch."""
    shared, separate = (Deployed(lively(VARIANTS[name]).network()).predictions for name in ("short", "dense"))
    assert (len(shared), len(separate)) == (2, 6)


@pytest.mark.parametrize("name", ["dense", "short"])
@pytest.mark.parametrize("value", [500.0, -500.0])
def test_extreme_logits_still_decode(name: str, value: float) -> None:
    """A distribution that puts everything on one bin, or far below zero on all, leaves finite boxes."""
    network = lively(VARIANTS[name]).network()
    for head in network.heads:
        with torch.no_grad():
            head.box.bias.fill_(value)  # type: ignore[union-attr,operator]
            assert all(tensor.isfinite().all() for tensor in Deployed(network)(pictures(1)))
