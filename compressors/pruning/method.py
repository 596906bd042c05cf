"""pruning: whole channels that matter least are removed along the dependency graph (DepGraph, arXiv:2301.12900).

`groups` says which channels go together, `importance` how much they matter; here it is decided how many go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from compressors.channels.groups import ChannelGroup, kept_of_sides, kept_spec, without
from compressors.channels.importance import BY_GRADIENTS, Importance, unit_importance
from compressors.channels.narrowable import narrowable
from compressors.channels.ranking import Ranking, channel_alignment, least_step
from compressors.contract import Change, Phase, Settings, Spent, Workbench, describe
from compressors.latency import estimated_latency
from compressors.target import Target
from detection.checkpoint import Detector
from detection.costs import count_macs
from detection.frozen import InputError, PositiveInt, Share
from detection.spec import KeptChannels, Spec
from hardware_profiles.schema.profile import HardwareProfile, ProfileError

DEFAULT_KEEP_MACS = 0.5


class Pruning(Settings):
    """How much to remove, and by which measure."""

    phase: ClassVar[Phase] = "reduction"
    libraries: ClassVar[tuple[str, ...]] = ("torch-pruning",)
    method: Literal["pruning"] = "pruning"
    importance: Importance = "taylor"
    """What decides which channels go first; see `importance.Importance`."""
    grouping: Literal["global", "isomorphic"] = "global"
    """Who competes: all channels, or only those of layers that are connected in the same way, each such class losing the same share
    (Isomorphic Pruning, arXiv:2407.04616)."""
    keep_macs: Share | None = None
    """Share of multiply-adds that stays; 0.5 where `keep_latency` is not set either."""
    keep_latency: Share | None = None
    """Instead of it: share of the design profile's estimated float latency that stays."""
    most_removed: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """No layer loses more than this share of its channels."""
    round_to: PositiveInt | None = None
    """Channels stay multiples of this; null: of the design profile's `channel_alignment` for its float type. Runtimes compute in
    blocks, so odd widths cost without helping."""
    gradient_pictures: PositiveInt = 64
    """Training pictures for measures by gradients."""

    @model_validator(mode="before")
    @classmethod
    def _has_a_target(cls, given: Any) -> Any:
        if isinstance(given, dict) and "keep_macs" not in given and given.get("keep_latency") is None:
            return given | {"keep_macs": DEFAULT_KEEP_MACS}
        return given

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        if (self.keep_macs is None) == (self.keep_latency is None):
            found = "neither" if self.keep_macs is None else f"both ({self.keep_macs:g} and {self.keep_latency:g})"
            raise ValueError(f"keep_macs, keep_latency: exactly one must be set, but {found} is; make one a share, the other null")
        return self

    def _without_effect(self) -> dict[str, str]:
        only = f"with importance {' or '.join(sorted(BY_GRADIENTS))}"
        return {} if self.importance in BY_GRADIENTS else {"gradient_pictures": only}

    @property
    def target(self) -> tuple[str, float]:
        """The setting that says how much stays, and what it says."""
        name = "keep_macs" if self.keep_latency is None else "keep_latency"
        return name, getattr(self, name)

    @property
    def asks_estimate(self) -> bool:
        """Whether estimated latency decides the result."""
        return self.keep_latency is not None

    @property
    def asks_design_profile(self) -> bool:
        """Whether the design profile decides the result."""
        return self.asks_estimate or self.round_to is None

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        target = f"{self.keep_macs:g}" if self.keep_latency is None else f"latency-{self.keep_latency:g}"
        return "-".join([self.importance, *(["isomorphic"] if self.grouping == "isomorphic" else []), target])

    def search_images(self, train_pictures: int, _val_pictures: int) -> int:
        """Pictures whose gradients are taken."""
        return min(self.gradient_pictures, train_pictures) if self.importance in BY_GRADIENTS else 0


