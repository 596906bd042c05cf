"""A detector as data: the base architecture and the edits that compression made to it, in order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from detection.frozen import Frozen, PositiveInt

BlockKind = Literal["dense", "depthwise", "ghost"]
STRIDES = (8, 16, 32)
"""Pixels between neighbouring prediction points at the three levels of the pyramid."""


class Architecture(Frozen):
    """What the network is before any edit; widths are channel counts, depths are residual blocks."""

    stem_width: PositiveInt = 16
    stage_widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (32, 64, 128, 256)
    """Channels of the stages at strides 4, 8, 16 and 32."""
    stage_depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (1, 2, 2, 2)
    neck_width: PositiveInt = 64
    head_width: PositiveInt = 64
    head_depth: PositiveInt = 2
    """Convolutions in each of the two branches of the head."""
    box_bins: Annotated[int, Field(ge=2, le=32)] = 8
    """Bins of the distribution over each box side's distance, in strides (DFL, arXiv:2006.04388)."""
    backbone_block: BlockKind = "dense"
    neck_block: BlockKind = "dense"
    head_block: BlockKind = "dense"

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


class LayerWidth(Frozen):
    """Channels that go into and come out of one layer; a normalisation has both equal."""

    inputs: PositiveInt
    outputs: PositiveInt


class KeptChannels(Frozen):
    """Edit: the named layers have these widths now (structured pruning)."""

    edit: Literal["kept_channels"] = "kept_channels"
    layers: dict[str, LayerWidth]


class Ranks(Frozen):
    """Ranks of a factored convolution: Tucker-2 keeps two, an SVD of a 1x1 convolution keeps one."""

    inputs: PositiveInt | None
    """Rank on the input side; None for the SVD of a 1x1 convolution."""
    outputs: PositiveInt


class Factored(Frozen):
    """Edit: each named convolution is now a row of thinner ones (low-rank decomposition)."""

    edit: Literal["factored"] = "factored"
    layers: dict[str, Ranks]


Edit = Annotated[KeptChannels | Factored, Field(discriminator="edit")]


class Blueprint(Frozen):
    """All that is needed, besides weights, to rebuild a detector."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    family: Literal["compact"] = "compact"
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    input_size: tuple[PositiveInt, PositiveInt]
    """(height, width) of the letterboxed image in pixels."""
    architecture: Architecture
    edits: tuple[Edit, ...] = ()

    @model_validator(mode="after")
    def _classes_differ(self) -> Blueprint:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes {self.classes}: each name may stand once")
        return self

    @model_validator(mode="after")
    def _input_fits_the_pyramid(self) -> Blueprint:
        height_px, width_px = self.input_size
        if height_px % STRIDES[-1] or width_px % STRIDES[-1]:
            raise ValueError(
                f"input_size {self.input_size} (height, width): both must be multiples of {STRIDES[-1]}, the coarsest stride"
            )
        return self

    def edited(self, edit: KeptChannels | Factored) -> Blueprint:
        """The same blueprint with one more edit."""
        return self.model_copy(update={"edits": (*self.edits, edit)})
