"""What a compressed network must beat: simpler ways to a smaller one. Listed beside the cells, never counted among them.

Here are their settings (`grid.references`) and the two that rebuild the teacher: narrower, or for smaller pictures. Which of them
a sweep makes, and under which names, says `compressors.planning.reference_planner`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compressors.contract import Change, Phase, Settings, Workbench, describe
from compressors.latency import LatencyIn, estimated_latency, latency_dtype
from compressors.nas.space import LEAST_WIDTH, smaller_input
from detection.checkpoint import Detector, fresh
from detection.compact.blueprint import Architecture, Blueprint
from detection.frozen import Frozen, InputError, Share
from hardware_profiles.schema.profile import DType, HardwareProfile

WIDTH_MULTIPLE = 8
"""Widths stay multiples of this: runtimes compute in blocks, so odd widths cost without helping."""
WIDTHS = ("stem_width", "stage_widths", "neck_width", "head_width")
"""What is made narrower."""


class NarrowReference(Frozen):
    """The teacher's architecture at smaller widths, trained from scratch for as many epochs as every cell."""

    kind: Literal["narrow"] = "narrow"
    width_share: Share | None = None
    """Of every width (MobileNet's width multiplier, arXiv:1704.04861, section 3.3)."""
    like: str | None = None
    """Instead of it: a cell. The network is the widest that is estimated to be no slower, on the design profile, than what became
    of the teacher in that cell; the narrowest, where the cell turns out faster than that. Where the cell is quantized, so is the
    reference, in the same way, and in int8 both are estimated in int8: what is narrow gains less from it than what is wide."""
    quantization: bool = False
    """Quantize it after training, by the menu's first variant."""

    @model_validator(mode="after")
    def _has_one_measure(self) -> Self:
        if (self.width_share is None) == (self.like is None):
            found = "neither" if self.like is None else "both"
            raise ValueError(f"width_share, like: exactly one must be set, but {found} is; name a share of the widths or a cell")
        return self


class SmallerInputReference(Frozen):
    """The teacher's architecture for smaller pictures, trained from scratch for as many epochs as every cell."""

    kind: Literal["smaller_input"] = "smaller_input"
    input_share: Share | None = None
    """Of the pictures' sides; null: the largest below 1 that fits the pyramid."""
    quantization: bool = False
    """Quantize it after training, by the menu's first variant."""


class RandomPruningReference(Frozen):
    """The trained teacher without channels that were drawn at random, at equal multiply-adds; recovered like every cell."""

    kind: Literal["random_pruning"] = "random_pruning"
    like: str | None = None
    """A variant of pruning, by its label; null: every one in the menu that has `keep_macs`."""
    quantization: bool = False
    """Quantize it after training, by the menu's first variant."""


ReferenceConfig = Annotated[NarrowReference | SmallerInputReference | RandomPruningReference, Field(discriminator="kind")]


class Narrow(Settings):
    """What the node of a narrow reference does."""

    phase: ClassVar[Phase] = "architecture"
    version_name: ClassVar[str | None] = "references"
    begins_anew: ClassVar[bool] = True
    method: Literal["narrow"] = "narrow"
    width_share: Share | None
    """None: as wide as the estimated latency of the given detector allows."""
    latency_in: LatencyIn = "float"
    """The numbers in which that is estimated."""

    @property
    def asks_estimate(self) -> bool:
        """Whether the width is looked for that takes as long as the given detector."""
        return self.width_share is None


class SmallerInput(Settings):
    """What the node of a reference for smaller pictures does."""

    phase: ClassVar[Phase] = "architecture"
    version_name: ClassVar[str | None] = "references"
    begins_anew: ClassVar[bool] = True
    method: Literal["smaller_input"] = "smaller_input"
    input_share: Share


Rebuilding = Annotated[Narrow | SmallerInput, Field(discriminator="method")]
"""The steps that begin anew from the teacher's architecture; of the detector that they are given they take over no weight."""


