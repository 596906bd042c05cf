"""Operators of the YOLO detectors that YOLOBench measured, generated from each family's published architecture.

YOLOBench (arXiv 2307.13901; github.com/Deeplite/deeplite-torch-zoo results/yolobench) scales the depth and width of six families,
gives them all YOLOv8's head with 80 classes, and measures each at 11 resolutions. A name such as `yolo5d67w25_320` is YOLOv5 with
depth 0.67 and width 0.25 at 320 x 320. With their own published heads, the same backbones and necks have the published parameters
and multiply-adds; tests/studies/profiles compares them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from hardware_profiles.estimate.model import Operator
from studies.profiles.layers import Activation, Sketch, Tensor
from studies.profiles.yolo_blocks import (
    DFL_BINS,
    anchor_head,
    bep_c3,
    bi_fusion,
    bottleneck,
    c2f,
    c3,
    csp,
    csp2,
    efficient_head,
    elan,
    pooled_or_strided,
    rep_block,
    spp_csp,
    sppf,
    v8_head,
)

Head = Literal["yolobench", "published"]
"""YOLOBench's decodes to boxes inside the graph; the published ones are counted up to their last convolutions."""
Levels = tuple[Tensor, Tensor, Tensor]
CLASSES = 80
NAME = re.compile(r"yolo(?P<family>[345678])(?P<variant>[sml](?=-))?-?(?P<scale>[a-z0-9]+)_(?P<side>\d+)")
SCALES = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.0, 1.25)}
DEPTHS, WIDTHS = {"33": 0.33, "6": 0.6, "67": 0.67, "1": 1.0}, {"25": 0.25, "5": 0.5, "75": 0.75, "1": 1.0}
V8_MOST_CHANNELS = {0.33: 1024, 0.67: 768, 1.0: 512}
"""YOLOv8 caps its channels by depth before it scales them (ultralytics cfg/models/v8/yolov8.yaml, max_channels)."""


@dataclass(frozen=True)
class YoloName:
    """What a YOLOBench name says."""

    family: int
    variant: str
    """YOLOv6's s, m or l architecture; empty for the other families."""
    depth: float
    width: float
    side_px: int

    @property
    def architecture(self) -> str:
        """Everything but the resolution."""
        return f"YOLOv{self.family}{self.variant} depth {self.depth:g} width {self.width:g}"


@dataclass(frozen=True)
class Graph:
    """One detector: its operators in order, and its parameters as publications count them."""

    operators: tuple[Operator, ...]
    parameters: int

    @property
    def gflops(self) -> float:
        """Two operations per multiply-add, in 1e9."""
        return 2 * sum(operator.macs for operator in self.operators) / 1e9


def parse_name(name: str) -> YoloName:
    """What the name says; ValueError where it is none of YOLOBench's."""
    found = NAME.fullmatch(name)
    if not found:
        raise ValueError(f"{name!r} is no YOLOBench name; they look like yolo5n_320, yolo5d67w25_320 or yolo6m-d33w25_320")
    scale = found["scale"]
    own = re.fullmatch(r"d(\d+)w(\d+)", scale)
    depth, width = (DEPTHS[own[1]], WIDTHS[own[2]]) if own else SCALES[scale]
    return YoloName(int(found["family"]), found["variant"] or "", depth, width, int(found["side"]))


@lru_cache(maxsize=4096)
def yolo_graph(name: YoloName, fused_silu: bool, head: Head = "yolobench") -> Graph:
    """The detector of that name with YOLOBench's head, or with the one its family was published with."""
    s = Sketch(fused_silu)
    scale = Scale(name.depth, name.width, V8_MOST_CHANNELS[name.depth] if name.family == 8 else 1024)
    picture = Tensor(3, name.side_px, name.side_px)
    levels = _yolo6(s, picture, scale, name.variant) if name.family == 6 else FAMILIES[name.family](s, picture, scale)
    if head == "yolobench" or name.family == 8:
        v8_head(s, levels, CLASSES, decoded=head == "yolobench")
    elif name.family == 6:
        efficient_head(s, levels, CLASSES, 1 if name.variant == "s" else DFL_BINS + 1)
    else:
        anchor_head(s, levels, CLASSES)
    return Graph(tuple(s.operators), s.parameters)


