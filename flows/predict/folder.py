"""The folder that `predict` writes: drawn pictures and, if asked for, predictions.json. It replaces an earlier run's alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.evaluation import SCORE_DIGITS
from detection.frozen import InputError, printable
from flows.predict.detect import Seen
from flows.predict.model import Model
from flows.records.files import whole_folder
from flows.report.drawing import as_jpeg
from flows.sweep import workspace
from hardware_profiles.runtimes.table import runtime_version

PREDICTIONS = "predictions.json"
BBOX = "COCO: [x, y, width, height] in pixels of the original picture, x and y of the box's upper left corner"
WRITTEN = ".sixfold-predict"
"""Lists the files that were written, which alone the next run may replace."""
DRAWN_FOR_PX = 640
"""Shorter side of a picture: for every multiple of it, lines and letters grow by their own size."""
BOX_DIGITS = 3
"""Of boxes in the file: a thousandth of a pixel."""


def checked_place(out: Path) -> Path:
    """The folder, links followed; InputError where it holds anything that an earlier run did not write."""
    folder = out.resolve()
    if folder in (here := Path.cwd(), *here.parents):
        raise InputError(f"--out {out}: holds the folder you are in, and would be replaced whole. Name a new folder.")
    workspace.require_place(folder.with_name(f"{folder.name}.partial"))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {out}: a file, but drawn pictures need a folder. Name another place or remove the file.")
    own = folder / WRITTEN
    known = {WRITTEN, *json.loads(own.read_text())} if own.is_file() else set()
    if folder.is_dir() and (foreign := sorted({path.name for path in folder.iterdir()} - known)):
        raise InputError(
            f"--out {out}: holds {foreign[0]!r}, which `sixfold predict` did not write, and the whole folder would be replaced. "
            f"Name another place or move its content."
        )
    return folder


@contextmanager
def drawing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of this one when the block ends well; what an earlier run wrote goes then."""
    with whole_folder(folder) as partial:
        yield partial
        (partial / WRITTEN).write_text(json.dumps(sorted(path.name for path in partial.iterdir())) + "\n")


def draw(path: Path, pixels: NDArray[np.uint8], seen: Seen, classes: Sequence[str]) -> None:
    """Write the original picture, at its own size, with the boxes found in it."""
    height_px, width_px = seen.size
    boxes, scores, labels = seen.final
    inside = boxes.clip(0, [width_px - 1, height_px - 1] * 2).astype(np.float32)
    texts = [f"{classes[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    path.write_bytes(as_jpeg(pixels, inside, labels, texts, max(1, min(seen.size) // DRAWN_FOR_PX)))


def write_predictions(folder: Path, model: Model, files: Sequence[Path], drawn: Sequence[str], seen: Sequence[Seen]) -> None:
    """Put predictions.json into the folder: a header that says what the numbers are, the pictures, and every box."""
    names = [printable(str(file)) for file in files]
    content = {
        "header": {
            "bbox": BBOX,
            "model": printable(model.name),
            "runtime": runtime_version(model.runtime),
            "score_threshold": model.about.score_threshold,
            "iou_threshold": model.suppressed_above,
            "classes": model.classes,
        },
        "pictures": [
            {"file_name": name, "height": own.size[0], "width": own.size[1], "drawn": printable(target)}
            for name, own, target in zip(names, seen, drawn, strict=True)
        ],
        "predictions": [box for name, own in zip(names, seen, strict=True) for box in _boxes(model, name, own)],
    }
    (folder / PREDICTIONS).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _boxes(model: Model, file_name: str, seen: Seen) -> Iterator[dict[str, Any]]:
    """The boxes of one picture, best first."""
    for (x1, y1, x2, y2), score, label in zip(*seen.final, strict=True):
        bbox = [round(float(value), BOX_DIGITS) for value in (x1, y1, x2 - x1, y2 - y1)]
        yield {"file_name": file_name, "category": model.classes[label], "bbox": bbox, "score": round(float(score), SCORE_DIGITS)}
