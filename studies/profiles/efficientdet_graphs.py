"""Operators of the EfficientDet-Lite detectors (github.com/google/automl, efficientdet/hparams_config.py and efficientnet_lite).

They are the only depthwise networks among the published times whose operators we know, and the only ones in int8 on processors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studies.profiles.layers import Sketch, Tensor
from studies.profiles.yolo_graphs import Graph

CLASSES, ANCHORS = 90, 9


@dataclass(frozen=True)
class Lite:
    """What distinguishes the sizes."""

    width: float
    depth: float
    side_px: int
    neck_channels: int
    neck_cells: int
    head_repeats: int


SIZES = {
    "efficientdet-lite0": Lite(1.0, 1.0, 320, 64, 3, 3),
    "efficientdet-lite1": Lite(1.0, 1.1, 384, 88, 4, 3),
    "efficientdet-lite2": Lite(1.1, 1.2, 448, 112, 5, 3),
    "efficientdet-lite3": Lite(1.2, 1.4, 512, 160, 6, 4),
    "efficientdet-lite3x": Lite(1.2, 1.4, 640, 200, 6, 4),
    "efficientdet-lite4": Lite(1.4, 1.8, 640, 224, 7, 4),
}
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""EfficientNet's stages: repeats, kernel, stride, expansion, channels."""


def efficientdet_graph(name: str) -> Graph:
    """The named detector at its own resolution, up to the last convolutions; ReLU6 is fused everywhere."""
    lite, s = SIZES[name], Sketch(fused_silu=True)
    levels = _backbone(s, lite)
    levels.append(s.pool(s.conv(levels[-1], lite.neck_channels, activation="none"), stride=2))
    levels.append(s.pool(levels[-1], stride=2))
    for _ in range(lite.neck_cells):
        levels = _neck_cell(s, levels, lite.neck_channels)
    for outputs in (ANCHORS * CLASSES, ANCHORS * 4):
        _head(s, levels, outputs, lite.head_repeats)
    return Graph(tuple(s.operators), s.parameters)


def _backbone(s: Sketch, lite: Lite) -> list[Tensor]:
    """EfficientNet-Lite without its classifier; stem and repeats of the first and last stage are not scaled."""
    x = s.conv(Tensor(3, lite.side_px, lite.side_px), 32, 3, stride=2, activation="relu")
    kept = []
    for index, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        count = repeats if index in (0, len(STAGES) - 1) else math.ceil(repeats * lite.depth)
        for block in range(count):
            x = _inverted_residual(s, x, _rounded(channels * lite.width), kernel, stride if block == 0 else 1, expansion)
        if index in (2, 4, 6):
            kept.append(x)
    return kept


def _rounded(channels: float) -> int:
    """To a multiple of 8, losing at most a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _inverted_residual(s: Sketch, x: Tensor, channels: int, kernel: int, stride: int, expansion: int) -> Tensor:
    y = s.conv(x, x.channels * expansion, activation="relu") if expansion > 1 else x
    y = s.conv(s.depthwise(y, kernel, stride), channels, activation="none")
    return s.add(y) if stride == 1 and channels == x.channels else y


def _neck_cell(s: Sketch, levels: Sequence[Tensor], channels: int) -> list[Tensor]:
    """BiFPN: down from the coarsest level, then up again, each node a sum and a separable convolution (arXiv 1911.09070, 3.2)."""

    def narrow(x: Tensor) -> Tensor:
        return x if x.channels == channels else s.conv(x, channels, activation="none")

    top_down = [narrow(levels[-1])]
    for level in reversed(levels[:-1]):
        own = narrow(level)
        s.upsample(top_down[-1])
        top_down.append(_separable(s, s.add(own), channels))
    top_down.reverse()
    outputs = [top_down[0]]
    for level, middle in zip(levels[1:], top_down[1:], strict=True):
        s.pool(outputs[-1], stride=2)
        own = narrow(level)
        s.add(own)
        if level is not levels[-1]:
            s.add(middle)
        outputs.append(_separable(s, own, channels))
    return outputs


def _separable(s: Sketch, x: Tensor, channels: int) -> Tensor:
    return s.conv(s.depthwise(x), channels, activation="none")


def _head(s: Sketch, levels: Sequence[Tensor], outputs: int, repeats: int) -> None:
    """One net for all levels: its weights count once, its normalisations per level."""
    for index, x in enumerate(levels):
        before, y = s.parameters, x
        for _ in range(repeats):
            y = _separable(s, y, x.channels)
        s.plain_conv(s.depthwise(y), outputs)
        if index:
            s.parameters = before + repeats * 2 * x.channels
