"""The search for the way in which an unknown file is used: few pictures for all ways, more for the better, all for the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from time import process_time
from typing import NamedTuple

from detection.file_interface.declaration import Decoding
from flows.inspect.feeding import AXES, Feeding
from flows.inspect.trials import Trials, Way
from flows.progress import steps

LEAST_MAP_50 = 0.1
"""What the right way reaches at least; wrong ones stay below a tenth of it."""
HOPELESS = 0.5
"""What reaches less than this share of the best is not tried on more pictures, except one rival for each part of the feeding."""


class Round(NamedTuple):
    """How many feedings are tried on how many pictures."""

    feedings: int | None
    pictures: int
    least: int
    """Pictures for networks that take longer."""


ROUNDS = (Round(None, 4, 2), Round(8, 12, 4), Round(5, 48, 8))
USUAL_LOOK_S = 0.1
"""Of a network of 2 GFLOP on one core: 28 x 4 + 8 x 8 + 5 x 36 = 356 looks take 36 s. Slower ones look at fewer pictures."""


class Tried(NamedTuple):
    """How well a way did, on the pictures of the last round that it was in."""

    pictures: int
    map_50_95: float
    map_50: float


UNTRIED = Tried(0, 0.0, 0.0)


class Search:
    """Ways of using a file, of which fewer and fewer are left."""

    def __init__(
        self, trials: Trials, feedings: Sequence[Feeding], decodings: Sequence[Decoding], declared: Decoding | None = None
    ) -> None:
        """The first feeding is the plan's own and `declared` its own decoding, if it has one: they are compared to the end."""
        self.trials, self.feedings, self.declared = trials, feedings, declared
        self.pictures = 0
        self.left = [Way(*own) for own in product(feedings, decodings)]
        self.tried: dict[Way, Tried] = {}

    @property
    def ranked(self) -> list[Way]:
        """What is left, best first; equals in the order given."""
        return sorted(self.left, key=lambda own: -self.tried[own].map_50_95)

    @property
    def found(self) -> bool:
        """Whether the best finds enough to be the right one."""
        return max((self.tried[own].map_50 for own in self.left if own in self.tried), default=0.0) >= LEAST_MAP_50

    def go_through(self) -> None:
        """All rounds, or as many as it takes to see that nothing fits; on fewer pictures where a look at one takes longer."""
        look_s = [self._look_s(row) for row in (0, 1)][1]  # the first also does what is done once
        for own in ROUNDS:
            if own.feedings is not None and self.found:
                self._leave_out(own.feedings)
            count = max(own.least, round(own.pictures * USUAL_LOOK_S / max(look_s, USUAL_LOOK_S)))
            self._try_on(min(count, len(self.trials.pictures)))
            if own is not ROUNDS[0] and not self.found:
                return

    def rivals(self, best: Way) -> Iterator[tuple[str, Way]]:
        """For each part of the feeding that has several values, the best way that differs in it and is read the same."""
        for axis in AXES:
            others = [own for own in self.feedings if getattr(own, axis) != getattr(best.feeding, axis)]
            if others:
                ways = (Way(own, best.decoding) for own in others)
                yield axis, max(ways, key=lambda own: self.tried.get(own, UNTRIED))

    def _look_s(self, row: int) -> float:
        """Seconds of processor time that one picture takes: what else runs here must not decide how many are looked at."""
        started_s = process_time()
        self.trials.look(self.feedings[0], list(dict.fromkeys(way.decoding for way in self.left)), row)
        return process_time() - started_s

    def _try_on(self, count: int) -> None:
        """Score what is left on the first pictures."""
        feedings = dict.fromkeys(way.feeding for way in self.left)
        decodings = {own: [way.decoding for way in self.left if way.feeding == own] for own in feedings}
        runs = list(product(feedings, range(count)))
        for feeding, row in steps(runs, len(runs), f"inspect: {len(feedings)} ways of feeding, {count} pictures", "runs"):
            self.trials.look(feeding, decodings[feeding], row)
        self.left = [way for way in self.left if not self.trials.why_not(way)]
        for way in self.left:
            reached = self.trials.accuracy(way, count)
            self.tried[way] = Tried(count, reached.map_50_95, reached.map_50)
        self.pictures = count

    def _leave_out(self, most_feedings: int) -> None:
        ranked = self.ranked
        good = [own for own in ranked if self.tried[own].map_50_95 >= HOPELESS * self.tried[ranked[0]].map_50_95]
        own = [way.feeding for way in good if way.feeding == self.feedings[0]]
        rivals = [way.feeding for _, way in self.rivals(ranked[0])]
        kept = list(dict.fromkeys([ranked[0].feeding, *rivals, *own, *(way.feeding for way in good)]))[:most_feedings]
        decodings = {self.declared, *(way.decoding for way in good)}
        self.left = [way for way in self.left if way.feeding in kept and way.decoding in decodings]
