"""What a method is: settings that planning can ask, and a function that sees a workbench and gives back a change or a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, get_args

import torch
from pydantic import model_validator

from compressors.ranking_check import RankingCheck
from compressors.target import Target
from detection.checkpoint import Detector
from detection.costs import count_macs, count_params
from detection.data.dataset import Images
from detection.frozen import Frozen
from detection.spec import Spec
from detection.training import Recipe
from hardware_profiles.schema.profile import HardwareProfile

Phase = Literal["architecture", "search", "reduction", "objective", "packing"]
"""Where a method takes part in making a cell. The architecture is changed, or searched for; the trained detector is reduced, and
then recovers; an objective is lowered in the trainings of both; the recovered detector is packed for each runtime."""
PHASES: tuple[Phase, ...] = get_args(Phase)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Each(Protocol):
    """How the same work is done on many things: one after another, or side by side where an executor has room."""

    def __call__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """work(item) of each, in the order of the items. The work draws nothing at random, so who does it changes nothing."""
        ...


def in_turn(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """work(item) of each, here, one after another."""
    return [work(item) for item in items]


class Settings(Frozen):
    """What every method's config can be asked when nodes are planned; none of the answers is data, so none is written or hashed."""

    phase: ClassVar[Phase]
    version_name: ClassVar[str | None] = None
    """In VERSIONS; None: the method's own name."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions, besides torch, whose version decides the result."""
    is_reinitialised: ClassVar[bool] = False
    """Whether what comes out takes no weight over from what went in, and its lineage begins there."""

    @property
    def inherits(self) -> bool:
        """Of what changes an architecture: whether the new one begins with the weights of the one before."""
        return False

    @property
    def asks_estimate(self) -> bool:
        """Whether estimated latency decides the result."""
        return False

    @property
    def asks_design_profile(self) -> bool:
        """Whether anything of the design profile decides the result."""
        return self.asks_estimate

    @property
    def asks_recovery(self) -> bool:
        """Whether the schedule of the recovery decides the result."""
        return False

    @property
    def looks_at_val(self) -> bool:
        """Whether the val split takes part in what comes out."""
        return False

    def search_images(self, train_pictures: int, val_pictures: int) -> int:
        """Pictures that go through networks while the method chooses, on splits of these sizes."""
        return 0

    def final_images(self, epochs: int, train_pictures: int, val_pictures: int) -> int:
        """Pictures of trainings that the method chooses by, each of this number of epochs."""
        return 0

    def _without_effect(self) -> dict[str, str]:
        """Fields that have no effect because of another -> what would have to be for them to count. A field may be written
        out at its default, as it is in every record; any other value would promise something and rename a node of equal result."""
        return {}

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> Self:
        for name, condition in self._without_effect().items():
            if (found := getattr(self, name)) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{name} {found}: counts only {condition}. Leave it out, or change the other")
        return self


class Spent(Frozen):
    """What a method used besides the updates that every cell gets."""

    search_images: int = 0
    """Pictures that went through a network while it chose."""
    teacher_forwards: int = 0
    """Pictures that went through the teacher."""


class Change(Frozen):
    """What a method did to a detector, for people and for the record."""

    method: str
    summary: str
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    details: dict[str, Any]
    spent: Spent = Spent()
    target: Target | None = None
    """None where no setting asks for a size."""
    ranking: RankingCheck | None = None
    """Of a search that trained networks to check itself."""

    @property
    def no_effect(self) -> bool:
        """True when the method left the network's size as it was."""
        return (self.macs_before, self.params_before) == (self.macs_after, self.params_after)


@dataclass(frozen=True)
class Workbench:
    """All a method may see. The test split is not here, on purpose."""

    teacher: Detector
    train: Images
    val: Images
    device: torch.device
    seed: int
    design_profile: HardwareProfile
    recipe: Recipe
    """The schedule of the architecture trainings; a search borrows all of it but the epochs."""
    recovery: Recipe = field(default_factory=Recipe)
    """The schedule of what goes on with inherited weights."""
    each: Each = in_turn
    """For work on many candidates that do not depend on one another."""


class Transform(Protocol):
    """lightweight, nas, pruning, low_rank: a detector in, another out. Untrained weights come back fresh."""

    def __call__(self, detector: Detector, config: Any, workbench: Workbench) -> tuple[Detector, Change]:
        """The changed detector and what changed; the one given is left alone."""
        ...


def describe(
    method: str, summary: str, before: Spec, after: Spec, details: dict[str, Any], spent: Spent | None = None,
    target: Target | None = None, ranking: RankingCheck | None = None,
) -> Change:  # fmt: skip
    """The change between two detectors, counted on both."""
    return Change(
        method=method,
        summary=summary,
        macs_before=count_macs(before),
        macs_after=count_macs(after),
        params_before=count_params(before),
        params_after=count_params(after),
        details=details,
        spent=spent or Spent(),
        target=target,
        ranking=ranking,
    )
