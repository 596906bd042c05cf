"""How far a student's features are from its teacher's, as the heads see them: PKD, CWD or MGD. Part of distillation.

B images, W channels of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FeaturesBy = Literal["pkd", "cwd", "mgd", "none"]

FEATURE_WEIGHTS: dict[FeaturesBy, float] = {"pkd": 1.0, "cwd": 1.0, "mgd": 1.0, "none": 0.0}
"""Weight of each term where none is given. Published ones go with other detectors' losses and with sums over four or five levels:
PKD 6 to 10, CWD 10 (configs/distill/mmdet of MMRazor 1.0), MGD 2e-5 of summed squares (its section 4.1). Here each term is a mean
over channels and levels, and at weight 1 all three pull alike: the length of the gradient, after four epochs on blood cells by a
student of half the width, was 0.18 (PKD), 0.19 (CWD) and 0.33 (MGD), that of the labels 2.4 to 3.0."""
CWD_TEMPERATURE = 1.0
"""Softens the maps: 1 for detectors in MMRazor's configs; the paper has 4 for segmentation."""
MGD_MASKED_SHARE = 0.65
"""Share of the positions that the student has to do without (section 4.1, one-stage detectors)."""


class FeatureTerm(nn.Module):
    """Distance of two pyramids, with what it needs to compare them; its parameters are trained along and thrown away."""

    def __init__(self, by: FeaturesBy, theirs: Sequence[int], own: Sequence[int], seed: int) -> None:
        """Channels of each of the teacher's maps, and of the student's map that is compared with it."""
        super().__init__()
        self.by = by
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # A 1x1 convolution per level where widths differ.
            self.adapters = nn.ModuleList(
                nn.Identity() if width == wanted else nn.Conv2d(width, wanted, 1) for width, wanted in zip(own, theirs, strict=True)
            )
            self.generators = nn.ModuleList(map(generator, theirs)) if by == "mgd" else nn.ModuleList()
        self.draws = torch.Generator().manual_seed(seed)  # on the CPU, so that every device draws the same masks

    def forward(self, own: tuple[Tensor, ...], taught: tuple[Tensor, ...], half: bool = False) -> Tensor:
        """Mean over the levels, in float32; half says whether the student's network computes in bfloat16."""
        terms = []
        for level, (adapter, mine, theirs) in enumerate(zip(self.adapters, own, taught, strict=True)):
            led = adapter(mine.float())
            if self.by == "pkd":
                terms.append(pearson_distance(led, theirs.float()))
            elif self.by == "cwd":
                terms.append(channel_wise_divergence(led, theirs.float()))
            else:
                with torch.autocast(led.device.type, torch.bfloat16, enabled=half):
                    generated = self.generators[level](self._masked(led))
                terms.append(F.mse_loss(generated.float(), theirs.float()))
        return torch.stack(terms).mean()

    def _masked(self, maps: Tensor) -> Tensor:
        """The maps with zeros at random positions, the same ones in every channel (MGD, section 3.1)."""
        shown = torch.rand((len(maps), 1, *maps.shape[2:]), generator=self.draws) >= MGD_MASKED_SHARE
        return maps * shown.to(maps.device)


def pearson_distance(own: Tensor, taught: Tensor) -> Tensor:
    """Half the squared distance of standardised maps, which is one minus their correlation (PKD, arXiv:2207.02039, eq. 4)."""
    return F.mse_loss(_standardised(own), _standardised(taught)) / 2


def channel_wise_divergence(own: Tensor, taught: Tensor) -> Tensor:
    """KL divergence of where each channel looks: softmax over the positions, mean over channels (CWD, arXiv:2011.13256, eq. 4)."""
    mine, theirs = ((maps.flatten(2) / CWD_TEMPERATURE).log_softmax(-1) for maps in (own, taught))  # (B, W, positions)
    return F.kl_div(mine, theirs, reduction="none", log_target=True).sum(-1).mean() * CWD_TEMPERATURE**2


def generator(width: int) -> nn.Sequential:
    """Two convolutions that guess the teacher's whole maps from the student's masked ones (MGD, arXiv:2205.01529, eq. 3)."""
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


def _standardised(maps: Tensor) -> Tensor:
    """Each channel with mean 0 and deviation 1 over the batch, (B, W, height, width)."""
    mean = maps.mean((0, 2, 3), keepdim=True)
    deviation = maps.std((0, 2, 3), keepdim=True, correction=0)
    return (maps - mean) / (deviation + 1e-6)
