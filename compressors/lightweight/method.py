"""lightweight: the same detector rebuilt from light blocks, to be trained from scratch or from the weights of the dense blocks.

`weights` carries them over.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ValidationError, model_validator

from compressors.contract import Change, Phase, Settings, Spent, Workbench, describe
from compressors.lightweight.inherit import inherited
from compressors.unused_settings import refuse_idle
from detection.checkpoint import Detector, fresh
from detection.compact.blueprint import Architecture, BlockKind, Blueprint
from detection.frozen import InputError, PositiveInt

PARTS = ("backbone", "neck", "head")


class Lightweight(Settings):
    """Which blocks, and where."""

    phase: ClassVar[Phase] = "architecture"
    method: Literal["lightweight"] = "lightweight"
    block: Literal["depthwise", "ghost"] = "depthwise"
    """`depthwise`: MobileNet's depthwise-separable pair (arXiv:1704.04861); `ghost`: GhostNet's cheap maps (arXiv:1911.11907)."""
    backbone: bool = True
    neck: bool = True
    head: bool = True
    weights: Literal["fresh", "inherited"] = "fresh"
    """`inherited`: light blocks begin as the nearest to the trained dense ones, everything else as it was. What the given detector
    was trained for comes on top of the cell's own epochs."""
    inheritance_pictures: PositiveInt = 48
    """Training pictures on which `inherited` looks at what the dense blocks see."""

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> Lightweight:
        refuse_idle(self, {} if self.weights == "inherited" else {"inheritance_pictures": "with weights inherited"})
        return self

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        parts = [part for part in PARTS if getattr(self, part)]
        where = [] if len(parts) == len(PARTS) else parts or ["nothing"]
        return "-".join([self.block, *where, *([self.weights] if self.weights != "fresh" else [])])

    def search_images(self, train_pictures: int, _val_pictures: int) -> int:
        """Pictures that go through the given detector before any training."""
        return min(self.inheritance_pictures, train_pictures) if self.weights == "inherited" else 0


def rebuild(detector: Detector, config: Lightweight, workbench: Workbench) -> tuple[Detector, Change]:
    """The detector from light blocks and what changed. 1x1 convolutions and the stem stay dense."""
    before, after = detector.blueprint, light_blueprint(detector.blueprint, config)
    parts = [name for name in PARTS if getattr(config, name)]
    summary = f"{config.block} blocks in {', '.join(parts) or 'nothing'}"
    rebuilt = fresh(after, workbench.seed)
    if config.weights == "fresh":
        return rebuilt, describe("lightweight", summary, before, after, {"parts": parts})
    own = inherited(detector, rebuilt, workbench, config.inheritance_pictures)
    details, spent = {"parts": parts, "fitted_units": own.units}, Spent(search_images=own.images)
    return own.detector, describe("lightweight", f"{summary}, weights inherited", before, after, details, spent)


def light_blueprint(before: Blueprint, config: Lightweight) -> Blueprint:
    """The blueprint with light blocks in the chosen parts; InputError where they cannot be had."""
    if before.edits:
        raise InputError("lightweight: rebuilds an unedited architecture, so it comes before pruning and low_rank.")

    def kind(chosen: bool, now: BlockKind) -> BlockKind:
        return config.block if chosen else now

    own = before.architecture
    wanted = own.model_dump() | {
        "backbone_block": kind(config.backbone, own.backbone_block),
        "neck_block": kind(config.neck, own.neck_block),
        "head_block": kind(config.head, own.head_block),
    }
    try:
        return before.model_copy(update={"architecture": Architecture(**wanted)})
    except ValidationError as error:
        raise InputError(f"lightweight.block: {config.block}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from error
