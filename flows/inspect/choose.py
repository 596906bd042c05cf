"""How an unknown file is fed and read: everything that fits it, judged by labelled pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detection.boxes import Detections
from detection.data.labelled import Picture
from detection.evaluation import Accuracy
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface
from detection.frozen import InputError
from flows.inspect.feeding import AXES, Feeding
from flows.inspect.search import LEAST_MAP_50, UNTRIED, Search, Tried
from flows.inspect.trials import Call, Trials, Way
from flows.progress import steps
from flows.stats.map_bootstrap import Difference, drawn_aps, drawn_difference

ONE_CLASS_MAP_50 = 0.3
"""Where classes do not count, from here on the boxes are right."""
DRAWS, SEED = 500, 0
ALIKE_PX, ALIKE_SCORE, LEAST_SCORE = 0.5, 1e-3, 0.01
"""Detections that differ by less are the same; those with a score below the last do not matter."""


@dataclass(frozen=True)
class Read:
    """One way of reading the outputs."""

    preset: str
    decoding: Decoding
    tried: Tried | None
    """By the best of the feedings; None where the values contradict it in all of them."""
    why_not: str | None = None


@dataclass(frozen=True)
class Axis:
    """One part of the feeding: what it is set to, and whether val tells that from the next best."""

    name: str
    value: str
    other: str
    planned: str
    """What the plan has, or the default."""
    difference: Difference
    """Of mAP, the other minus this one."""

    @property
    def decided(self) -> bool:
        """Whether the interval excludes that they are equal."""
        return self.difference.high < 0.0

    @property
    def matters(self) -> bool:
        """Whether another value changes anything: pictures of the input's own shape are neither padded nor stretched."""
        return (self.difference.low, self.difference.high) != (0.0, 0.0)


@dataclass(frozen=True)
class Rival:
    """Another way of reading, whose detections differ from those of the chosen one."""

    preset: str
    decoding: Decoding
    difference: Difference
    """Of mAP, this one minus the chosen one."""


@dataclass(frozen=True)
class Choice:
    """What was found."""

    feeding: Feeding
    preset: str
    decoding: Decoding
    as_declared: bool
    """Whether the plan has this decoding."""
    pictures: int
    accuracy: Accuracy
    """On these pictures."""
    read: tuple[Read, ...]
    """All of them, best first."""
    fed: tuple[tuple[Feeding, Tried], ...]
    """All of them, best first, by the chosen way of reading."""
    axes: tuple[Axis, ...]
    rivals: tuple[Rival, ...]
    """Those that val does not tell from the chosen one."""
    beaten: Rival | None
    """What the plan declares, where that finds less."""
    mistaken: Mapping[str, str]
    """Classes whose objects are mostly found as those of another one, and that one."""


class NoFitError(InputError):
    """No way of reading finds what is labelled."""

    def __init__(self, message: str, read: tuple[Read, ...]) -> None:
        super().__init__(message)
        self.read = read


def choose(
    file: FileInterface, call: Call, size: tuple[int, int], feedings: Sequence[Feeding], candidates: Sequence[tuple[str, Decoding]],
    pictures: Sequence[Picture], names: Sequence[str], declared: Decoding | None = None,
) -> Choice:  # fmt: skip
    """The way of feeding and reading that finds most of what is labelled; NoFitError where none does.

    What val does not tell apart stays as in the plan: the first of the feedings, and the candidate that is `declared`; without
    one the first that finds most. `file` says what is known without looking: layout, type, outputs, classes. `size` is (height,
    width) in pixels, `names` are the data's classes. Two pictures or more have labelled objects.
    """
    trials = Trials(file, call, size, pictures, names)
    search = Search(trials, feedings, [decoding for _, decoding in candidates], declared)
    search.go_through()
    presets = {decoding: preset for preset, decoding in candidates}
    read = tuple(sorted(_read(search, presets), key=lambda own: own.tried or UNTRIED, reverse=True))
    compared = _Compared(search)
    if not search.found or not compared.looks():
        raise NoFitError(_none_fits(search, presets), read)
    best = compared.chosen()
    fed = [(own, search.tried.get(Way(own, best.decoding), UNTRIED)) for own in feedings]
    others = [Rival(presets[way.decoding], way.decoding, difference) for way, difference in compared.readings(best)]
    beaten = None
    if declared and declared != best.decoding:
        beaten = Rival(presets[declared], declared, compared.difference(best, Way(best.feeding, declared)))
    return Choice(
        feeding=best.feeding,
        preset=presets[best.decoding],
        decoding=best.decoding,
        as_declared=best.decoding == declared,
        pictures=search.pictures,
        accuracy=trials.accuracy(best, search.pictures),
        read=read,
        fed=tuple(sorted(fed, key=lambda own: own[1], reverse=True)),
        axes=tuple(compared.axes(best)),
        rivals=tuple(own for own in others if own.difference.high >= 0.0),
        beaten=beaten,
        mistaken=trials.mistaken(best, search.pictures),
    )


