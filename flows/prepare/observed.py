"""What is noted of every picture while it is prepared, and the data card made of it. Memory grows by bytes a picture and a box."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from detection.boxes import fit_of
from detection.data.dataset import Split
from detection.data.labelled import Picture
from detection.data.pixel_files import Pixels
from detection.data.sources import Data
from detection.frozen import printable
from flows.prepare.card import (
    CLIPPED_PX,
    DOUBLED_IOU,
    HUGE_SHARE,
    MEANING,
    TINY_PX,
    BoxSizes,
    DataCard,
    Finding,
    Kind,
    SplitCounts,
)
from flows.prepare.repeats import Seen

EXAMPLES = 10
STRIDES_PX = (8, 16, 32)
"""Of our family's three levels; the coarsest divides every input size."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
FEW, LARGE_PX, MOST_GROWTH = 0.05, 32, 4.0
"""Share of boxes below the finest stride that asks for a larger input; the side of which the finest level is not needed; and how
often a longer side is advised, which is 16 times the work."""
ROWS = 256
"""Boxes that are compared with all of their picture at once."""


class Observed:
    """Pictures and boxes as they come; `card` at the end."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self._seen = Seen()
        self._sides_px, self._scales = array("f"), array("f")
        self._counts: Counter[Kind] = Counter()
        self._examples: dict[Kind, list[str]] = defaultdict(list)

    def add(self, split: Split, picture: Picture, kept: NDArray[np.bool_], pixels: NDArray[np.uint8]) -> None:
        """Take the next picture of a split, which of its boxes were kept (n,), and its pixels in the input (height, width, 3)."""
        fit = fit_of(picture.size, self.data.input_size, self.data.resize)
        where = f"{shown(picture.file_name)} ({split})"
        self._seen.add(split, where, pixels, fit)
        self._scales.append(max(fit.scale_y, fit.scale_x))
        height_px, width_px = picture.size
        inside = picture.boxes_xyxy_px.clip(0, [width_px, height_px, width_px, height_px])
        over_px = np.abs(picture.boxes_xyxy_px - inside).max(1, initial=0.0)
        counted = kept & ~picture.crowd
        boxes, labels = inside[counted], picture.labels[counted]
        sizes_px = boxes[:, 2:] - boxes[:, :2]  # (n, 2), width and height
        sides_px = (sizes_px * (fit.scale_x, fit.scale_y)).min(1, initial=math.inf)
        self._sides_px.extend(sides_px.tolist())
        self._note("outside", int((~kept).sum()), where)
        self._note("clipped", int((kept & (over_px > CLIPPED_PX)).sum()), where)
        self._note("tiny", int((sides_px < TINY_PX).sum()), where)
        self._note("huge", int((sizes_px.prod(1) > HUGE_SHARE * height_px * width_px).sum()), where)
        self._note("doubled", doubled(boxes, labels), where)

    def card(self, counts: Mapping[Split, SplitCounts], packed: Mapping[Split, Pixels]) -> DataCard:
        """The card of all pictures so far, whose pixels `packed` holds."""
        for own in self._seen.repeats(packed):
            self._note("equal" if own.equal else "alike", 1, f"{own.picture} = {own.earlier}")
        for name, boxes in counts["train"].boxes_per_class.items():
            self._note("unlearnable", int(not boxes), name)
        found = [Finding(kind=kind, count=self._counts[kind], examples=tuple(self._examples[kind])) for kind in MEANING]
        return DataCard(
            name=self.data.name,
            input_size=self.data.input_size,
            splits=dict(counts),
            sizes=box_sizes(np.frombuffer(self._sides_px, np.float32), self.data.input_size, float(np.median(self._scales))),
            findings=tuple(own for own in found if own.count),
        )

    def _note(self, kind: Kind, count: int, example: str) -> None:
        if count:
            self._counts[kind] += count
            if len(self._examples[kind]) < EXAMPLES:
                self._examples[kind].append(example)


def doubled(boxes_xyxy_px: NDArray[np.float64], labels: NDArray[np.int64]) -> int:
    """How many of these boxes (n, 4) with labels (n,) nearly cover an earlier one of their class."""
    if len(boxes_xyxy_px) < 2:
        return 0
    area_px2 = (boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]).prod(1)
    count = 0
    for start in range(0, len(labels), ROWS):
        rows = slice(start, start + ROWS)
        own, every = boxes_xyxy_px[rows, None], boxes_xyxy_px
        overlap_px = np.minimum(own[..., 2:], every[:, 2:]) - np.maximum(own[..., :2], every[:, :2])  # (rows, n, 2)
        overlap_px2 = overlap_px.clip(0).prod(-1)
        union_px2 = area_px2[rows, None] + area_px2 - overlap_px2
        same = (overlap_px2 > DOUBLED_IOU * union_px2) & (labels[rows, None] == labels)  # (rows, n)
        count += int(np.tril(same, start - 1).any(1).sum())
    return count


def box_sizes(sides_px: NDArray[np.float32], input_size: tuple[int, int], scale: float) -> BoxSizes:
    """Shorter sides (n,) in the input against the strides. Scale is that of the median picture into its input."""
    return BoxSizes(
        percentiles_px={own: round(float(np.percentile(sides_px, own)), 2) for own in PERCENTILES},
        share_below={limit: round(float((sides_px < limit).mean()), 4) for limit in (4, *STRIDES_PX)},
        advice=_advice(sides_px, input_size, scale),
    )


def _advice(sides_px: NDArray[np.float32], input_size: tuple[int, int], scale: float) -> str:
    finest, coarsest = STRIDES_PX[0], STRIDES_PX[-1]
    small_px = float(np.percentile(sides_px, 100 * FEW))
    share = float((sides_px < finest).mean())
    if small_px >= LARGE_PX:
        return f"Nearly all boxes are at least {LARGE_PX} px wide: a smaller input_size would be faster and may do."
    if share <= FEW:
        return "The input_size is large enough for nearly all boxes."
    growth = min(finest / small_px, 1 / scale, MOST_GROWTH)
    larger = tuple(math.ceil(side * growth / coarsest) * coarsest for side in input_size)
    small = f"{share:.0%} of the boxes are narrower than the finest stride ({finest} px)"
    if growth <= 1 or larger == input_size:
        return f"{small}; a larger input_size would show no more, as the pictures themselves have no more pixels."
    grown = min(larger[0] / input_size[0], larger[1] / input_size[1])
    work = math.prod(larger) / math.prod(input_size)
    return (
        f"{small}; with input_size {list(larger)} it would be {float((sides_px * grown < finest).mean()):.0%}, "
        f"for {work:.1f} times the work."
    )


def shown(name: str) -> str:
    """A file name as a terminal and a page may have it: line breaks, control characters and foreign bytes are escaped."""
    return "".join(own if own.isprintable() else own.encode("unicode_escape").decode() for own in printable(name))
