"""The network of a spec: backbone, additive PAN neck, decoupled head with DFL.

The pyramid is fused by addition, not concatenation: fewer memory-bound operators remain after int8, every width is a plain
prefix of the full one (which the search relies on), and quantizers need no common scale over concatenated halves.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.compact.architecture import FIRST_STAGE_STRIDE, Architecture, BlockKind, architecture_of
from detection.edits import apply_edit
from detection.spec import Spec

PRIOR_PROBABILITY = 0.01
"""Score every class starts with, so that early training is not swamped by background (RetinaNet, arXiv:1708.02002, section 4.1)."""
LARGEST_EXPONENT = 60.0
"""Box logits are cut to [-60, 60] before they are exponentiated: 32 bins of e^60 still add up in float32. A trained detector's
stay within 20 or so."""


class Outputs(NamedTuple):
    """What the network says before decoding. B images, N points, C classes, K bins."""

    score_logits: Tensor  # (B, N, C)
    box_logits: Tensor  # (B, N, 4 * K): left, top, right, bottom
    features: tuple[Tensor, ...]  # per level (B, width, height, width), what the head sees


class Network(nn.Module):
    """Anchor-free one-stage detector."""

    points_px: Tensor  # (N, 2) x, y of the centres
    strides_px: Tensor  # (N, 1)
    bins: Tensor  # (K,) 0, 1, ..., K - 1

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        arch = architecture_of(spec)
        self.classes = len(spec.classes)
        # A first convolution that steps by 4 looks at patches of 4x4 pixels side by side (ConvNeXt, arXiv:2201.03545, 2.2): on real
        # pictures as accurate as 7x7, with a third of its arithmetic.
        self.stem = _conv_norm_act(3, arch.stem_width, max(3, arch.stem_stride), arch.stem_stride)
        self.stages = nn.ModuleList(_stages(arch))
        self.neck = Neck(arch)
        self.heads = nn.ModuleList(Head(arch, self.classes) for _ in arch.levels)
        points_px, strides_px = prediction_points(spec.input_size, arch.levels)
        self.register_buffer("points_px", points_px, persistent=False)
        self.register_buffer("strides_px", strides_px, persistent=False)
        self.register_buffer("bins", torch.arange(arch.box_bins, dtype=torch.float32), persistent=False)
        for edit in spec.edits:
            apply_edit(self, edit)

    def forward(self, images: Tensor) -> Outputs:
        """Raw predictions for (B, 3, height, width) pixels in [0, 1]."""
        features = self.features(images)
        scores, boxes = zip(*(head(feature) for head, feature in zip(self.heads, features, strict=True)), strict=True)
        return Outputs(torch.cat(scores, 2).transpose(1, 2), torch.cat(boxes, 2).transpose(1, 2), tuple(features))

    def features(self, images: Tensor) -> list[Tensor]:
        """What the heads see, level by level, fine to coarse."""
        x = self.stem(images)
        levels: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        fused: list[Tensor] = self.neck(levels[-len(self.heads) :])
        return fused

    def decode(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels of the letterboxed image (B, N, 4) and class scores in [0, 1] (B, N, C)."""
        return self.decode_boxes(outputs.box_logits), outputs.score_logits.sigmoid()

    def decode_boxes(self, box_logits: Tensor) -> Tensor:
        """Boxes xyxy in pixels, (B, N, 4): the expected distance of each side from its point."""
        return self.boxes_at(self.points_px, self.strides_px, box_logits)

    def boxes_at(self, points_px: Tensor, strides_px: Tensor, box_logits: Tensor) -> Tensor:
        """Boxes xyxy in pixels, (..., 4), of some points (..., 2) with their strides (..., 1) and box logits (..., 4 * K)."""
        likely = box_logits.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT).exp()  # softmax over so few bins takes ten times as long
        sides = torch.unflatten(likely, -1, (4, len(self.bins)))
        distance_px = sides @ self.bins / sides.sum(-1) * strides_px
        return torch.cat([points_px - distance_px[..., :2], points_px + distance_px[..., 2:]], -1)

    def protected_layers(self) -> tuple[str, ...]:
        """Names of the last prediction convolutions, whose outputs have a meaning and keep their width and precision."""
        return tuple(f"heads.{level}.{branch}" for level in range(len(self.heads)) for branch in ("score", "box"))


