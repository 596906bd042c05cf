"""What a search works on: the networks to choose from, the weights that they share, and how their latency is estimated.

The family may offer a space of its own architectures, whose networks are trained anew. Below a trained detector of any family lie
narrower networks that go on with its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from compressors.channels.importance import Importance, unit_importance
from compressors.channels.ranking import Ranking, least_step
from compressors.contract import Workbench
from compressors.latency import latency_dtype
from compressors.nas.candidates import Latency, latency_on
from compressors.nas.group_space import GroupSpace, group_space
from compressors.nas.shared_graph import SharedGraphs
from compressors.nas.space import size_of, smallest
from compressors.nas.supernet import Part, front_part, group_part
from detection.checkpoint import Detector, fresh, inherit
from detection.family import SearchSpace, family_of
from detection.frozen import InputError
from detection.spec import Spec, smaller_input
from hardware_profiles.estimate.model import estimate
from hardware_profiles.schema.profile import DType, HardwareProfile

if TYPE_CHECKING:
    from compressors.nas.method import Nas

MOST_REMOVED = 1.0
"""Of a group by a ranking; the options of the space have floors of their own."""


@dataclass(frozen=True)
class Task:
    """What differs between kinds of spaces."""

    space: SearchSpace
    start: Detector
    """The largest network, with the weights that the supernet begins with."""
    part: Part
    latency_s: Latency
    rankings: tuple[Ranking, ...] = ()
    """Orders in which units may go, by what pruning would remove first; none where the space has no such units."""
    ordering_images: int = 0
    """Pictures that were looked at to order them."""

    @property
    def least_s(self) -> float:
        """Estimated latency of the smallest network."""
        return self.latency_s(self.space.spec(smallest(self.space)))

    @property
    def most_s(self) -> float:
        """Estimated latency of the largest network."""
        return self.latency_s(self.space.largest)

    def inheriting(self, spec: Spec) -> Detector:
        """A network of the space with its part of the detector's own weights: what the supernet learned only ranks."""
        assert isinstance(self.space, GroupSpace), "only parts of a trained detector go on with its weights"
        return Detector(spec, MappingProxyType(self.space.weights(spec, self.start.weights)))

    def ranked(self, budget_s: float) -> tuple[Mapping[str, int], ...]:
        """What pruning alone would find: by each ranking the largest choice within the budget, with all blocks and without any."""
        if not isinstance(space := self.space, GroupSpace):
            return ()

        def at(ranking: Ranking, keep_blocks: bool, step: int) -> Mapping[str, int]:
            return space.nearest([len(own) for own in ranking.kept(step)], keep_blocks)

        def latency_s(choice: Mapping[str, int]) -> float:
            return self.latency_s(space.spec(choice))

        def within(choose: Callable[[int], Mapping[str, int]], steps: int) -> Mapping[str, int]:
            return choose(least_step(lambda step: latency_s(choose(step)), steps, budget_s))

        found = list[Mapping[str, int]]()
        for keep_blocks in (True, False) if space.blocks else (True,):
            for ranking in self.rankings:
                found.append(within(partial(at, ranking, keep_blocks), ranking.steps))
        return tuple(choice for choice in found if latency_s(choice) <= budget_s)


def space_to_search(spec: Spec, config: Nas) -> SearchSpace:
    """The networks below a detector, for pictures of one size.

    InputError where there are none, or fewer than the search is to judge.
    """
    space = _space(spec, config)
    if config.evaluations > size_of(space):
        raise InputError(
            f"nas.evaluations: {config.evaluations} is more than the {size_of(space)} networks of the space. Lower it, or "
            f"give more nas.width_shares."
        )
    return space


def task_of(detector: Detector, config: Nas, workbench: Workbench) -> Task:
    """What a search of this detector works on; InputError where there is nothing to search."""
    space, profile = space_to_search(detector.spec, config), workbench.design_profile
    dtype = latency_dtype(config.latency_in, profile, "nas")
    if not isinstance(space, GroupSpace):
        start = inherit(detector, fresh(space.largest, workbench.seed)) if space.largest != detector.spec else detector
        return Task(space, inherit(workbench.teacher, start), front_part, latency_on(profile, dtype))
    start = detector.at(space.largest.input_size)
    importance: Importance = "taylor" if config.inherits else "l2"
    scores = unit_importance(importance, space.groups, start.network(), workbench, config.gradient_pictures)
    ordered = space.ordered(scores)
    rankings = tuple(Ranking(space.groups, scores, own, MOST_REMOVED, 1) for own in ("global", "isomorphic"))
    latency_s = _latency_of_groups(ordered, profile, dtype, workbench.seed)
    pictures = min(config.gradient_pictures, len(workbench.train)) if config.inherits else 0
    return Task(ordered, start, partial(group_part, ordered), latency_s, rankings, pictures)


def _latency_of_groups(space: GroupSpace, profile: HardwareProfile, dtype: DType, seed: int) -> Latency:
    """From few graphs where a family's latency is estimated on the exported graph, and where they tell what exports tell."""
    of_export = latency_on(profile, dtype)
    if not family_of(space.largest).costs_are_of_layers:
        return of_export
    graphs = SharedGraphs(space, seed)

    def latency_s(spec: Spec) -> float:
        operators = graphs.operators(spec, dtype)
        return of_export(spec) if operators is None else estimate(operators, profile).point_s

    return latency_s


def _space(spec: Spec, config: Nas) -> SearchSpace:
    make = family_of(spec).space
    if config.inherits or make is None:
        return group_space(_seeing(spec, config), config.width_shares, config.round_to)
    if spec.edits:
        raise InputError(
            "nas: with fresh weights it searches an architecture, and this detector is pruned or factored already. Leave `space` "
            "out and give `weights: inherited`: its parts are searched then."
        )
    space = make(spec, config.width_shares, config.round_to, config.space)
    smaller = _seeing(space.largest, config)
    return space if smaller is space.largest else make(smaller, config.width_shares, config.round_to, config.space)


def _seeing(spec: Spec, config: Nas) -> Spec:
    """The detector for the pictures that the search's networks see."""
    if config.input_share == 1:
        return spec
    try:
        return smaller_input(spec, config.input_share)
    except InputError as error:
        raise InputError(f"nas.{error}") from error
