"""A tiny detector of a user's with layers of many kinds, which predicts as the plain one does."""

from __future__ import annotations

import torch
from own_points import Family as Plain
from torch import nn
from torch.nn import functional as F


class StandardConv(nn.Conv2d):
    """Weights of mean 0 and variance 1 (weight standardisation)."""

    def forward(self, maps):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(maps, weight, self.bias, self.stride, self.padding)


class Gated(nn.Module):
    """Each channel times what a linear layer makes of the means of all."""

    def __init__(self, width):
        super().__init__()
        self.gate = nn.Linear(width, width)

    def forward(self, maps):
        return maps * self.gate(maps.mean((2, 3))).sigmoid()[..., None, None]


class Turned(nn.Module):
    """Channels in another order; which depends on what they hold, where that is asked for."""

    def __init__(self, branches, keeps):
        super().__init__()
        self.branches, self.keeps = branches, keeps

    def forward(self, maps):
        if self.keeps:
            self.last = maps
        if self.branches and maps.mean() > 0:
            return maps
        first, second = maps.chunk(2, 1)
        return torch.cat((second, first), 1).view(maps.shape[0], maps.shape[1], maps.shape[2], -1)


class Layers(nn.Module):
    """Scores and distances to the four sides of a box, for each cell of 8 pixels."""

    def __init__(self, classes, branches=False, keeps=False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.standard, self.norm = StandardConv(8, 8, 3, 1, 1), nn.BatchNorm2d(8, eps=1e-3)
        self.down = nn.Conv2d(8, 16, 3, 2, 1, groups=2, padding_mode="replicate")
        self.before, self.turned = nn.BatchNorm2d(16), Turned(branches, keeps)
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.SiLU(inplace=True))
        self.shared = nn.Conv2d(16, 16, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(16)])
        self.enlarge, self.enlarged = nn.ConvTranspose2d(16, 16, 2, 2, bias=False), nn.BatchNorm2d(16)
        self.pool, self.gated, self.dropped = nn.MaxPool2d(2), Gated(32), nn.Dropout(0.1)
        self.twice = nn.Sequential(nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32), nn.LeakyReLU(0.1))
        self.again = self.twice
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.score, self.sides = nn.Conv2d(32, classes, 1), nn.Conv2d(32, 4, 1)

    def forward(self, images):
        """(B, C, height, width) and (B, 4, height, width)."""
        maps = F.silu(self.norm(self.standard(self.stem(images))))
        early = self.turned(self.down(maps))
        deep = self.deep(F.relu(self.before(early)))
        for norm in self.norms:
            deep = deep + F.relu(norm(self.shared(deep)))
        both = torch.cat([early, self.enlarged(self.enlarge(deep))], 1)
        both = self.gated(self.pool(both)) * self.scale
        both = self.dropped(self.again(self.twice(both)))
        return {"logits": self.score(both), "sides": self.sides(both)}


class Family(Plain):
    """What sixfold asks of it."""

    def build(self, spec, classes, input_size):
        return Layers(len(classes), **spec)

    def predict(self, network, images):
        return network((images - 0.5) * 2)

    def decode(self, network, raw):
        return super().decode(network, (raw["logits"], raw["sides"]))

    def loss(self, network, raw, batch):
        return super().loss(network, (raw["logits"], raw["sides"]), batch)

    def features(self, network):
        return ("down", "deep", "deep.2", "norms.1")


family = Family()
