"""Objects as points (arXiv:1904.07850) on a small residual backbone, in plain torch; nothing of our own family is in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.family import Batch

STRIDE_PX = 4
LEAST_SPREAD = 0.7
"""Standard deviation of the smallest bell in a heat map, in cells: smaller ones leave no slope to learn from."""


class Residual(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])

    def forward(self, x: Tensor) -> Tensor:
        """As large as what came in."""
        return F.relu(x + self.norms[1](self.second(F.relu(self.norms[0](self.first(x))))))


class CenterPoints(nn.Module):
    """Planes of RGB shares of 1 -> heat maps of the classes in [0, 1], sizes and offsets of centres, in cells of 4 pixels."""

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.stem = _stage(3, 32, 0)
        self.fine, self.middle, self.coarse = _stage(32, width, 1), _stage(width, 128, 2), _stage(128, 192, 2)
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in (width, 128, 192))
        self.merge = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.heads = nn.ModuleList(_head(width, outputs) for outputs in (classes, 2, 2))
        bias = next(reversed(list(self.heads[0].parameters())))
        nn.init.constant_(bias, -math.log(99))  # one cell in a hundred has a centre, as in the paper

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) heat, (B, 2, h, w) widths and heights, (B, 2, h, w) offsets x and y."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        coarse = self.lateral[2](self.coarse(middle))
        middle = self.lateral[1](middle) + F.interpolate(coarse, scale_factor=2.0)
        seen = self.merge(self.lateral[0](fine) + F.interpolate(middle, scale_factor=2.0))
        heat, size, offset = (head(seen) for head in self.heads)
        return heat.sigmoid(), size, offset


def loss_of(found: tuple[Tensor, Tensor, Tensor], batch: Batch) -> Tensor:
    """Focal loss of the heat maps, distance of sizes and offsets where there is a centre (equations 1 to 4)."""
    heat, size, offset, counts = _targets(batch, found[0].shape)
    said, objects = found[0].float().clamp(1e-4, 1 - 1e-4), counts.sum().clamp(min=1.0)
    right = (1 - said) ** 2 * said.log() * (heat == 1)
    wrong = (1 - heat) ** 4 * said**2 * (1 - said).log() * (heat < 1)
    apart = [((own.float() - wanted).abs().sum(1) * counts).sum() for own, wanted in ((found[1], size), (found[2], offset))]
    return (-(right + wrong).sum() + 0.1 * apart[0] + apart[1]) / objects


def _targets(batch: Batch, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heat maps (B, C, h, w) with a bell around each centre, sizes and offsets (B, 2, h, w), and where these count (B, h, w)."""
    (images, _, height, width), cells = shape, shape[2:]
    heat, counts = torch.zeros(shape), torch.zeros(images, *cells)
    size, offset = torch.zeros(images, 2, *cells), torch.zeros(images, 2, *cells)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for image, box in batch.present.nonzero().tolist():
        x1, y1, x2, y2 = (batch.boxes_xyxy_px[image, box] / STRIDE_PX).tolist()
        x, y, label = (x1 + x2) / 2, (y1 + y2) / 2, int(batch.labels[image, box])
        column, row = min(int(x), width - 1), min(int(y), height - 1)
        spread_x, spread_y = max((x2 - x1) / 6, LEAST_SPREAD), max((y2 - y1) / 6, LEAST_SPREAD)
        bell = torch.exp(-(((columns - column) / spread_x) ** 2 + ((rows - row) / spread_y) ** 2) / 2)
        heat[image, label] = torch.maximum(heat[image, label], bell)
        size[image, :, row, column] = torch.tensor([x2 - x1, y2 - y1])
        offset[image, :, row, column] = torch.tensor([x - column, y - row])
        counts[image, row, column] = 1.0
    return heat, size, offset, counts


def _stage(inputs: int, width: int, blocks: int) -> nn.Sequential:
    down = nn.Conv2d(inputs, width, 3, 2, 1, bias=False)
    return nn.Sequential(down, nn.BatchNorm2d(width), nn.ReLU(), *(Residual(width) for _ in range(blocks)))


def _head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, outputs, 1))