class Neck(nn.Module):
    """Path aggregation (PANet, arXiv:1803.01534): coarse meaning goes down, fine position goes up, both by addition."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        width, kind = arch.neck_width, arch.neck_block
        self.laterals = nn.ModuleList(conv_unit("dense", w, width, 1) for w in arch.stage_widths[-len(arch.levels) :])
        self.top_down = nn.ModuleList(conv_unit(kind, width, width, 3) for _ in arch.levels[:-1])
        self.downs = nn.ModuleList(conv_unit(kind, width, width, 3, 2) for _ in arch.levels[:-1])
        self.bottom_up = nn.ModuleList(conv_unit(kind, width, width, 3) for _ in arch.levels[:-1])

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """One fused feature map per level, fine to coarse."""
        fused = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        for i in range(len(fused) - 2, -1, -1):
            fused[i] = self.top_down[i](fused[i] + F.interpolate(fused[i + 1], scale_factor=2.0, mode="nearest"))
        for i in range(len(fused) - 1):
            fused[i + 1] = self.bottom_up[i](fused[i + 1] + self.downs[i](fused[i]))
        return fused


class Head(nn.Module):
    """Scores and box distributions of one level, from two branches (decoupled head, YOLOX, arXiv:2107.08430) or from one."""

    def __init__(self, arch: Architecture, classes: int) -> None:
        super().__init__()
        self.score_branch = _branch(arch)
        self.box_branch = _branch(arch) if arch.head_branches == "separate" else None
        self.score = nn.Conv2d(arch.head_width, classes, 1)
        self.box = nn.Conv2d(arch.head_width, 4 * arch.box_bins, 1)
        nn.init.constant_(cast(Tensor, self.score.bias), -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
        nn.init.zeros_(cast(Tensor, self.box.bias))

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Score logits (B, C, points) and box logits (B, 4 * K, points) of this level."""
        maps = self.branches(feature)
        return self.score(maps[0]).flatten(2), self.box(maps[-1]).flatten(2)

    def branches(self, feature: Tensor) -> list[Tensor]:
        """The maps that scores and boxes are predicted from: of two branches, or of the one that both share."""
        branches = (self.score_branch,) if self.box_branch is None else (self.score_branch, self.box_branch)
        return [branch(feature) for branch in branches]


class ResidualBlock(nn.Module):
    """Two units through half the width, added to the input."""

    def __init__(self, kind: BlockKind, width: int) -> None:
        super().__init__()
        hidden = max(8, width // 2)
        self.reduce = conv_unit(kind, width, hidden, 3)
        self.expand = conv_unit(kind, hidden, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as the input."""
        return cast(Tensor, x + self.expand(self.reduce(x)))


class GhostUnit(nn.Module):
    """Half the maps by a real convolution, the other half by a cheap depthwise one (GhostNet, arXiv:1911.11907, section 3.1)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        primary = (outputs + 1) // 2
        self.primary = _conv_norm_act(inputs, primary, kernel, stride)
        self.cheap = _conv_norm_act(primary, outputs - primary, 3, 1, groups=outputs - primary)

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, height, width)."""
        maps = self.primary(x)
        return torch.cat([maps, self.cheap(maps)], 1)


def conv_unit(kind: BlockKind, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """A convolution with normalisation and ReLU in the wanted kind; 1x1 convolutions are always dense."""
    if kind == "dense" or kernel == 1:
        return _conv_norm_act(inputs, outputs, kernel, stride)
    if kind == "ghost":
        return GhostUnit(inputs, outputs, kernel, stride)
    # Nothing between the two, as in Xception (arXiv:1610.02357, section 4.7): with a normalisation and a ReLU there, as in
    # MobileNet, twelve epochs from scratch ended at a fifth of the mAP (docs/log.md).
    return nn.Sequential(_conv(inputs, inputs, kernel, stride, groups=inputs), _conv_norm_act(inputs, outputs, 1, 1))


def prediction_points(input_size: tuple[int, int], levels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) as x, y and strides (N, 1), both in pixels, level by level, row by row."""
    centres, strides = [], []
    for stride_px in levels:
        height, width = input_size[0] // stride_px, input_size[1] // stride_px
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride_px)
        strides.append(torch.full((height * width, 1), float(stride_px)))
    return torch.cat(centres).float(), torch.cat(strides)


def _stages(arch: Architecture) -> list[nn.Module]:
    stages: list[nn.Module] = []
    width_before = arch.stem_width
    for number, (width, depth) in enumerate(zip(arch.stage_widths, arch.stage_depths, strict=True)):
        blocks: list[nn.Module] = [ResidualBlock(arch.backbone_block, width) for _ in range(depth)]
        if number > 0 or arch.stem_stride < FIRST_STAGE_STRIDE:
            blocks = [conv_unit(arch.backbone_block, width_before, width, 3, 2), *blocks]
        stages.append(nn.Sequential(*blocks))
        width_before = width
    return stages


def _branch(arch: Architecture) -> nn.Sequential:
    widths = [arch.neck_width] + [arch.head_width] * arch.head_depth
    return nn.Sequential(*(conv_unit(arch.head_block, a, b, 3) for a, b in itertools.pairwise(widths)))


def _conv_norm_act(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    padding = 0 if kernel == stride else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    # He et al. (arXiv:1502.01852). Torch's default is smaller, and under a normalisation smaller weights mean larger steps: with
    # it, training on ten classes found the boxes and stayed at chance with the classes for a thousand steps.
    nn.init.normal_(conv.weight, std=math.sqrt(2 * groups / (kernel * kernel * outputs)))
    return conv
