"""How an unknown file is fed and read: everything that fits it, judged by labelled pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detection.boxes import Detections
from detection.data.labelled import Picture
from detection.evaluation import Accuracy
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface
from detection.frozen import InputError
from flows.inspect.feeding import Feeding
from flows.inspect.search import LEAST_MAP_50, USUAL_RUN_S, Search, Tried, Way
from flows.inspect.trials import Call, Trials
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
    difference: Difference
    """Of mAP, the other minus this one."""

    @property
    def decided(self) -> bool:
        """Whether the interval excludes that they are equal."""
        return self.difference.high < 0.0


@dataclass(frozen=True)
class Rival:
    """Another way of reading that val does not tell from the chosen one, although its detections differ."""

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
    pictures: int
    accuracy: Accuracy
    """On these pictures."""
    boxes: Mapping[str, int]
    """How many of each class are labelled in them."""
    read: tuple[Read, ...]
    """All of them, best first."""
    fed: tuple[tuple[Feeding, Tried], ...]
    """All of them, best first, by the chosen way of reading."""
    axes: tuple[Axis, ...]
    rivals: tuple[Rival, ...]


def choose(
    file: FileInterface, call: Call, size: tuple[int, int], feedings: Sequence[Feeding], candidates: Sequence[tuple[str, Decoding]],
    pictures: Sequence[Picture], names: Sequence[str], run_s: float = USUAL_RUN_S,
) -> Choice:  # fmt: skip
    """The way of feeding and reading that finds most of what is labelled, the first among equals; InputError where none does.

    `file` says what is known without looking: layout, type, outputs, classes. `size` is (height, width) in pixels, `names` are the
    data's classes. Two pictures or more have labelled objects. `run_s` is what one run takes.
    """
    trials = Trials(file, call, size, pictures, names)
    search = Search(trials, feedings, [decoding for _, decoding in candidates])
    search.go_through(run_s)
    presets = {decoding: preset for preset, decoding in candidates}
    if not search.found:
        raise InputError(none_fits(search, presets))
    best = _chosen(search)
    truth = trials.truth_of(search.pictures)
    labelled = Counter(own["category_id"] for own in truth["annotations"] if not own["iscrowd"])
    compared = _Compared(search, best)
    return Choice(
        feeding=best.feeding,
        preset=presets[best.decoding],
        decoding=best.decoding,
        pictures=search.pictures,
        accuracy=trials.accuracy(*best, search.pictures),
        boxes={own["name"]: labelled[own["id"]] for own in truth["categories"]},
        read=tuple(sorted(_read(search, presets), key=lambda own: own.tried or Tried(0, 0.0, 0.0), reverse=True)),
        fed=tuple(sorted(_fed(search, best.decoding), key=lambda own: own[1], reverse=True)),
        axes=tuple(compared.axes()),
        rivals=tuple(compared.rivals(presets)),
    )


def none_fits(search: Search | None, presets: Mapping[Decoding, str]) -> str:
    """What to say where no way of reading finds what is labelled, or no preset takes the outputs."""
    if search is None:
        return "no preset takes outputs of these shapes. Declare the parts of `detector.decode` (docs/your-detector.md)."
    best = search.ranked[:1]
    reached = "" if not best else f"{presets[best[0].decoding]} finds most, mAP50 {search.tried[best[0]].map_50:.3f}; "
    said = f"none of {len(presets)} ways of reading the outputs finds what is labelled ({reached}{LEAST_MAP_50:g} is the least)."
    if one_class := _right_but_for_classes(search):
        return (
            f"{said} Where classes do not count, {presets[one_class[0].decoding]} reaches {one_class[1]:.3f}: "
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
        way: search.trials.accuracy(*way, search.pictures, one_class=True).map_50
        for way in steps(ways, len(ways), "inspect: classes left out", "ways")
    }
    best = max(reached.items(), key=lambda own: own[1], default=None)
    return best if best and best[1] >= ONE_CLASS_MAP_50 else None


def _chosen(search: Search) -> Way:
    """The best way; of several that detect the same, the first that needs no suppression, then the first."""
    feeding, decoding = search.ranked[0]
    found = search.trials.detections(feeding, decoding, search.pictures)
    same = [own.decoding for own in search.left if own.feeding == feeding and _alike(found, _detections(search, own))]
    return Way(feeding, min(same, key=lambda own: own.select == "nms"))


def _detections(search: Search, way: Way) -> list[Detections]:
    return search.trials.detections(*way, search.pictures)


def _alike(ours: Sequence[Detections], theirs: Sequence[Detections]) -> bool:
    """Whether each detection of one is among those of the other, picture by picture."""
    return all(_within(a, b) and _within(b, a) for a, b in zip(ours, theirs, strict=True))


def _within(ours: Detections, theirs: Detections) -> bool:
    seen = ours.scores >= LEAST_SCORE
    apart_px = np.abs(ours.boxes_xyxy_px[seen][:, None] - theirs.boxes_xyxy_px).max(-1)  # (n, m)
    apart = np.abs(ours.scores[seen][:, None] - theirs.scores)
    same = (apart_px < ALIKE_PX) & (apart < ALIKE_SCORE) & (ours.labels[seen][:, None] == theirs.labels)
    return bool(same.any(1).all())


def _read(search: Search, presets: Mapping[Decoding, str]) -> Iterator[Read]:
    reached: dict[Decoding, Tried] = {}
    for way, tried in search.tried.items():
        reached[way.decoding] = max(tried, reached.get(way.decoding, tried))
    for decoding, preset in presets.items():
        why_not = search.trials.why_not(search.feedings[0], decoding)
        yield Read(preset, decoding, reached.get(decoding), None if decoding in reached else why_not)


def _fed(search: Search, decoding: Decoding) -> Iterator[tuple[Feeding, Tried]]:
    for feeding in search.feedings:
        yield feeding, search.tried.get(Way(feeding, decoding), Tried(0, 0.0, 0.0))


class _Compared:
    """The best way and others on the same pictures, by a paired bootstrap."""

    def __init__(self, search: Search, best: Way) -> None:
        self.search, self.best = search, best
        self.aps = self._drawn(best)

    def axes(self) -> Iterator[Axis]:
        """Each part of the feeding against the best of its other values."""
        for name, other in self.search.rivals():
            difference = drawn_difference(self.aps, self._drawn(Way(other, self.best.decoding)))
            yield Axis(name, getattr(self.best.feeding, name), getattr(other, name), difference)

    def rivals(self, presets: Mapping[Decoding, str]) -> Iterator[Rival]:
        """Ways of reading that detect something else and are not worse beyond doubt."""
        best = _detections(self.search, self.best)
        for way in self.search.left:
            if way.feeding == self.best.feeding and not _alike(best, _detections(self.search, way)):
                difference = drawn_difference(self.aps, self._drawn(way))
                if difference.high >= 0.0:
                    yield Rival(presets[way.decoding], way.decoding, difference)

    def _drawn(self, way: Way) -> np.typing.NDArray[np.float64]:
        truth = self.search.trials.truth_of(self.search.pictures)
        return drawn_aps(truth, self.search.results(way), seed=SEED, draws=DRAWS)