def narrow(detector: Detector, config: Narrow, workbench: Workbench) -> tuple[Detector, Change]:
    """The teacher's architecture at smaller widths, with fresh weights, and how narrow it became."""
    before, profile = workbench.teacher.blueprint, workbench.design_profile
    if config.width_share is not None:
        after, estimates = narrowed(before, config.width_share), dict[str, object]()
        summary = f"{config.width_share:.1%} of every width"
    else:
        dtype = latency_dtype(config.latency_in, profile, "narrow")
        wanted_s = estimated_latency(detector.blueprint, profile, dtype).point_s
        after = _no_slower(before, profile, dtype, wanted_s)
        reached_s = estimated_latency(after, profile, dtype).point_s
        reached = reached_s <= wanted_s
        estimates = {
            "design_profile": profile.id,
            "latency_in": config.latency_in,
            "wanted_s": wanted_s,
            "reached_s": reached_s,
            "target_reached": reached,
        }
        short = "" if reached else "; nothing is narrower"
        summary = f"{reached_s:.3g} s estimated on {profile.id} in {config.latency_in} (at most {wanted_s:.3g} s wanted{short})"
    details = after.architecture.model_dump(include=set(WIDTHS)) | estimates
    return fresh(after, workbench.seed), describe("narrow", summary, before, after, details)


def see_smaller(detector: Detector, config: SmallerInput, workbench: Workbench) -> tuple[Detector, Change]:
    """The teacher's architecture for smaller pictures, with fresh weights, and their size."""
    before = workbench.teacher.blueprint
    after = smaller_input(before, config.input_share)
    summary = f"pictures of {after.input_size} (height, width)"
    details = {"input_size": after.input_size}
    return fresh(after, workbench.seed), describe("smaller_input", summary, before, after, details)


def narrowed(blueprint: Blueprint, share: float) -> Blueprint:
    """The unedited blueprint with every width at this share of its own (MobileNet's width multiplier, arXiv:1704.04861, 3.3).

    Widths are rounded down to multiples of 8, at least 8 and at most their own; depths, levels and blocks stay.
    """
    if blueprint.edits:
        raise InputError("narrowed: a pruned or factored blueprint has no widths of its own; give the one before its edits.")
    if not 0 < share <= 1:
        raise InputError(f"narrowed: share {share}: a share of the widths is above 0 and at most 1.")
    return blueprint.model_copy(update={"architecture": _at_width(blueprint.architecture, share)})


def narrow_at_latency(blueprint: Blueprint, profile: HardwareProfile, dtype: DType, latency_s: float) -> Blueprint:
    """The widest narrowed blueprint whose latency on this profile is estimated at no more than latency_s.

    "At equal estimated latency" is true to one step of the widths. InputError where even the narrowest is slower.
    """
    for own in _different(blueprint):
        if (reached_s := estimated_latency(own, profile, dtype).point_s) <= latency_s:
            return own
    raise InputError(
        f"narrow_at_latency: latency_s {latency_s:.3g}: on {profile.id} in {dtype} even the narrowest network takes an estimated "
        f"{reached_s:.3g} s. Allow at least that."
    )


def narrowest(blueprint: Blueprint) -> Blueprint:
    """The narrowed blueprint than which there is no narrower one."""
    return _different(blueprint)[-1]


def _no_slower(before: Blueprint, profile: HardwareProfile, dtype: DType, wanted_s: float) -> Blueprint:
    """The widest that is fast enough; the narrowest where none is: the cell has been made by then, and what it must beat is not
    made any weaker by being slower."""
    try:
        return narrow_at_latency(before, profile, dtype, wanted_s)
    except InputError:
        return narrowest(before)


def _different(blueprint: Blueprint) -> list[Blueprint]:
    """Every different narrowed blueprint, the given one first, the narrowest last."""
    architecture = blueprint.architecture
    widths = {architecture.stem_width, *architecture.stage_widths, architecture.neck_width, architecture.head_width}
    # A width changes where share times it reaches a multiple; nothing changes in between.
    shares = {multiple / width for width in widths for multiple in range(WIDTH_MULTIPLE, width + 1, WIDTH_MULTIPLE)} | {1.0}
    found: dict[str, Blueprint] = {}
    for share in sorted({min(shares) / 2, *shares}, reverse=True):
        own = narrowed(blueprint, share)
        found.setdefault(own.architecture.model_dump_json(), own)
    return list(found.values())


def _at_width(architecture: Architecture, share: float) -> Architecture:
    def rounded(width: int) -> int:
        # 1e-9: a share that is a quotient of two widths meets its multiple in spite of rounding
        return min(width, max(LEAST_WIDTH, int(width * share / WIDTH_MULTIPLE + 1e-9) * WIDTH_MULTIPLE))

    widths = {
        "stem_width": rounded(architecture.stem_width),
        "stage_widths": tuple(map(rounded, architecture.stage_widths)),
        "neck_width": rounded(architecture.neck_width),
        "head_width": rounded(architecture.head_width),
    }
    return architecture if share == 1 else Architecture.model_validate(architecture.model_dump() | widths)
