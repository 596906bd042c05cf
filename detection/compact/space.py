"""Other architectures of our own family: those a search may choose from, narrower ones, ones from light blocks.

A search varies the widths of stem, stages, neck and head and the depth of every stage; for all alike, what `SpaceOptions` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from detection.compact.architecture import FIRST_STAGE_STRIDE, Architecture, BlockKind, architecture_of
from detection.frozen import Frozen, InputError, PositiveInt
from detection.spec import Spec
from detection.widths import narrower_width, width_options

LEAST_WIDTH = 8
GHOST_MULTIPLE = 4
"""A ghost block halves its width, and a residual block has half the width of its stage."""
PARTS = ("backbone", "neck", "head")


class SpaceOptions(Frozen):
    """What all architectures of a search space have, where it is not what the detector has."""

    levels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    """Levels of the pyramid to keep, from the finest on; null: all. Without the coarsest, its stage goes as well."""
    stem_stride: Literal[2, 4] | None = None
    head_branches: Literal["separate", "shared"] | None = None
    head_depth: PositiveInt | None = None
    block: BlockKind | None = None
    """Of backbone, neck and head."""
    least_depth: Annotated[int, Field(ge=0)] = 1
    """Residual blocks that every stage keeps, as far as it has them."""


class Space(Frozen):
    """Every choice there is; the largest of each is the architecture that the search started from."""

    largest: Spec
    widths: dict[str, tuple[int, ...]]
    """stem, stage0.., neck, head -> channel counts, ascending. A stem that takes the first stage's step decides for both."""
    depths: dict[str, tuple[int, ...]]
    """stage0.. -> residual blocks, ascending."""

    def spec(self, choice: Mapping[str, int]) -> Spec:
        """The detector of one choice: `width_<name>` and `depth_<name>` -> channels and blocks."""
        largest = architecture_of(self.largest)
        stages, stem_width = range(largest.stages), choice["width_stem"]
        changed = {
            "stem_width": stem_width,
            "stage_widths": tuple(choice.get(f"width_stage{i}", stem_width) for i in stages),
            "stage_depths": tuple(choice[f"depth_stage{i}"] for i in stages),
            "neck_width": choice["width_neck"],
            "head_width": choice["width_head"],
        }
        return self.largest.model_copy(update={"settings": largest.model_copy(update=changed)})

    def options(self) -> dict[str, tuple[int, ...]]:
        """Name of each decision -> its options, ascending."""
        widths = {f"width_{name}": options for name, options in self.widths.items()}
        return widths | {f"depth_{name}": options for name, options in self.depths.items()}


def space_of(spec: Spec, width_shares: tuple[float, ...], round_to: int, options: Mapping[str, Any]) -> Space:
    """The space below a detector, or below what is left of it by the options; widths are shares of its own, in multiples.

    InputError where there is no such space.
    """
    try:
        wanted = SpaceOptions.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        allowed = ", ".join(SpaceOptions.model_fields)
        raise InputError(
            f"nas.space.{field}: {problem['msg']} (found {problem['input']!r:.80}); settings are {allowed}."
        ) from error
    largest = _largest(architecture_of(spec), wanted)
    blocks = (largest.backbone_block, largest.neck_block, largest.head_block)
    if "ghost" in blocks and round_to % GHOST_MULTIPLE:
        raise InputError(f"nas.round_to: {round_to}: ghost blocks halve their width, so it must be a multiple of {GHOST_MULTIPLE}.")
    own = {"stem": largest.stem_width} | {f"stage{i}": width for i, width in enumerate(largest.stage_widths)}
    own |= {"neck": largest.neck_width, "head": largest.head_width}
    if largest.stem_stride == FIRST_STAGE_STRIDE:
        del own["stage0"]
    widths = {name: width_options(width, width_shares, round_to, LEAST_WIDTH) for name, width in own.items()}
    depths = {f"stage{i}": tuple(range(min(wanted.least_depth, own), own + 1)) for i, own in enumerate(largest.stage_depths)}
    return Space(largest=spec.having(largest), widths=widths, depths=depths)


def _largest(own: Architecture, wanted: SpaceOptions) -> Architecture:
    """The architecture searched from; InputError where there is none."""
    levels = wanted.levels or own.levels
    if levels != own.levels[: len(levels)]:
        raise InputError(
            f"nas.space.levels: {levels} is no beginning of the detector's levels {own.levels}; leave out coarse ones only."
        )
    changed = own.model_dump() | {
        "levels": levels,
        "stem_stride": wanted.stem_stride or own.stem_stride,
        "head_branches": wanted.head_branches or own.head_branches,
        "head_depth": wanted.head_depth or own.head_depth,
        **({f"{part}_block": wanted.block for part in PARTS} if wanted.block else {}),
    }
    for field in ("stage_widths", "stage_depths"):
        changed[field] = changed[field][: len(own.stage_widths) - len(own.levels) + len(levels)]
    if changed["stem_stride"] == FIRST_STAGE_STRIDE:
        changed["stem_width"] = own.stage_widths[0]
    try:
        return Architecture(**changed)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(
            f"nas.space.block: {wanted.block}: {reason}. Choose another block or change the detector's widths."
        ) from error


def light_spec(before: Spec, block: str, parts: tuple[str, ...]) -> Spec:
    """The spec with light blocks in the chosen parts; InputError where they cannot be had."""
    if before.edits:
        raise InputError("lightweight: rebuilds an unedited architecture, so it comes before pruning and low_rank.")
    own = architecture_of(before)
    try:
        return before.having(Architecture(**(own.model_dump() | {f"{part}_block": block for part in parts})))
    except ValidationError as error:
        raise InputError(f"lightweight.block: {block}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from error


def widths_of(spec: Spec) -> tuple[int, ...]:
    """The widths that `narrowed` makes smaller."""
    own = architecture_of(spec)
    return (own.stem_width, *own.stage_widths, own.neck_width, own.head_width)


def narrowed(spec: Spec, share: float) -> Spec:
    """The detector with every width at this share of its own (MobileNet's width multiplier, arXiv:1704.04861, 3.3).

    Widths are rounded down to multiples of 8, at least 8 and at most their own; depths, levels and blocks stay.
    """
    if share == 1:
        return spec
    own = architecture_of(spec)

    changed = {
        "stem_width": narrower_width(own.stem_width, share),
        "stage_widths": tuple(narrower_width(width, share) for width in own.stage_widths),
        "neck_width": narrower_width(own.neck_width, share),
        "head_width": narrower_width(own.head_width, share),
    }
    return spec.having(Architecture.model_validate(own.model_dump() | changed))
