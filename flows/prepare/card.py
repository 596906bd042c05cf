"""The data card, `card.json`: what prepared data holds, how large its boxes are to the network, and what to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from detection.data.dataset import Split
from detection.frozen import Frozen, read_json

CARD = "card.json"
SHOWN = 3
"""File names in a printed line; the card has more."""
TINY_PX, HUGE_SHARE, DOUBLED_IOU, CLIPPED_PX = 2.0, 0.95, 0.95, 1.0
Kind = Literal["equal", "alike", "unlearnable", "doubled", "outside", "tiny", "huge", "clipped"]
MEANING: dict[Kind, str] = {
    "equal": "pictures in two splits (equal pixels in the input; remove them from one, or the test repeats the training)",
    "alike": "pictures that look like one in an earlier split (saved again, or of one scene? a picture belongs to one split)",
    "unlearnable": "classes without a box in train (a training cannot learn them)",
    "doubled": f"boxes drawn twice (same class, IoU above {DOUBLED_IOU})",
    "outside": "boxes without area inside their picture (dropped)",
    "tiny": f"boxes narrower than {TINY_PX:g} px in the input (hardly to be seen)",
    "huge": f"boxes over more than {HUGE_SHARE:.0%} of their picture",
    "clipped": f"boxes over the border by more than {CLIPPED_PX:g} px (cut there)",
}
"""What may be wrong, gravest first."""


class SplitCounts(Frozen):
    """What one split holds."""

    pictures: int
    background: int
    """Pictures without any box."""
    boxes: int
    crowds: int
    """Boxes that are neither learned from nor counted against a detector."""
    clipped: int
    """Cut at the border, however little."""
    dropped: int
    boxes_per_class: dict[str, int]
    """Without crowds, in the order of the classes."""


class BoxSizes(Frozen):
    """Shorter sides of all boxes in pixels of the network's input."""

    percentiles_px: dict[int, float]
    share_below: dict[int, float]
    """Pixels -> share of the boxes that are narrower: 4, and the strides of our family's three levels."""
    advice: str
    """One sentence on `input_size`."""


class Finding(Frozen):
    """One kind of what may be wrong."""

    kind: Kind
    count: int
    examples: tuple[str, ...]
    """Files with their splits, or classes; the first ones."""

    @property
    def meaning(self) -> str:
        """What was counted, in words."""
        return MEANING[self.kind]


class DataCard(Frozen):
    """`card.json` in a prepared folder. File names are printable: line breaks and control characters are escaped."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    name: str
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    splits: dict[Split, SplitCounts]
    sizes: BoxSizes
    findings: tuple[Finding, ...]
    """Gravest first; empty where all is well."""

    def lines(self) -> Iterator[str]:
        """The card for a terminal: first what needs attention, then sizes and counts."""
        if not self.findings:
            yield "data card: no picture in two splits, no suspicious label"
        for own in self.findings:
            more = ", ..." if len(own.examples) > SHOWN else ""
            yield f"look at {own.meaning}: {own.count:,}, {', '.join(own.examples[:SHOWN])}{more}"
        yield self.size_line
        for split, counts in self.splits.items():
            yield f"{split}: {count_line(counts)}"

    @property
    def size_line(self) -> str:
        """Sizes of boxes against the strides, and what to do."""
        side, below = self.sizes.percentiles_px, self.sizes.share_below
        shares = ", ".join(f"{share:.0%} below {pixels} px" for pixels, share in below.items())
        height_px, width_px = self.input_size
        return (
            f"shorter sides of boxes in the input of {height_px} x {width_px}: {side[5]:.0f} to {side[95]:.0f} px "
            f"(5 % to 95 %), median {side[50]:.0f}; {shares}. {self.sizes.advice}"
        )


def count_line(counts: SplitCounts) -> str:
    """What a split holds, in one line."""
    per_class = ", ".join(f"{name} {count:,}" for name, count in counts.boxes_per_class.items())
    return (
        f"{counts.pictures:,} pictures, {counts.boxes:,} boxes ({per_class}); {counts.clipped:,} clipped at the border, "
        f"{counts.dropped:,} dropped (no area inside the picture), {counts.crowds:,} crowds; "
        f"{counts.background:,} pictures without boxes"
    )


def read_card(folder: Path) -> DataCard | None:
    """The card of a prepared folder; None where an older version prepared it."""
    path = folder / CARD
    return read_json(path, DataCard, "Run `sixfold prepare` again.") if path.is_file() else None
