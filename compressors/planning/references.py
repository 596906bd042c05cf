"""What a compressed network must beat: simpler ways to a smaller one. Listed apart from the cells.

Here are their settings (`grid.references`) and the two that rebuild the teacher: narrower, or for smaller pictures. Which of them
a sweep makes, and under which names, says `compressors.planning.reference_planner`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compressors.channels.narrower import group_widths, narrowed_groups
from compressors.channels.ranking import least_step
from compressors.contract import Change, Phase, Settings, Workbench, describe
from compressors.latency import LatencyIn, estimated_latency, latency_dtype
from detection.checkpoint import Detector, fresh
from detection.family import Capability, family_of
from detection.frozen import Frozen, InputError, Share
from detection.spec import Spec, smaller_input
from hardware_profiles.schema.profile import DType, HardwareProfile


class NarrowReference(Frozen):
    """The teacher's architecture at smaller widths, trained from scratch for as many epochs as every cell."""

    needs: ClassVar[Capability] = "narrow"
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

    needs: ClassVar[Capability] = "smaller_input"
    kind: Literal["smaller_input"] = "smaller_input"
    input_share: Share | None = None
    """Of the pictures' sides; null: the largest below 1 that fits the pyramid."""
    quantization: bool = False
    """Quantize it after training, by the menu's first variant."""


class RandomPruningReference(Frozen):
    """The trained teacher without channels that were drawn at random, at equal multiply-adds; recovered like every cell."""

    needs: ClassVar[Capability] = "pruning"
    kind: Literal["random_pruning"] = "random_pruning"
    like: str | None = None
    """A variant of pruning, by its label; null: every one in the menu that has `keep_macs`."""
    quantization: bool = False
    """Quantize it after training, by the menu's first variant."""


class GivenReference(Frozen):
    """The user's trained detector as it was brought; in every sweep that compresses one, so nobody asks for it."""

    kind: Literal["given"] = "given"
    quantization: Literal[False] = False


ReferenceConfig = Annotated[NarrowReference | SmallerInputReference | RandomPruningReference, Field(discriminator="kind")]


class Narrow(Settings):
    """What the node of a narrow reference does."""

    phase: ClassVar[Phase] = "architecture"
    version_name: ClassVar[str | None] = "references"
    is_reinitialised: ClassVar[bool] = True
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
    is_reinitialised: ClassVar[bool] = True
    method: Literal["smaller_input"] = "smaller_input"
    input_share: Share


Rebuilding = Annotated[Narrow | SmallerInput, Field(discriminator="method")]
"""The steps after which a network is trained from scratch: they take no weight from the detector that they are given."""


def narrow(detector: Detector, config: Narrow, workbench: Workbench) -> tuple[Detector, Change]:
    """The teacher's architecture at smaller widths, with fresh weights, and how narrow it became."""
    before, profile = workbench.teacher.spec, workbench.design_profile
    if config.width_share is not None:
        after, estimates = narrowed(before, config.width_share), dict[str, object]()
        summary = f"{config.width_share:.1%} of every width"
    else:
        dtype = latency_dtype(config.latency_in, profile, "narrow")
        wanted_s = estimated_latency(detector.spec, profile, dtype).point_s
        after = narrow_at_latency(before, profile, dtype, wanted_s)
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
    details = {"widths": widths_of(after), **estimates}
    return fresh(after, workbench.seed), describe("narrow", summary, before, after, details)


def see_smaller(detector: Detector, config: SmallerInput, workbench: Workbench) -> tuple[Detector, Change]:
    """The teacher's architecture for smaller pictures, with fresh weights, and their size."""
    before = workbench.teacher.spec
    after = smaller_input(before, config.input_share)
    summary = f"pictures of {after.input_size} (height, width)"
    details = {"input_size": after.input_size}
    return fresh(after, workbench.seed), describe("smaller_input", summary, before, after, details)


def narrowed(spec: Spec, share: float) -> Spec:
    """The unedited detector with every width at this share of its own, rounded as its family rounds widths."""
    if spec.edits:
        raise InputError("narrowed: a pruned or factored detector has no widths of its own; give the one before its edits.")
    if not 0 < share <= 1:
        raise InputError(f"narrowed: share {share}: a share of the widths is above 0 and at most 1.")
    narrow_family = family_of(spec).narrowed
    return narrowed_groups(spec, share) if narrow_family is None else narrow_family(spec, share)


def widths_of(spec: Spec) -> tuple[int, ...]:
    """The widths that `narrowed` makes smaller: those that the family names, or of channel groups."""
    own = family_of(spec).widths
    return group_widths(spec) if own is None else own(spec)


def narrow_at_latency(spec: Spec, profile: HardwareProfile, dtype: DType, latency_s: float) -> Spec:
    """The widest narrowed detector whose latency on this profile is estimated at no more than latency_s, to one step of the widths.

    The narrowest where none is so fast: the cell has been made by then, and being slower makes what it must beat no weaker.
    """
    every = _different(spec)
    return every[least_step(lambda step: estimated_latency(every[step], profile, dtype).point_s, len(every) - 1, latency_s)]


def narrowest(spec: Spec) -> Spec:
    """The narrowed detector than which there is no narrower one."""
    return _different(spec)[-1]


def _different(spec: Spec) -> list[Spec]:
    """Every different narrowed detector, the given one first, the narrowest last."""
    # A width changes where share times it reaches another whole number; nothing changes in between.
    shares = {channels / width for width in set(widths_of(spec)) for channels in range(1, width + 1)}
    every = (narrowed(spec, share) for share in sorted(shares, reverse=True))
    return list({own.model_dump_json(by_alias=True): own for own in every}.values())
