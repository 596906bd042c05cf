"""Layers that round: to the levels of the runtimes, in ranges that follow what occurs, and gradients pass."""

from __future__ import annotations

import pytest
import torch

from compressors.quantization.rounding import FakeQuantizedConv, FakeQuantizedMap
from hardware_profiles.runtimes.ranges import Range


def test_weights_are_rounded_per_output_channel() -> None:
    """Weights 1.27 and 0.634 of one channel: scale 0.01, so 1.27 and 0.63. Another channel a thousandth of it: its own scale."""
    conv = FakeQuantizedConv(2, 2, 1, bias=False)
    conv.weight.data = torch.tensor([[[[1.27]], [[0.634]]], [[[0.00127]], [[0.000634]]]])
    seen = conv(torch.eye(2).reshape(2, 2, 1, 1)).flatten(1)
    torch.testing.assert_close(seen, torch.tensor([[1.27, 0.00127], [0.63, 0.00063]]))
    seen.sum().backward()
    assert conv.weight.grad is not None
    assert (conv.weight.grad == 1).all(), "the gradient passes as if nothing had been rounded"


def test_ranges_follow_what_occurs_and_stand_still_in_evaluation() -> None:
    """The first batch sets the ends, each later one moves them by a hundredth; nothing moves while evaluating."""
    own = FakeQuantizedMap().train()
    own(torch.tensor([[-1.0, 3.0]]))
    assert own.ends() == Range(-1.0, 3.0)
    own(torch.tensor([[-2.0, 1.0]]))
    assert own.ends() == pytest.approx((-1.01, 2.98))
    own.eval()(torch.tensor([[100.0]]))
    assert own.ends() == pytest.approx((-1.01, 2.98))


def test_maps_are_rounded_to_256_levels_and_cut() -> None:
    """0..25.5 has levels 0.1 apart: 1.23 becomes 1.2 and 99 becomes 25.5; where it was cut no gradient passes."""
    own = FakeQuantizedMap().train()
    own(torch.tensor([0.0, 25.5]))
    maps = torch.tensor([1.23, 99.0], requires_grad=True)
    seen = own.eval()(maps)
    torch.testing.assert_close(seen, torch.tensor([1.2, 25.5]))
    seen.sum().backward()
    assert maps.grad is not None
    assert maps.grad.tolist() == [1.0, 0.0]
