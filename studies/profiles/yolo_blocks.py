"""The blocks that YOLO detectors are built of, and their heads, as operators. Structure as published; each says where."""

from __future__ import annotations

from collections.abc import Sequence

from studies.profiles.layers import Activation, Sketch, Tensor

DFL_BINS = 16
"""Bins per box side in YOLOv8's head and in YOLOv6 M and L."""


def bottleneck(
    s: Sketch, x: Tensor, channels: int, shortcut: bool = True, kernels: tuple[int, int] = (1, 3), share: float = 1.0
) -> Tensor:
    """Two convolutions and, where the shapes allow it, the input added (Darknet-53; ultralytics/yolov5 models/common.py)."""
    y = s.conv(s.conv(x, int(channels * share), kernels[0]), channels, kernels[1])
    return s.add(y) if shortcut and x.channels == channels else y


def c3(s: Sketch, x: Tensor, channels: int, repeats: int, shortcut: bool = True) -> Tensor:
    """Cross-stage block of YOLOv5: one half through bottlenecks, one half past them (ultralytics/yolov5 models/common.py)."""
    half = channels // 2
    y = s.conv(x, half)
    for _ in range(repeats):
        y = bottleneck(s, y, half, shortcut)
    return s.conv(s.concat(y, s.conv(x, half)), channels)


def c2f(s: Sketch, x: Tensor, channels: int, repeats: int, shortcut: bool = False) -> Tensor:
    """Cross-stage block of YOLOv8: every bottleneck's result is kept (ultralytics/ultralytics nn/modules/block.py)."""
    half = channels // 2
    y = s.conv(x, 2 * half)
    part = Tensor(half, y.height, y.width)
    parts = [s.move("Split", [y], y), *(bottleneck(s, part, half, shortcut, kernels=(3, 3)) for _ in range(repeats))]
    return s.conv(s.concat(*parts), channels)


def csp(s: Sketch, x: Tensor, channels: int, repeats: int) -> Tensor:
    """Cross-stage block of YOLOv4-CSP's backbone (WongKinYiu/PyTorch_YOLOv4 models/common.py, BottleneckCSP)."""
    half = channels // 2
    y = s.conv(x, half)
    for _ in range(repeats):
        y = bottleneck(s, y, half)
    y = s.plain_conv(y, half, bias=False)
    return s.conv(s.normalise(s.concat(y, s.plain_conv(x, half, bias=False))), channels)


def csp2(s: Sketch, x: Tensor, channels: int, repeats: int) -> Tensor:
    """Cross-stage block of YOLOv4-CSP's neck (the same file, BottleneckCSP2)."""
    y = first = s.conv(x, channels)
    for _ in range(repeats):
        y = bottleneck(s, y, channels, shortcut=False)
    return s.conv(s.normalise(s.concat(y, s.plain_conv(first, channels, bias=False))), channels)


