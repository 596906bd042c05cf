"""Layers that see the levels of 8 bits while they train: gradients pass the rounding as if it were not there."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware_profiles.runtimes.ranges import LEVELS, Range

GREATEST_WEIGHT = 127
"""Of a signed byte; -128 is left out, as both runtimes do, so that zero is the middle."""
RANGE_MOMENTUM = 0.01
"""Share of each new batch in a range (arXiv:1712.05877, section 3.1, asks for long averages)."""


def rounded_weight(weight: Tensor, axis: int) -> Tensor:
    """The weight rounded to int8 per output channel, which is this dimension of it."""
    others = tuple(dimension for dimension in range(weight.ndim) if dimension != axis)
    scale = weight.detach().abs().amax(others).clamp(min=1e-12) / GREATEST_WEIGHT
    zero_points = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero_points, axis, -GREATEST_WEIGHT, GREATEST_WEIGHT)


class FakeQuantizedConv(nn.Conv2d):
    """A convolution whose weights are rounded to int8 per output channel before they are used."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, outputs, height, width)."""
        maps: Tensor = self._conv_forward(input, rounded_weight(self.weight, 0), self.bias)
        return maps


class FakeQuantizedTransposed(nn.ConvTranspose2d):
    """The same of a transposed convolution."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, outputs, height, width)."""
        extra = self._output_padding(input, output_size, self.stride, self.padding, self.kernel_size, 2, self.dilation)  # type: ignore[arg-type]
        weight = rounded_weight(self.weight, 1)
        return F.conv_transpose2d(input, weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)  # type: ignore[arg-type]


class FakeQuantizedLinear(nn.Linear):
    """The same of a fully connected layer."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., outputs)."""
        return F.linear(input, rounded_weight(self.weight, 0), self.bias)


class FakeQuantizedWeight(nn.Module):
    """The rounding alone, of a weight that a function is given."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, weight: Tensor) -> Tensor:
        """The same shape."""
        return rounded_weight(weight, self.axis)


ROUNDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FakeQuantizedConv, nn.ConvTranspose2d: FakeQuantizedTransposed, nn.Linear: FakeQuantizedLinear,
}  # fmt: skip
"""Layers of torch's, and what takes their place. Classes derived from them may compute something else with their weights."""


class FixedNorm(nn.modules.batchnorm._BatchNorm):
    """A batch normalisation by the statistics that it has, while training too: those that the exported file will have."""

    def forward(self, input: Tensor) -> Tensor:
        """The same shape."""
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def as_class(module: nn.Module, other: type[nn.Module]) -> nn.Module:
    """The module as one of another class with the same attributes; both have the same parameters."""
    changed = copy.copy(module)
    changed.__class__ = other
    return changed


class FakeQuantizedMap(nn.Module):
    """Maps rounded to 256 levels between two ends that follow, while training, the least and greatest value of each batch."""

    low: Tensor  # ()
    high: Tensor  # ()
    batches: Tensor  # ()

    def __init__(self) -> None:
        super().__init__()
        for name in ("low", "high", "batches"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """The same shape; what holds no floats, a size or a mask, passes as it is."""
        if not isinstance(maps, Tensor) or not maps.is_floating_point():
            return maps
        if self.training:
            with torch.no_grad():
                share = 1.0 if not self.batches else RANGE_MOMENTUM
                self.low.lerp_(maps.min().clamp(max=0.0), share)
                self.high.lerp_(maps.max().clamp(min=0.0), share)
                self.batches += 1
        ends = self.ends()
        return torch.fake_quantize_per_tensor_affine(maps, ends.scale, ends.zero_point, 0, LEVELS - 1)

    def ends(self) -> Range:
        """The range as it is now."""
        return Range(float(self.low), float(self.high))