def prune(detector: Detector, config: Pruning, workbench: Workbench) -> tuple[Detector, Change]:
    """The detector without its least important channels, weights inherited, and what was kept, layer by layer."""
    network, profile = detector.network(), workbench.design_profile
    found = narrowable(detector.spec)
    groups = found.narrow
    scores = unit_importance(config.importance, groups, network, workbench, config.gradient_pictures)
    ranking = _ranking(groups, scores, config, profile)
    cost = _relative_cost(detector.spec, config, profile)
    setting, wanted = config.target
    step = least_step(lambda step: cost(kept_spec(detector, groups, ranking.kept(step))), ranking.steps, wanted)
    kept = ranking.kept(step)
    pruned = without(detector, groups, kept)
    reached = cost(pruned.spec)
    what = "multiply-adds" if config.keep_latency is None else f"estimated latency on {profile.id}"
    added = pruned.spec.edits[len(detector.spec.edits) :]
    narrower = sum(len(edit.layers) for edit in added if isinstance(edit, KeptChannels))
    short = "" if reached <= wanted else "; the floors allow no less"
    summary = f"{config.label()}: {narrower} layers narrower, {reached:.1%} of the {what} stay ({wanted:.1%} wanted{short})"
    details = {
        "kept_channels": _kept_by_layer(detector, groups, kept),
        "whole": dict(found.whole),
        "importance": config.importance,
        "grouping": config.grouping,
        "round_to": ranking.round_to,
        "design_profile": profile.id if config.asks_design_profile else None,
        "keep_macs": count_macs(pruned.spec) / count_macs(detector.spec),
        "keep_latency": reached if config.asks_estimate else None,
    }
    spent = Spent(search_images=config.search_images(len(workbench.train), len(workbench.val)))
    target = Target(method="pruning", setting=setting, asked=wanted, reached=reached)
    return pruned, describe("pruning", summary, detector.spec, pruned.spec, details, spent, target)


def refuse_out_of_reach(config: Pruning, detector: Detector, profile: HardwareProfile) -> None:
    """InputError where the floors leave more of this detector than is asked for, whichever channels matter least."""
    setting, wanted = config.target
    groups = narrowable(detector.spec).narrow
    anything = [torch.arange(group.units, dtype=torch.float32) for group in groups]
    ranking = _ranking(groups, anything, config, profile)
    least = _relative_cost(detector.spec, config, profile)(kept_spec(detector, groups, ranking.kept(ranking.steps)))
    if least > wanted:
        what = "multiply-adds" if config.keep_latency is None else f"latency estimated on {profile.id}"
        origin = "" if config.round_to else f" (that of {profile.id})"
        raise InputError(
            f"pruning.{setting}: {wanted:g} is out of reach: {least:.3f} of the {what} stay where every layer has lost all it may, "
            f"with round_to {ranking.round_to}{origin} and most_removed {config.most_removed:g}. Ask for that or more, lower "
            f"round_to or raise most_removed."
        )


def _ranking(groups: Sequence[ChannelGroup], scores: Sequence[Tensor], config: Pruning, profile: HardwareProfile) -> Ranking:
    return Ranking(groups, scores, config.grouping, config.most_removed, config.round_to or channel_alignment(profile))


def _relative_cost(before: Spec, config: Pruning, profile: HardwareProfile) -> Callable[[Spec], float]:
    """What a detector costs by the measure of the target, as a share of what the given one costs."""
    if config.keep_latency is None:
        macs = count_macs(before)
        return lambda spec: count_macs(spec) / macs
    try:
        latency_s = estimated_latency(before, profile, "fp32").point_s
    except ProfileError as error:
        raise InputError(
            f"pruning.keep_latency: no estimate in float: {error}. Set pruning.keep_macs instead, or name another design profile."
        ) from error
    return lambda spec: estimated_latency(spec, profile, "fp32").point_s / latency_s


def _kept_by_layer(detector: Detector, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> dict[str, list[int]]:
    """The channels that stayed: of every normalisation, and of the convolutions in groups that have none."""
    named = {name for group in groups for name in (group.outputs("norm") or group.outputs("conv", "linear", "transposed"))}
    sides = kept_of_sides(detector, groups, kept)
    return {side.layer: rows.tolist() for side, rows in sides.items() if side.end == "outputs" and side.layer in named}