def sppf(s: Sketch, x: Tensor, channels: int, activation: Activation = "silu") -> Tensor:
    """Pyramid of three poolings in a row (ultralytics/yolov5 models/common.py)."""
    y = s.conv(x, x.channels // 2, activation=activation)
    return s.conv(s.concat(*_pyramid(s, y)), channels, activation=activation)


def spp_csp(s: Sketch, x: Tensor, channels: int, normalised: bool, activation: Activation = "silu", share: float = 1.0) -> Tensor:
    """Pyramid of poolings inside a cross-stage block: YOLOv4-CSP (normalised after the concatenation), YOLOv7, YOLOv6 N and S."""
    hidden = int(channels * share)
    y = s.conv(s.conv(s.conv(x, hidden, activation=activation), hidden, 3, activation=activation), hidden, activation=activation)
    y = s.conv(s.concat(*_pyramid(s, y)), hidden, activation=activation)
    y = s.conv(y, hidden, 3, activation=activation)
    past = s.plain_conv(x, hidden, bias=False) if normalised else s.conv(x, hidden, activation=activation)
    joined = s.concat(y, past)
    return s.conv(s.normalise(joined) if normalised else joined, channels, activation=activation)


def _pyramid(s: Sketch, x: Tensor) -> list[Tensor]:
    return [x, s.pool(x), s.pool(x), s.pool(x)]


def elan(s: Sketch, x: Tensor, hidden: int, channels: int, inner: int, all_kept: bool) -> Tensor:
    """Layer aggregation of YOLOv7: four 3x3 convolutions in a row, of which two or all are kept (arXiv 2207.02696, figure 2)."""
    first, y = s.conv(x, hidden), s.conv(x, hidden)
    parts = [first, y]
    for index in range(4):
        y = s.conv(y, inner, 3)
        if all_kept or index % 2:
            parts.append(y)
    return s.conv(s.concat(*parts), channels)


def pooled_or_strided(s: Sketch, x: Tensor, channels: int, *others: Tensor) -> Tensor:
    """YOLOv7's step down: half by pooling, half by a strided convolution, and what else joins there."""
    pooled = s.conv(s.pool(x, stride=2), channels)
    strided = s.conv(s.conv(x, channels), channels, 3, stride=2)
    return s.concat(strided, pooled, *others)


def rep_block(s: Sketch, x: Tensor, channels: int, repeats: int) -> Tensor:
    """YOLOv6's row of RepVGG blocks, each one 3x3 convolution with ReLU once deployed (meituan/YOLOv6 layers/common.py)."""
    for _ in range(repeats):
        x = s.conv(x, channels, 3, activation="relu")
    return x


def bep_c3(s: Sketch, x: Tensor, channels: int, repeats: int, share: float, activation: Activation) -> Tensor:
    """YOLOv6's cross-stage block over pairs of 3x3 convolutions with the input added (the same file, BepC3)."""
    hidden = int(channels * share)
    y = s.conv(x, hidden, activation=activation)
    for _ in range(max(1, repeats // 2)):
        y = s.conv(s.conv(y, hidden, 3, activation=activation), hidden, 3, activation=activation)
        y = s.add(s.move("Mul", [y], y))
    return s.conv(s.concat(y, s.conv(x, hidden, activation=activation)), channels, activation=activation)


def bi_fusion(s: Sketch, x: Tensor, same: Tensor, below: Tensor, channels: int) -> Tensor:
    """YOLOv6's joining of three neighbouring levels (the same file, BiFusion)."""
    down = s.conv(s.conv(below, channels, activation="relu"), channels, 3, stride=2, activation="relu")
    parts = (s.upsampling_conv(x), s.conv(same, channels, activation="relu"), down)
    return s.conv(s.concat(*parts), channels, activation="relu")


def v8_head(s: Sketch, levels: Sequence[Tensor], classes: int, decoded: bool) -> None:
    """Decoupled head with box distributions (ultralytics/ultralytics nn/modules/head.py), and the decoding to boxes if exported."""
    box_channels = max(16, levels[0].channels // 4, 4 * DFL_BINS)
    class_channels = max(levels[0].channels, classes)
    joined = []
    for x in levels:
        boxes = s.plain_conv(s.conv(s.conv(x, box_channels, 3), box_channels, 3), 4 * DFL_BINS)
        scores = s.plain_conv(s.conv(s.conv(x, class_channels, 3), class_channels, 3), classes)
        joined.append(s.concat(boxes, scores) if decoded else boxes)
    if decoded:
        _decode(s, levels, joined, classes)


def _decode(s: Sketch, levels: Sequence[Tensor], joined: Sequence[Tensor], classes: int) -> None:
    """From distributions to boxes: the levels behind one another, the expectation over the bins, corners, and sigmoids."""
    anchors = sum(x.height * x.width for x in levels)
    flat = Tensor(4 * DFL_BINS + classes, 1, anchors)
    s.move("Concat", joined, flat)
    boxes, scores, corners = Tensor(4 * DFL_BINS, 1, anchors), Tensor(classes, 1, anchors), Tensor(4, 1, anchors)
    s.move("Split", [flat], flat)
    s.move("Transpose", [boxes], boxes)
    s.move("Softmax", [boxes], boxes)
    trained = s.parameters  # the expectation over the bins is a convolution with fixed weights
    s.plain_conv(Tensor(DFL_BINS, 4, anchors), 1, bias=False)
    s.parameters = trained
    for op_type in ("Sub", "Add", "Div", "Sub", "Concat", "Mul"):
        s.move(op_type, [corners], corners)
    s.move("Sigmoid", [scores], scores)
    s.move("Concat", [corners, scores], Tensor(4 + classes, 1, anchors))


def anchor_head(s: Sketch, levels: Sequence[Tensor], classes: int) -> None:
    """One 1x1 convolution per level to three boxes with their scores: the published head of YOLOv3, v4-CSP, v5 and v7."""
    for x in levels:
        s.plain_conv(x, 3 * (classes + 5))


def efficient_head(s: Sketch, levels: Sequence[Tensor], classes: int, bins: int) -> None:
    """YOLOv6's published head: a 1x1 convolution, then one 3x3 convolution for classes and one for boxes (EffiDeHead)."""
    for x in levels:
        stem = s.conv(x, x.channels)
        s.plain_conv(s.conv(stem, x.channels, 3), classes)
        s.plain_conv(s.conv(stem, x.channels, 3), 4 * bins)
