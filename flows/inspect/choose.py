"""How an unknown file is fed and read: everything that fits its shapes, judged by the labels of val.

One run of the file per way of feeding it; all ways of reading share its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from numpy.typing import NDArray

from detection.boxes import Resize, fit_of, fitted, select
from detection.data.labelled import Picture
from detection.evaluation import IOU_THRESHOLD, MOST_DETECTIONS, SCORE_THRESHOLD, accuracy, as_coco
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import Colour, FileInterface, PictureForm
from detection.file_interface.outputs import contradiction
from detection.frozen import InputError
from flows.progress import steps
from flows.stats.map_bootstrap import Difference, paired_map_difference

FEW = 12
"""Pictures by which ways of reading are told apart: the wrong ones find next to nothing."""
LEAST_MAP_50 = 0.1
"""What the best way of reading has to reach; wrong ones stay below a tenth of the right one's."""
DRAWS, SEED = 500, 0
NUMBERS: dict[str, dict[str, Any]] = {
    "0 to 1": {},
    "0 to 255": {"scale": 1.0},
    "-1 to 1": {"scale": 127.5, "mean": (1.0, 1.0, 1.0)},
    "ImageNet's mean and deviation": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "ImageNet's mean and deviation in blue, green, red": {"mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229)},
    "0 to 255 less ImageNet's mean": {"scale": 1.0, "mean": (123.675, 116.28, 103.53)},
    "0 to 255 less ImageNet's mean in blue, green, red": {"scale": 1.0, "mean": (103.53, 116.28, 123.675)},
}
"""What detectors are trained on -> the settings of `detector.input` that give it."""
FIRST = ("0 to 1", "0 to 255", "ImageNet's mean and deviation")
"""Tried while the way of reading is not known: one of them is near enough to any."""
COLOURS: tuple[Colour, ...] = ("rgb", "bgr")
RESIZES: tuple[Resize, ...] = ("letterbox", "stretch")
Call = Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
"""An opened file."""


class Feeding(NamedTuple):
    """One way of bringing pictures into the file."""

    numbers: str
    colour: Colour
    resize: Resize

    @property
    def form(self) -> PictureForm:
        """What of it stands in `detector.input`."""
        return PictureForm(colour=self.colour, **NUMBERS[self.numbers])


@dataclass(frozen=True)
class Read:
    """One way of reading the outputs, and how well it does."""

    preset: str
    decoding: Decoding
    map_50: float | None
    """The best of the feedings tried, on few pictures; None where the values contradict it."""
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
class Choice:
    """What was found; the lists are whole, best first."""

    read: tuple[Read, ...]
    fed: tuple[tuple[Feeding, float], ...]
    """With mAP 50-95 on all pictures, by the best way of reading."""
    axes: tuple[Axis, ...]
    map_50_95: float
    map_50: float


class _Pictures:
    """Labelled pictures and the file that looks at them."""

    def __init__(
        self, file: FileInterface, call: Call, size: tuple[int, int], pictures: Sequence[Picture], names: Sequence[str]
    ) -> None:
        self.file, self.call, self.size = file, call, size
        self.pixels = [picture.pixels() for picture in pictures]
        self.fits = {how: [fit_of(own.size, size, how) for own in pictures] for how in RESIZES}
        self.truth = _ground_truth(pictures, names)
        self._outputs: dict[tuple[Feeding, int], Sequence[NDArray[Any]]] = {}

    def outputs(self, feeding: Feeding, row: int) -> Sequence[NDArray[Any]]:
        """What the file says of one picture; each is run once."""
        if (feeding, row) not in self._outputs:
            own = self.file.model_copy(update={"picture": feeding.form})
            self._outputs[feeding, row] = self.call(own.tensor(fitted(self.pixels[row], self.size, feeding.resize)))
        return self._outputs[feeding, row]

    def detections(self, feeding: Feeding, decoding: Decoding, count: int) -> list[dict[str, Any]]:
        """COCO results of the first pictures."""
        own, found = self.file.model_copy(update={"decoding": decoding}), []
        for row in range(count):
            boxes, scores = own.boxes_and_scores(self.outputs(feeding, row), self.size)
            suppressed_above = IOU_THRESHOLD if decoding.select == "nms" else None
            final = select(boxes[0], scores[0], SCORE_THRESHOLD, suppressed_above, MOST_DETECTIONS)
            found += as_coco(final, self.fits[feeding.resize][row], row + 1)
        return found

    def first(self, count: int) -> dict[str, Any]:
        """The ground truth of the first pictures."""
        annotations = [own for own in self.truth["annotations"] if own["image_id"] <= count]
        return self.truth | {"images": self.truth["images"][:count], "annotations": annotations}


def choose(
    file: FileInterface, call: Call, size: tuple[int, int], candidates: Sequence[tuple[str, Decoding]], pictures: Sequence[Picture],
    names: Sequence[str],
) -> Choice:  # fmt: skip
    """The way of feeding and reading that finds most of what is labelled; InputError where none finds enough.

    `file` says what is known without looking: layout, type, outputs, classes. `size` is (height, width) in pixels, `names` are the
    data's classes.
    """
    seen = _Pictures(file, call, size, pictures, names)
    read = _ways_of_reading(seen, candidates)
    best = read[0]
    if best.map_50 is None or best.map_50 < LEAST_MAP_50:
        raise InputError(none_fits(read))
    feedings = [Feeding(*parts) for parts in product(NUMBERS, COLOURS, RESIZES)]
    if file.dtype == "uint8":
        feedings = [own for own in feedings if own.numbers == "0 to 255"]
    tried = steps(feedings, len(feedings), "inspect", "ways of feeding")
    results = {own: seen.detections(own, best.decoding, len(pictures)) for own in tried}
    reached = {own: accuracy(seen.truth, found) for own, found in results.items()}
    fed = sorted(((own, found.map_50_95) for own, found in reached.items()), key=lambda entry: -entry[1])
    chosen = fed[0][0]
    return Choice(
        read=tuple(read),
        fed=tuple(fed),
        axes=tuple(_axes(seen.truth, results, [own for own, _ in fed])),
        map_50_95=reached[chosen].map_50_95,
        map_50=reached[chosen].map_50,
    )


def _ways_of_reading(seen: _Pictures, candidates: Iterable[tuple[str, Decoding]]) -> list[Read]:
    """All of them, the best first; those that values contradict last."""
    count = min(FEW, len(seen.pixels))
    feedings = [Feeding(*parts) for parts in product(FIRST, COLOURS, RESIZES[:1])]
    found = []
    for preset, decoding in candidates:
        own = seen.file.model_copy(update={"decoding": decoding})
        outputs = dict(zip(own.outputs, seen.outputs(feedings[0], 0), strict=True))
        why_not = contradiction(decoding, outputs, seen.size, own.classes)
        scored = (accuracy(seen.first(count), seen.detections(feeding, decoding, count)).map_50 for feeding in feedings)
        found.append(Read(preset, decoding, None if why_not else max(scored), why_not))
    return sorted(found, key=lambda own: -1.0 if own.map_50 is None else own.map_50, reverse=True)


def _axes(truth: dict[str, Any], results: Mapping[Feeding, list[dict[str, Any]]], ranked: Sequence[Feeding]) -> Iterable[Axis]:
    """For each part of the best feeding, the best one that differs in it."""
    best = ranked[0]
    for name in Feeding._fields:
        others = [own for own in ranked if getattr(own, name) != getattr(best, name)]
        if others:
            difference = paired_map_difference(truth, results[best], results[others[0]], seed=SEED, draws=DRAWS)
            yield Axis(name, getattr(best, name), getattr(others[0], name), difference)


def none_fits(read: Sequence[Read]) -> str:
    """What to say where no way of reading finds what is labelled."""
    if not read:
        return "no preset takes outputs of these shapes. Declare the parts of `detector.decode` (docs/your-detector.md)."
    reached = "none" if read[0].map_50 is None else f"{read[0].preset} finds most, mAP50 {read[0].map_50:.3f}"
    return (
        f"none of {len(read)} ways of reading the outputs finds what is labelled ({reached}; {LEAST_MAP_50:g} is needed). "
        f"Are these pictures of what it was trained on, and its classes listed in the order of its scores? If so, "
        f"declare `detector.input` and the parts of `detector.decode` (docs/your-detector.md)."
    )


def _ground_truth(pictures: Sequence[Picture], names: Sequence[str]) -> dict[str, Any]:
    """COCO's format; ids from 1 in the order given."""
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, start=1):
        for box, label, crowd in zip(picture.boxes_xyxy_px, picture.labels, picture.crowd, strict=True):
            x1, y1, x2, y2 = (float(side) for side in box)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": int(label) + 1, "iscrowd": int(crowd),
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
            })  # fmt: skip
    images = [
        {"id": image_id, "file_name": own.file_name, "height": own.size[0], "width": own.size[1]}
        for image_id, own in enumerate(pictures, start=1)
    ]
    categories = [{"id": label, "name": name} for label, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
