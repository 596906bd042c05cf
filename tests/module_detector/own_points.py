"""A tiny detector as a user would bring it: one level, a box for each cell, and the adapter that sixfold asks for."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

STRIDE_PX = 8


def unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Points(nn.Module):
    """Scores and distances to the four sides of a box, for each cell of 8 pixels."""

    def __init__(self, classes: int, width: int, repeats: int, brightness: float) -> None:
        super().__init__()
        self.repeats, self.brightness = repeats, brightness
        self.stem, self.middle = unit(3, width, 2), unit(width, 2 * width, 2)
        self.deep, self.block = unit(2 * width, 2 * width, 2), unit(2 * width, 2 * width)
        self.score, self.sides = nn.Conv2d(2 * width, classes, 1), nn.Conv2d(2 * width, 4, 1)

    def forward(self, images):
        """(B, C, height, width) and (B, 4, height, width)."""
        maps = self.deep(self.middle(self.stem(images)))
        for _ in range(self.repeats):
            maps = maps + self.block(maps)
        logits = self.score(maps)
        if self.brightness:
            logits = logits + self.brightness * images.mean((1, 2, 3), keepdim=True)
        return logits, self.sides(maps)


class Family:
    """What sixfold asks of it."""

    stride_px = STRIDE_PX

    def build(self, spec, classes, input_size):
        network = Points(len(classes), spec.get("width", 8), spec.get("repeats", 1), spec.get("brightness", 0.0))
        if spec.get("auxiliary", False):
            network.auxiliary = unit(16, 16)  # as a head that only a training asks
        return network

    def decode(self, network, raw):
        logits, sides = raw
        return _boxes(sides).flatten(2).transpose(1, 2), logits.flatten(2).transpose(1, 2).sigmoid()

    def loss(self, network, raw, batch):
        logits, sides = raw
        boxes, total = _boxes(sides), logits.new_zeros(())
        goal, sure = torch.zeros_like(logits), batch.present.float() if batch.confidence is None else batch.confidence
        for image, own in batch.present.nonzero().tolist():
            box = batch.boxes_xyxy_px[image, own]
            column, row = ((box[:2] + box[2:]) / 2 // STRIDE_PX).long().tolist()
            row, column = min(row, logits.shape[2] - 1), min(column, logits.shape[3] - 1)
            goal[image, batch.labels[image, own], row, column] = sure[image, own]
            total = total + sure[image, own] * F.smooth_l1_loss(boxes[image, :, row, column], box) / STRIDE_PX
        scores = F.binary_cross_entropy_with_logits(logits, goal, reduction="sum")
        return (scores + total) / sure.sum().clamp(min=1)

    def protected(self, network):
        return ("score", "sides")

    def features(self, network):
        return ("block",)

    def skippable(self, network):
        return ("block",)


def _boxes(sides):
    """(B, 4, height, width) distances in cells -> boxes xyxy in pixels."""
    rows, columns = torch.arange(sides.shape[2]), torch.arange(sides.shape[3])
    y, x = ((own + 0.5) * STRIDE_PX for own in torch.meshgrid(rows, columns, indexing="ij"))
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0]).view(4, 1, 1)
    return torch.stack([x, y, x, y]).to(sides) + signs * F.softplus(sides) * STRIDE_PX


class SetFamily(Family):
    """The same, of which each box is said to be an object of its own."""

    suppress = "none"


family, set_family = Family(), SetFamily()
