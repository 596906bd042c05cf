"""Which units of channel groups stay where fewer and fewer may: the order in which they go, and how far to go along it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from torch import Tensor

from compressors.channels.groups import ChannelGroup
from hardware_profiles.schema.profile import HardwareProfile


def channel_alignment(profile: HardwareProfile) -> int:
    """Channels that the device computes together in its float type; 1 where the profile does not say."""
    return profile.channel_alignment.of(profile.float_dtype or "int8") or 1


def least_step(cost_of: Callable[[int], float], steps: int, wanted: float) -> int:
    """The least step whose cost is at most the wanted one, found by bisection; the last where none is.

    Where the cost rises now and then (estimated latency may), a step is returned that meets the wanted cost, if not the least.
    """
    if cost_of(0) <= wanted:
        return 0
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost_of(middle) <= wanted else (middle, high)
    return high


class Ranking:
    """Which units stay at each step: at step s of `steps` every class of groups has lost s / steps of its units.

    Each group keeps its best ones whatever happens, as many as the floor asks for; then its width is rounded down.
    """

    def __init__(
        self, groups: Sequence[ChannelGroup], scores: Sequence[Tensor], grouping: str, most_removed: float, round_to: int
    ) -> None:
        self.scores, self.round_to = scores, round_to
        self.steps = sum(group.units for group in groups)
        units: dict[str, int] = defaultdict(int)
        free: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for number, (group, own) in enumerate(zip(groups, scores, strict=True)):
            name, ascending = group.pattern if grouping == "isomorphic" else "", sorted(own.tolist())
            floor = math.ceil(len(ascending) * (1 - most_removed) / round_to - 1e-9) * round_to
            units[name] += len(ascending)
            free[name] += [(score, number) for score in ascending[: max(0, len(ascending) - floor)] if math.isfinite(score)]
        self.classes = [(units[name], [number for _, number in sorted(entries)]) for name, entries in free.items()]
        """Units of each class of groups, and for every one that may go its group, least important first."""

    def kept(self, step: int) -> tuple[Tensor, ...]:
        """For each group the units that stay, ascending."""
        gone = [0] * len(self.scores)
        for units, order in self.classes:
            for number in order[: units * step // self.steps]:
                gone[number] += 1
        return tuple(self._best(scores, len(scores) - lost) for scores, lost in zip(self.scores, gone, strict=True))

    def _best(self, scores: Tensor, count: int) -> Tensor:
        if count < len(scores):
            count -= count % self.round_to
        return scores.sort(descending=True, stable=True).indices[:count].sort().values
