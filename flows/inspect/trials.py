"""An unknown file looks at labelled pictures, fed in several ways; what it says is read in several ways and then forgotten."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detection.boxes import Array, Detections, Fit, Resize, fit_of, fitted, pairwise_iou, select
from detection.data.labelled import Picture
from detection.evaluation import IOU_THRESHOLD, MOST_DETECTIONS, SCORE_THRESHOLD, Accuracy, accuracy, as_coco
from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import FileInterface, PictureForm
from detection.file_interface.outputs import contradiction, decode
from flows.inspect.feeding import RESIZES, Feeding
from flows.prepare.stage import GroundTruth

Call = Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
"""An opened file."""
Coco = dict[str, Any]
"""Ground truth, or one result, as COCO has it."""
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
SURE, NEARLY_ALL = 0.5, 0.9
"""A score above the first is an object; no detector says so of more than the second of its points."""
CANDIDATES = 1000
"""Pairs of point and class that enter the suppression."""
RIGHT, ENOUGH = 0.5, 5
"""Intersection over union from which on a box is the object's, and how many such boxes tell what a class is taken for."""


class Way(NamedTuple):
    """Of using a file."""

    feeding: Feeding
    decoding: Decoding


class Trials:
    """Labelled pictures, the file that looks at them, and what it has found so far."""

    def __init__(
        self, file: FileInterface, call: Call, size: tuple[int, int], pictures: Sequence[Picture], names: Sequence[str]
    ) -> None:
        self.file, self.call, self.size, self.pictures = file, call, size, pictures
        self.fits = [{how: fit_of(own.size, size, how) for how in RESIZES} for own in pictures]
        self._fitted: dict[tuple[int, Fit], NDArray[np.uint8]] = {}
        self._seen: dict[tuple[int, Fit, PictureForm, Decoding], Detections | str] = {}
        self._why_not: dict[Way, str] = {}
        truth = GroundTruth(tuple(names))
        for own in pictures:
            truth.add(own)
        self.truth = truth.coco

    def look(self, feeding: Feeding, decodings: Sequence[Decoding], row: int) -> None:
        """Have the file look at one picture, unless it has seen the same tensor, and read what it says in all these ways."""
        fit = self.fits[row][feeding.resize]
        missing = [own for own in decodings if (row, fit, feeding.form, own) not in self._seen]
        if missing:
            tensor = self.file.model_copy(update={"picture": feeding.form}).tensor(self._picture(row, feeding.resize))
            outputs = dict(zip(self.file.outputs, self.call(tensor), strict=True))
            known: dict[Decoding, _Scores] = {}
            for own in missing:  # values that contradict it once are enough
                self._seen[row, fit, feeding.form, own] = self._why_not.get(Way(feeding, own)) or self._read(own, outputs, known)
        for own in decodings:
            if isinstance(why_not := self._seen[row, fit, feeding.form, own], str):
                self._why_not.setdefault(Way(feeding, own), why_not)

    def why_not(self, way: Way) -> str | None:
        """What the values for one of the pictures say against this way of reading, or None."""
        return self._why_not.get(way)

    def detections(self, way: Way, count: int) -> list[Detections]:
        """What was found in each of the first pictures, in pixels of the input; nothing where values contradict."""
        fits = (own[way.feeding.resize] for own in self.fits[:count])
        found = (self._seen[row, fit, way.feeding.form, way.decoding] for row, fit in enumerate(fits))
        return [NOTHING if isinstance(own, str) else own for own in found]

    def scored(self, way: Way, count: int, *, one_class: bool = False, elsewhere: bool = False) -> tuple[Coco, list[Coco]]:
        """Ground truth and results on the first pictures, as COCO has them.

        With `one_class` as if all objects were of the same; with `elsewhere` as if what was found in each was found in the next.
        """
        truth, found = self.truth_of(count), self.detections(way, count)
        rows = enumerate(found[-1:] + found[:-1] if elsewhere else found)
        results = list(chain.from_iterable(as_coco(own, self.fits[row][way.feeding.resize], row + 1) for row, own in rows))
        if one_class:
            only = {"category_id": truth["categories"][0]["id"]}
            truth = truth | {"categories": truth["categories"][:1], "annotations": [own | only for own in truth["annotations"]]}
            return truth, [own | only for own in results]
        present = {own["id"] for own in truth["categories"]}  # detections of others have no part in mAP, and take time
        return truth, [own for own in results if own["category_id"] in present]

    def accuracy(self, way: Way, count: int, *, one_class: bool = False) -> Accuracy:
        """COCO's mAP on the first pictures; with `one_class` as if all objects were of the same."""
        return accuracy(*self.scored(way, count, one_class=one_class))

    def mistaken(self, way: Way, count: int) -> dict[str, str]:
        """Classes whose objects are mostly found as those of another class, and that one, where its own are found as others too."""
        found_as: dict[int, Counter[int]] = defaultdict(Counter)
        for own, fits, found in zip(self.pictures, self.fits, self.detections(way, count), strict=False):
            boxes = own.boxes_xyxy_px, fits[way.feeding.resize].to_original(found.boxes_xyxy_px)
            overlap = pairwise_iou(*map(torch.from_numpy, boxes)).numpy()  # (objects, detections)
            for label, right in zip(own.labels[~own.crowd].tolist(), overlap[~own.crowd] >= RIGHT, strict=True):
                found_as[label].update(found.labels[right][:1].tolist())  # best first
        mostly = {label: counts.most_common(1)[0][0] for label, counts in sorted(found_as.items()) if counts.total() >= ENOUGH}
        names = [own["name"] for own in self.truth["categories"]]
        return {names[own]: names[other] for own, other in mostly.items() if mostly.get(other, other) != other}

    def truth_of(self, count: int) -> Coco:
        """The ground truth of the first pictures and of the classes that have objects in them."""
        annotations = [own for own in self.truth["annotations"] if own["image_id"] <= count]
        present = {own["category_id"] for own in annotations if not own["iscrowd"]}
        return {
            "images": self.truth["images"][:count],
            "annotations": [own for own in annotations if own["category_id"] in present],
            "categories": [own for own in self.truth["categories"] if own["id"] in present],
        }

    def _picture(self, row: int, resize: Resize) -> NDArray[np.uint8]:
        """A picture as it comes into the input; the whole one is read once and not kept."""
        if (row, self.fits[row][resize]) not in self._fitted:
            pixels = self.pictures[row].pixels()
            self._fitted |= {(row, fit): fitted(pixels, self.size, how) for how, fit in self.fits[row].items()}
        return self._fitted[row, self.fits[row][resize]]

    def _read(self, decoding: Decoding, outputs: dict[str, NDArray[Any]], known: dict[Decoding, _Scores]) -> Detections | str:
        """What was found, or why the values contradict the declaration; decodings that differ in boxes alone share their scores."""
        if why_not := contradiction(decoding, outputs, self.size, self.file.classes):
            return why_not
        reading = decoding.model_copy(update={"boxes": None, "select": "nms"})
        boxes_px, scores = decode(decoding, outputs, self.size, self.file.classes, known[reading].all if reading in known else None)
        if reading not in known:
            own = scores if self.file.columns is None else scores[:, list(self.file.columns)]
            # the best pairs of point and class are among as many best points, which take a tenth of the time to find
            best = np.sort(np.argsort(-np.fmax.reduce(own, axis=1), kind="stable")[:CANDIDATES])
            known[reading] = _Scores(scores, _too_sure(decoding, scores), best, own[best])
        _, too_sure, best, own = known[reading]
        suppressed_above = IOU_THRESHOLD if decoding.select == "nms" else None
        return too_sure or select(boxes_px[best], own, SCORE_THRESHOLD, suppressed_above, MOST_DETECTIONS, CANDIDATES)


class _Scores(NamedTuple):
    """Of one picture, read in one way."""

    all: Array  # (N, C) of the file
    too_sure: str | None
    best: NDArray[np.int64]  # (n,), points that may be detected
    own: Array  # (n, C) of the data


def _too_sure(decoding: Decoding, scores: Array) -> str | None:
    """What is wrong with a sigmoid or softmax that makes objects of nearly all points, or None."""
    form = decoding.scores.form
    if form == "as_is" or decoding.labels or not len(scores):
        return None
    share = float(((scores.sum(1) if form == "softmax" else scores.max(1)) > SURE).mean())
    return f"decode.scores: form {form} makes objects of {share:.0%} of all points." if share > NEARLY_ALL else None
