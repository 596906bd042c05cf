"""The settings of our own family: what the network is before any edit."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from detection.frozen import Frozen, PositiveInt
from detection.spec import Spec

BlockKind = Literal["dense", "depthwise", "ghost"]
COARSEST_STRIDE = 32
"""Of any pyramid: inputs in multiples of this fit every one."""
FIRST_STAGE_STRIDE = 4
"""Pixels between neighbours in the maps of the first stage; every further stage doubles it."""


class Architecture(Frozen):
    """What the network is before any edit; widths are channel counts, depths are residual blocks."""

    levels: tuple[PositiveInt, ...] = (8, 16, 32)
    """Strides of the pyramid: pixels between neighbouring prediction points, each twice the one before. The backbone ends
    with the last."""
    stem_width: PositiveInt = 16
    stem_stride: Literal[2, 4] = 2
    """4: a 4x4 convolution that takes the first stage's step as well. Full resolution is where int8 saves least."""
    stage_widths: tuple[PositiveInt, ...] = (32, 64, 128, 256)
    """Channels of the stages at strides 4, 8, 16 and on, up to the last level. With stem_stride 4 the first is as wide as the
    stem."""
    stage_depths: tuple[Annotated[int, Field(ge=0)], ...] = (1, 2, 2, 2)
    neck_width: PositiveInt = 64
    head_width: PositiveInt = 64
    head_depth: PositiveInt = 2
    """Convolutions in each branch of the head."""
    head_branches: Literal["separate", "shared"] = "separate"
    """Whether scores and boxes have a branch each (YOLOX, arXiv:2107.08430) or are read off one, for half the operators."""
    box_bins: Annotated[int, Field(ge=2, le=32)] = 8
    """Bins of the distribution over each box side's distance, in strides (DFL, arXiv:2006.04388)."""
    backbone_block: BlockKind = "dense"
    neck_block: BlockKind = "dense"
    head_block: BlockKind = "dense"

    @model_validator(mode="after")
    def _levels_follow_one_another(self) -> Architecture:
        if not self.levels or self.levels[0] not in (8, 16, 32) or any(b != 2 * a for a, b in itertools.pairwise(self.levels)):
            raise ValueError(f"levels {self.levels}: from 8, 16 or 32 on, each twice the one before")
        if self.levels[-1] > COARSEST_STRIDE:
            raise ValueError(f"levels {self.levels}: {COARSEST_STRIDE} is the coarsest")
        stages = self.stages
        for field in ("stage_widths", "stage_depths"):
            if len(getattr(self, field)) != stages:
                found = getattr(self, field)
                raise ValueError(f"{field} {found}: {stages} are needed, one for each stride from 4 to {self.levels[-1]}")
        if self.stem_stride == FIRST_STAGE_STRIDE and self.stage_widths[0] != self.stem_width:
            raise ValueError(f"stage_widths {self.stage_widths}: with stem_stride 4 the first is stem_width, {self.stem_width}")
        return self

    @property
    def stages(self) -> int:
        """How many stages lead to the last level."""
        return (self.levels[-1] // FIRST_STAGE_STRIDE).bit_length()

    @model_validator(mode="after")
    def _ghost_widths_are_even(self) -> Architecture:
        parts = {
            "backbone_block": (*self.stage_widths, *(width // 2 for width in self.stage_widths)),
            "neck_block": (self.neck_width,),
            "head_block": (self.head_width,),
        }
        odd = [width for part, widths in parts.items() if getattr(self, part) == "ghost" for width in widths if width % 2]
        if odd:
            raise ValueError(f"ghost blocks halve their width, so it must be even, and a stage's a multiple of 4; found {odd[0]}")
        return self

    def label(self) -> str:
        """Its stage widths, and what else is not the default."""
        usual, own = Architecture().model_dump(), self.model_dump()
        words = [own.pop("stage_widths"), *(word for name, value in own.items() if value != usual[name] for word in (name, value))]
        return "-".join("-".join(map(str, word)) if isinstance(word, tuple) else str(word) for word in words)


def architecture_of(spec: Spec) -> Architecture:
    """The settings of a detector of this family."""
    assert isinstance(spec.settings, Architecture), f"{spec.family} detectors are not of this family"
    return spec.settings
