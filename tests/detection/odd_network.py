"""A small network with every kind of dense convolution, as users' own have them, and pictures for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.edits import apply_edit
from detection.spec import Edit

DENSE = ("down", "wide", "mirrored", "coarse", "coarser", "tower.0", "auxiliary")
"""Layers that become depthwise pairs, in the order in which they run; the last runs in training only."""


class Odd(nn.Module):
    """Three levels with one head: steps, dilation, padding by reflection, a concatenation, biases or none, two normalisations."""

    def __init__(self, edits: Sequence[Edit] = ()) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.down = nn.Conv2d(8, 12, 3, 2, 1, bias=False)
        self.down_norm = nn.BatchNorm2d(12)
        self.wide = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.wide_norm = nn.GroupNorm(3, 12)
        self.mirrored = nn.Conv2d(12, 10, 5, padding=2, padding_mode="reflect", bias=False)
        self.mirrored_norm = nn.BatchNorm2d(10)
        self.lateral = nn.Conv2d(22, 16, 1)
        self.coarse = nn.Conv2d(22, 16, 3, 2, 1)
        self.coarser = nn.Conv2d(16, 16, (3, 1), (2, 2), (1, 0), bias=False)
        self.tower = nn.Sequential(nn.Conv2d(16, 16, 3, padding="same"), nn.ReLU(inplace=True))
        self.predict = nn.Conv2d(16, 5, 3, padding=1)
        self.auxiliary = nn.Conv2d(16, 5, 3, padding=1)
        for edit in edits:
            apply_edit(self, edit)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 5, points) of three levels."""
        x = self.down_norm(self.down(self.stem(images).relu())).relu()
        x = torch.cat([self.wide_norm(self.wide(x)).relu(), self.mirrored_norm(self.mirrored(x)).relu()], 1)
        levels = [self.lateral(x), self.coarse(x)]
        levels.append(self.coarser(levels[1].relu()))
        layers = (self.predict, self.auxiliary) if self.training else (self.predict,)
        return torch.cat([layer(self.tower(level)).flatten(2) for level in levels for layer in layers], 2)


def odd_network(seed: int = 0, separable: bool = False) -> Odd:
    """With weights and statistics that all differ, in evaluation mode. separable: the kernels of DENSE are products of pairs."""
    generator, network = torch.Generator().manual_seed(seed), Odd().eval()
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 4:
            kernel = torch.randn(tensor.shape, generator=generator)
            if separable and name.removesuffix(".weight") in DENSE:
                kernel = kernel[:, :, :1, :1] * torch.randn(tensor.shape[1:], generator=generator)
            tensor.copy_(kernel * (2 / kernel[0].numel()) ** 0.5)
        elif name.endswith(("running_var", "norm.weight")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return network


def pictures(seed: int, count: int = 8) -> Tensor:
    """Smooth ones with some noise, (count, 3, 48, 64) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse, fine = torch.rand(count, 3, 6, 8, generator=generator), torch.rand(count, 3, 48, 64, generator=generator)
    return 0.8 * F.interpolate(coarse, scale_factor=8, mode="bilinear") + 0.2 * fine
