"""A detector as data: the base architecture and the edits that compression made to it, in order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from detection.frozen import Frozen, InputError, PositiveInt

BlockKind = Literal["dense", "depthwise", "ghost"]
COARSEST_STRIDE = 32
"""Pictures are prepared in multiples of this, so that every pyramid fits them."""
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


class LayerWidth(Frozen):
    """Channels that go into and come out of one layer; a normalisation has both equal."""

    inputs: PositiveInt
    outputs: PositiveInt


class KeptChannels(Frozen):
    """Edit: the named layers have these widths now (structured pruning)."""

    edit: Literal["kept_channels"] = "kept_channels"
    layers: dict[str, LayerWidth]


class Ranks(Frozen):
    """Ranks of a factored convolution: Tucker-2 keeps two, an SVD keeps one.

    Tucker-2: 1x1, kxk, 1x1 (arXiv:1511.06530). SVD: kx1, 1xk (arXiv:1405.3866), which for a 1x1 convolution is 1x1, 1x1.
    """

    inputs: PositiveInt | None
    """Rank on the input side; None for an SVD."""
    outputs: PositiveInt
    """Rank on the output side; for an SVD, the maps between its two halves."""


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
        (height_px, width_px), coarsest = self.input_size, self.architecture.levels[-1]
        if height_px % coarsest or width_px % coarsest:
            raise ValueError(
                f"input_size {self.input_size} (height, width): both must be multiples of {coarsest}, the coarsest stride"
            )
        return self

    def at(self, input_size: tuple[int, int]) -> Blueprint:
        """The same network for pictures of another size, (height, width) in pixels; ValidationError where they do not fit."""
        return Blueprint.model_validate(self.model_dump(by_alias=True) | {"input_size": input_size})

    def edited(self, edit: KeptChannels | Factored) -> Blueprint:
        """The same blueprint with one more edit."""
        return self.model_copy(update={"edits": (*self.edits, edit)})


def full_ranks(shape: Sequence[int], two: bool) -> Ranks:
    """Ranks with which nothing is lost of a kernel (outputs, inputs, height, width): the two of Tucker-2, or the one of an SVD."""
    outputs, inputs, height, width = shape
    if two:
        return Ranks(inputs=min(inputs, outputs * height * width), outputs=min(outputs, inputs * height * width))
    return Ranks(inputs=None, outputs=min(inputs * height, outputs * width))


def refuse_above_full(layer: str, ranks: Ranks, shape: Sequence[int]) -> None:
    """InputError where a rank is more than a kernel of this shape (outputs, inputs, height, width) can have."""
    full = full_ranks(shape, two=ranks.inputs is not None)
    for side in ("inputs", "outputs"):
        rank, most = getattr(ranks, side), getattr(full, side)
        if rank is not None and rank > most:
            raise InputError(f"edits.layers.{layer}.{side}: rank {rank} is above full, which is {most} for this layer; lower it.")
