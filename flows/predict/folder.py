"""What `predict` writes: drawn pictures and, if asked for, predictions.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.evaluation import SCORE_DIGITS
from detection.frozen import printable
from flows.predict.detect import Seen
from flows.predict.model import Model
from flows.report.drawing import as_jpeg
from hardware_profiles.runtimes.table import runtime_version

PREDICTIONS = "predictions.json"
BBOX = "COCO: [x, y, width, height] in pixels of the original picture, x and y of the box's upper left corner"
DRAWN_FOR_PX = 640
"""Shorter side of a picture: for every multiple of it, lines and letters grow by their own size."""
BOX_DIGITS = 3
"""Of boxes in the file: a thousandth of a pixel."""


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