@dataclass(frozen=True)
class Scale:
    """Depth and width multiples, and the cap on channels before scaling."""

    depth: float
    width: float
    most_channels: int = 1024

    def c(self, channels: int) -> int:
        """Scaled channels, a multiple of 8."""
        return -(-int(min(channels, self.most_channels) * self.width) // 8) * 8

    def n(self, repeats: int) -> int:
        """Scaled repeats, at least one."""
        return max(round(repeats * self.depth), 1) if repeats > 1 else repeats


def _yolo3(s: Sketch, x: Tensor, k: Scale) -> Levels:
    """Darknet-53 and its pyramid (ultralytics/yolov3 models/yolov3.yaml)."""
    x = s.conv(x, k.c(32), 3)
    kept = []
    for channels, repeats in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        x = s.conv(x, k.c(channels), 3, stride=2)
        for _ in range(k.n(repeats)):
            x = bottleneck(s, x, k.c(channels), share=0.5)
        kept.append(x)
    x = bottleneck(s, x, k.c(1024), shortcut=False, share=0.5)
    x = s.conv(s.conv(s.conv(x, k.c(512)), k.c(1024), 3), k.c(512))
    large = s.conv(x, k.c(1024), 3)
    x = s.concat(s.upsample(s.conv(x, k.c(256))), kept[3])
    for _ in range(2):
        x = bottleneck(s, x, k.c(512), shortcut=False, share=0.5)
    x = s.conv(x, k.c(256))
    medium = s.conv(x, k.c(512), 3)
    x = s.concat(s.upsample(s.conv(x, k.c(128))), kept[2])
    for _ in range(1 + k.n(2)):
        x = bottleneck(s, x, k.c(256), shortcut=False, share=0.5)
    return x, medium, large


def _yolo4(s: Sketch, x: Tensor, k: Scale) -> Levels:
    """YOLOv4-CSP (WongKinYiu/PyTorch_YOLOv4, branch u5, models/yolov4l-mish.yaml, with SiLU)."""
    x = bottleneck(s, s.conv(s.conv(x, k.c(32), 3), k.c(64), 3, stride=2), k.c(64), share=0.5)
    kept = []
    for channels, repeats in ((128, 2), (256, 8), (512, 8), (1024, 4)):
        x = csp(s, s.conv(x, k.c(channels), 3, stride=2), k.c(channels), k.n(repeats))
        kept.append(x)
    top = spp_csp(s, x, k.c(512), normalised=True)
    x = s.concat(s.conv(kept[2], k.c(256)), s.upsample(s.conv(top, k.c(256))))
    middle = csp2(s, x, k.c(256), k.n(2))
    x = s.concat(s.conv(kept[1], k.c(128)), s.upsample(s.conv(middle, k.c(128))))
    x = csp2(s, x, k.c(128), k.n(2))
    small = s.conv(x, k.c(256), 3)
    x = csp2(s, s.concat(s.conv(x, k.c(256), 3, stride=2), middle), k.c(256), k.n(2))
    medium = s.conv(x, k.c(512), 3)
    x = csp2(s, s.concat(s.conv(x, k.c(512), 3, stride=2), top), k.c(512), k.n(2))
    return small, medium, s.conv(x, k.c(1024), 3)


def _yolo5(s: Sketch, x: Tensor, k: Scale) -> Levels:
    """YOLOv5 6.0 (ultralytics/yolov5 models/yolov5l.yaml)."""
    x = s.conv(x, k.c(64), 6, stride=2)
    kept = []
    for channels, repeats in ((128, 3), (256, 6), (512, 9), (1024, 3)):
        x = c3(s, s.conv(x, k.c(channels), 3, stride=2), k.c(channels), k.n(repeats))
        kept.append(x)
    top = s.conv(sppf(s, x, k.c(1024)), k.c(512))
    middle = s.conv(c3(s, s.concat(s.upsample(top), kept[2]), k.c(512), k.n(3), shortcut=False), k.c(256))
    small = c3(s, s.concat(s.upsample(middle), kept[1]), k.c(256), k.n(3), shortcut=False)
    medium = c3(s, s.concat(s.conv(small, k.c(256), 3, stride=2), middle), k.c(512), k.n(3), shortcut=False)
    return small, medium, c3(s, s.concat(s.conv(medium, k.c(512), 3, stride=2), top), k.c(1024), k.n(3), shortcut=False)


def _yolo6(s: Sketch, x: Tensor, k: Scale, variant: str) -> Levels:
    """YOLOv6 3.0: RepVGG rows (s), or cross-stage blocks with ReLU (m) or SiLU (l) (meituan/YOLOv6 configs, models/reppan.py)."""
    share = {"m": 2 / 3, "l": 1 / 2}.get(variant, 0.0)
    activation: Activation = "silu" if variant == "l" else "relu"

    def stage(y: Tensor, channels: int, repeats: int) -> Tensor:
        if variant == "s":
            return rep_block(s, y, k.c(channels), k.n(repeats))
        return bep_c3(s, y, k.c(channels), k.n(repeats), share, activation)

    x = s.conv(x, k.c(64), 3, stride=2, activation=activation)
    kept = []
    for channels, repeats in ((128, 6), (256, 12), (512, 18), (1024, 6)):
        x = stage(s.conv(x, k.c(channels), 3, stride=2, activation=activation), channels, repeats)
        kept.append(x)
    if variant == "s":
        x = spp_csp(s, x, k.c(1024), normalised=False, activation="relu", share=0.5)
    else:
        x = sppf(s, x, k.c(1024), activation)
    top = s.conv(x, k.c(256), activation="relu")
    x = stage(bi_fusion(s, top, kept[2], kept[1], k.c(256)), 256, 12)
    middle = s.conv(x, k.c(128), activation="relu")
    small = stage(bi_fusion(s, middle, kept[1], kept[0], k.c(128)), 128, 12)
    medium = stage(s.concat(s.conv(small, k.c(128), 3, stride=2, activation="relu"), middle), 256, 12)
    return small, medium, stage(s.concat(s.conv(medium, k.c(256), 3, stride=2, activation="relu"), top), 512, 12)


def _yolo7(s: Sketch, x: Tensor, k: Scale) -> Levels:
    """YOLOv7 once its RepConv are deployed; it has no repeats to scale (WongKinYiu/yolov7 cfg/deploy/yolov7.yaml)."""
    x = s.conv(s.conv(s.conv(x, k.c(32), 3), k.c(64), 3, stride=2), k.c(64), 3)
    x = elan(s, s.conv(x, k.c(128), 3, stride=2), k.c(64), k.c(256), k.c(64), all_kept=False)
    kept = []
    for step, hidden, channels in ((128, 128, 512), (256, 256, 1024), (512, 256, 1024)):
        x = elan(s, pooled_or_strided(s, x, k.c(step)), k.c(hidden), k.c(channels), k.c(hidden), all_kept=False)
        kept.append(x)
    top = spp_csp(s, x, k.c(512), normalised=False)
    x = s.concat(s.conv(kept[1], k.c(256)), s.upsample(s.conv(top, k.c(256))))
    middle = elan(s, x, k.c(256), k.c(256), k.c(128), all_kept=True)
    x = s.concat(s.conv(kept[0], k.c(128)), s.upsample(s.conv(middle, k.c(128))))
    small = elan(s, x, k.c(128), k.c(128), k.c(64), all_kept=True)
    medium = elan(s, pooled_or_strided(s, small, k.c(128), middle), k.c(256), k.c(256), k.c(128), all_kept=True)
    large = elan(s, pooled_or_strided(s, medium, k.c(256), top), k.c(512), k.c(512), k.c(256), all_kept=True)
    return s.conv(small, k.c(256), 3), s.conv(medium, k.c(512), 3), s.conv(large, k.c(1024), 3)


def _yolo8(s: Sketch, x: Tensor, k: Scale) -> Levels:
    """YOLOv8 (ultralytics/ultralytics cfg/models/v8/yolov8.yaml)."""
    x = s.conv(x, k.c(64), 3, stride=2)
    kept = []
    for channels, repeats in ((128, 3), (256, 6), (512, 6), (1024, 3)):
        x = c2f(s, s.conv(x, k.c(channels), 3, stride=2), k.c(channels), k.n(repeats), shortcut=True)
        kept.append(x)
    top = sppf(s, x, k.c(1024))
    middle = c2f(s, s.concat(s.upsample(top), kept[2]), k.c(512), k.n(3))
    small = c2f(s, s.concat(s.upsample(middle), kept[1]), k.c(256), k.n(3))
    medium = c2f(s, s.concat(s.conv(small, k.c(256), 3, stride=2), middle), k.c(512), k.n(3))
    return small, medium, c2f(s, s.concat(s.conv(medium, k.c(512), 3, stride=2), top), k.c(1024), k.n(3))


FAMILIES: dict[int, Callable[[Sketch, Tensor, Scale], Levels]] = {3: _yolo3, 4: _yolo4, 5: _yolo5, 7: _yolo7, 8: _yolo8}