def _none_fits(search: Search, presets: Mapping[Decoding, str]) -> str:
    best = search.ranked[:1]
    reached = "" if not best else f"{presets[best[0].decoding]} finds most, mAP50 {search.tried[best[0]].map_50:.3f}; "
    said = f"none fits: none of {len(presets)} ways of reading the outputs finds what is labelled "
    if search.found:
        return f"{said}({reached}detections of another picture find as much). Is the file trained?"
    said += f"({reached}{LEAST_MAP_50:g} is the least)."
    if one_class := _right_but_for_classes(search):
        way, map_50 = one_class
        mistaken = search.trials.mistaken(way, search.pictures)
        return (
            f"{said} Where classes do not count, {presets[way.decoding]} reaches {map_50:.3f}"
            f"{''.join(f'; {name} is found as {other}' for name, other in mistaken.items())}: "
            "list `detector.classes` in the order of the file's scores."
        )
    return (
        f"{said} Are these pictures of what it was trained on? If so, declare `detector.input` and the parts of "
        "`detector.decode` (docs/your-detector.md)."
    )


def _right_but_for_classes(search: Search) -> tuple[Way, float] | None:
    """The way that finds the objects, but not their classes, and its mAP50 as if there was one class; None where none does."""
    ways = search.left if len(search.trials.truth["categories"]) > 1 else []
    reached = {
        way: search.trials.accuracy(way, search.pictures, one_class=True).map_50
        for way in steps(ways, len(ways), "inspect: classes left out", "ways")
    }
    best = max(reached.items(), key=lambda own: own[1], default=None)
    return best if best and best[1] >= ONE_CLASS_MAP_50 else None


def _read(search: Search, presets: Mapping[Decoding, str]) -> Iterator[Read]:
    reached: dict[Decoding, Tried] = {}
    for way, tried in search.tried.items():
        reached[way.decoding] = max(tried, reached.get(way.decoding, tried))
    for decoding, preset in presets.items():
        why_not = search.trials.why_not(Way(search.feedings[0], decoding))
        yield Read(preset, decoding, reached.get(decoding), None if decoding in reached else why_not)


class _Compared:
    """Ways that are left, on the same pictures, by a paired bootstrap."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._aps: dict[tuple[Way, bool], np.typing.NDArray[np.float64]] = {}

    def looks(self) -> bool:
        """Whether what the best finds depends on the picture: it fits another picture's objects worse."""
        best = self.search.ranked[0]
        return drawn_difference(self._drawn(best), self._drawn(best, elsewhere=True)).high < 0.0

    def chosen(self) -> Way:
        """The best way; of what val does not tell from it, what the plan has.

        Of several that detect the same as the best, the first that needs no suppression, then the first.
        """
        first, plan = self.search.ranked[0], self.search.feedings[0]
        same = [own.decoding for own in self.search.left if own.feeding == first.feeding and self._alike(first, own)]
        equal = [own.decoding for own, difference in self.readings(first) if difference.high >= 0.0]
        declared = self.search.declared
        decoding = declared if declared in (*same, *equal) else min(same, key=lambda own: own.select == "nms")
        read = Way(first.feeding, decoding)
        fed = [own for own in self.search.ranked if own.decoding == decoding and self.difference(read, own).high >= 0.0]
        return max(fed, key=lambda own: sum(getattr(own.feeding, axis) == getattr(plan, axis) for axis in AXES))

    def axes(self, best: Way) -> Iterator[Axis]:
        """Each part of the feeding against the best of its other values."""
        for name, other in self.search.rivals(best):
            value, another, planned = (getattr(own, name) for own in (best.feeding, other.feeding, self.search.feedings[0]))
            yield Axis(name, value, another, planned, self.difference(best, other))

    def readings(self, best: Way) -> Iterator[tuple[Way, Difference]]:
        """Ways of reading that detect something else with the same feeding, and what they find more."""
        for way in self.search.left:
            if way.feeding == best.feeding and not self._alike(best, way):
                yield way, self.difference(best, way)

    def difference(self, best: Way, other: Way) -> Difference:
        """Of mAP, the other minus the best; a way that was left out before the last round counts as finding nothing."""
        return drawn_difference(self._drawn(best), self._drawn(other))

    def _alike(self, best: Way, other: Way) -> bool:
        """Whether each detection of one is among those of the other, picture by picture."""
        found = (self.search.trials.detections(way, self.search.pictures) for way in (best, other))
        return all(_within(a, b) and _within(b, a) for a, b in zip(*found, strict=True))

    def _drawn(self, way: Way, *, elsewhere: bool = False) -> np.typing.NDArray[np.float64]:
        if (way, elsewhere) not in self._aps:
            trials, count = self.search.trials, self.search.pictures
            looked = way in self.search.left
            truth, found = trials.scored(way, count, elsewhere=elsewhere) if looked else (trials.truth_of(count), [])
            self._aps[way, elsewhere] = drawn_aps(truth, found, seed=SEED, draws=DRAWS)
        return self._aps[way, elsewhere]


def _within(ours: Detections, theirs: Detections) -> bool:
    seen = ours.scores >= LEAST_SCORE
    apart_px = np.abs(ours.boxes_xyxy_px[seen][:, None] - theirs.boxes_xyxy_px).max(-1)  # (n, m)
    apart = np.abs(ours.scores[seen][:, None] - theirs.scores)
    same = (apart_px < ALIKE_PX) & (apart < ALIKE_SCORE) & (ours.labels[seen][:, None] == theirs.labels)
    return bool(same.any(1).all())
