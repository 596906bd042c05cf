"""Who reads the picture decides whether its division by 255 can be done in the first convolution's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.adapted.network import _divides_in_weights

SIZE = (8, 8)


class Reading(nn.Module):
    """A network with a first convolution, and what else it does with the picture."""

    def __init__(self, reads: Callable[[Reading, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.reads = reads
        self.shared: Any = type("Shared", (), {"input_size": SIZE})()

    def forward(self, picture: Tensor) -> Tensor:
        """Maps as large as the picture."""
        return self.reads(self, picture)


READS: dict[str, tuple[Callable[[Reading, Tensor], Tensor], bool]] = {
    "by one convolution": (lambda net, picture: net.first(picture), True),
    "by two": (lambda net, picture: net.first(picture) + net.second(picture), True),
    "its size alone": (lambda net, picture: net.first(picture) * picture.shape[2] * picture.size(3), True),
    "given back as it is": (lambda net, picture: net.first(picture.contiguous().to(torch.float32)), True),
    "by a mean": (lambda net, picture: net.first(picture) + picture.mean(), False),
    "as data": (lambda net, picture: net.first(picture) + picture.data, False),
    "among others": (lambda net, picture: torch.cat([net.first(picture), picture], 1), False),
    "as numbers": (lambda net, picture: net.first(picture) + picture.tolist()[0][0][0][0], False),
    "normalised": (lambda net, picture: net.first((picture - 0.5) / 0.2), False),
    "by no layer": (lambda net, picture: F.conv2d(picture, net.first.weight), False),
    "by one that reads maps too": (lambda net, picture: net.first(net.first(picture)), False),
}


@pytest.mark.parametrize("name", READS)
def test_only_convolutions_that_read_nothing_else_divide(name: str) -> None:
    """Where they do, bytes give what shares gave; where they do not, no weight has changed."""
    reads, divides = READS[name]
    torch.manual_seed(0)
    network = Reading(reads).eval()
    picture = torch.rand(1, 3, *SIZE)
    before, weights = network(picture).detach(), network.first.weight.detach().clone()
    assert _divides_in_weights(network) is divides  # type: ignore[arg-type]
    if divides:
        torch.testing.assert_close(network(picture * 255).detach(), before, atol=1e-4, rtol=1e-4)
    else:
        assert torch.equal(network.first.weight, weights)


def test_weights_that_are_computed_anew_do_not_divide() -> None:
    """A weight norm would undo it."""
    network = Reading(READS["by one convolution"][0])
    nn.utils.parametrizations.weight_norm(network.first)
    assert _divides_in_weights(network) is False  # type: ignore[arg-type]
