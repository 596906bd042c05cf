"""The command `predict`: everything is checked first, then one picture after the other, and the answer first of what is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detection.evaluation import IOU_THRESHOLD
from flows.predict.detect import Seen, look
from flows.predict.folder import PREDICTIONS, draw, write_predictions
from flows.predict.labels import Labels, read_labels
from flows.predict.model import Model, open_model
from flows.predict.pictures import Picture, find_pictures, names_apart, readable
from flows.progress import PrintTable, Say, steps
from flows.records.formatting import count, milliseconds
from flows.records.own_folder import checked_place, own_folder

HEADS = ("class", "boxes", "pictures")
"""Of the table."""


def predict(
    name: str,
    images: Sequence[str],
    out: Path,
    *,
    params: Path | None,
    runtime: str | None,
    threads: int,
    score: float | None,
    iou: float | None,
    labels: Path | None,
    as_json: bool,
    say: Say,
    table: PrintTable,
) -> None:
    """Draw what a model finds in pictures; InputError, and nothing written, where something asked for is not possible.

    Without `score` and `iou`, the thresholds are the model card's or the plan's; mAP's are then those of the sweep.
    """
    folder = checked_place(out, "predict")
    files = find_pictures(images)
    model = open_model(name, params, runtime, threads)
    if score is not None:
        model = replace(model, about=replace(model.about, score_threshold=score))
    if iou is not None:
        model = replace(model, about=replace(model.about, iou_threshold=iou))
    truth = None if labels is None else read_labels(labels, files, model.classes)
    pictures = readable(files, truth.sizes if truth else {}, "refuse" if truth else "apply")
    drawn = [f"{own}.jpg" for own in names_apart(files)]
    cv2.setNumThreads(threads)
    with own_folder(folder, "predict") as partial:
        counted_above = None if model.suppressed_above is None else IOU_THRESHOLD if iou is None else iou
        seen, results = _through(model, pictures, [partial / own for own in drawn], truth, counted_above)
        if as_json:
            write_predictions(partial, model, files, drawn, seen)
    say(_answer(model, seen, threads, out))
    for line in () if truth is None else _accuracy(truth, results):
        say(line)
    table(HEADS, list(_per_class(model, seen)))
    if as_json:
        say(f"predictions: {out / PREDICTIONS}")


def _through(
    model: Model, pictures: Sequence[Picture], targets: Sequence[Path], truth: Labels | None, counted_above: float | None
) -> tuple[list[Seen], list[dict[str, Any]]]:
    """What the model finds in each picture, drawn, and the COCO results that mAP is of; none without ground truth.

    `counted_above` is the overlap that suppresses boxes for mAP; None where the file gives each object once.
    """
    found, results = list[Seen](), list[dict[str, Any]]()
    for own, target in zip(steps(pictures, len(pictures), "predict", "pictures"), targets, strict=True):
        pixels = own.pixels()
        seen, candidates = look(model, pixels)
        draw(target, pixels, seen, model.classes)
        results += [] if truth is None else truth.results(own.file, candidates, counted_above)
        found.append(seen)
    return found, results


def _answer(model: Model, seen: Sequence[Seen], threads: int, out: Path) -> str:
    times = np.mean([own.times for own in seen], axis=0)
    boxes = sum(len(own.final.scores) for own in seen)
    resizing, network, selection = map(milliseconds, times)
    return (
        f"{count(len(seen), 'picture')}, {boxes} {'box' if boxes == 1 else 'boxes'}, {milliseconds(sum(times))} ms a picture in "
        f"{model.runtime} ({count(threads, 'thread')}; resizing {resizing}, network {network}, selection {selection}): {out}"
    )


def _accuracy(truth: Labels, results: list[dict[str, Any]]) -> Iterator[str]:
    found = truth.accuracy(results)
    yield f"mAP 50-95 {found.map_50_95:.3f}, mAP50 {found.map_50:.3f}, against {count(truth.boxes, 'labelled object')}"
    yield from truth.remarks


def _per_class(model: Model, seen: Sequence[Seen]) -> Iterator[tuple[str, ...]]:
    """The lines of the table, most boxes first; classes without boxes have none."""
    boxes = Counter(label for own in seen for label in own.final.labels.tolist())
    pictures = Counter(label for own in seen for label in set(own.final.labels.tolist()))
    yield from ((model.classes[label], str(found), str(pictures[label])) for label, found in boxes.most_common())
