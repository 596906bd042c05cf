"""lightweight: the same detector rebuilt from light blocks, to be trained from scratch."""

from __future__ import annotations

from typing import Literal

from compressors.contract import Change, Workbench, describe
from detection.blueprint import BlockKind
from detection.checkpoint import Detector, fresh
from detection.frozen import Frozen, InputError


class Lightweight(Frozen):
    """Which blocks, and where."""

    method: Literal["lightweight"] = "lightweight"
    block: Literal["depthwise", "ghost"] = "depthwise"
    """`depthwise`: MobileNet's depthwise-separable pair (arXiv:1704.04861); `ghost`: GhostNet's cheap maps (arXiv:1911.11907)."""
    backbone: bool = True
    neck: bool = True
    head: bool = True

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        return self.block


def rebuild(detector: Detector, config: Lightweight, workbench: Workbench) -> tuple[Detector, Change]:
    """The detector from light blocks with fresh weights, and what changed. 1x1 convolutions and the stem stay dense."""
    before = detector.blueprint
    if before.edits:
        raise InputError("lightweight: rebuilds an unedited architecture, so it comes before pruning and low_rank.")

    def kind(chosen: bool, now: BlockKind) -> BlockKind:
        return config.block if chosen else now

    architecture = before.architecture.model_copy(
        update={
            "backbone_block": kind(config.backbone, before.architecture.backbone_block),
            "neck_block": kind(config.neck, before.architecture.neck_block),
            "head_block": kind(config.head, before.architecture.head_block),
        }
    )
    after = before.model_copy(update={"architecture": architecture})
    parts = [name for name in ("backbone", "neck", "head") if getattr(config, name)]
    summary = f"{config.block} blocks in {', '.join(parts) or 'nothing'}"
    return fresh(after, workbench.seed), describe("lightweight", summary, before, after, {"parts": parts})
