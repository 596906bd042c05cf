"""A plan for a user's file without data, pictures for it, and `quantize` with what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from detection.frozen import read_json
from flows.quantize.command import quantize
from flows.quantize.record import QuantizedRecord
from tests.flows.predict_factory import write_pictures

CLASSES = [f"thing {number}" for number in range(10)]
DECODE = {"boxes": {"outputs": ["boxes"], "form": "xyxy"}, "scores": {"outputs": ["scores"]}}
SCORE = 0.01
"""Random weights find some twenty things in a picture of noise from here on."""


def write_plan(path: Path, file: Path, **changes: Any) -> Path:
    """A plan that says how the file is fed and read, and of no data but the size; None leaves a setting of the detector out."""
    detector = {"onnx": str(file), "classes": CLASSES, "input": {"scale": 1.0}, "decode": DECODE} | changes.pop("detector", {})
    content = {
        "sweep": "theirs",
        "data": {"input_size": [64, 96]},
        "detector": {name: value for name, value in detector.items() if value is not None},
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def write_many(folder: Path, count: int = 20) -> Path:
    """So many pictures of noise; the folder."""
    return write_pictures(folder, *(f"{number:02d}.png" for number in range(count)))


class Quantized:
    """One run of `quantize`: what it said, its table, and what it wrote."""

    def __init__(self, file: Path, images: Path, out: Path, **options: Any) -> None:
        self.out, self.lines, self.table = out, list[str](), list[Sequence[str]]()
        usual: dict[str, Any] = {"runtimes": (), "float16": False, "calibrate": 8, "score": SCORE}
        quantize(
            str(file), [str(images)], out, **(usual | options), say=self.lines.append,
            table=lambda heads, lines: self.table.extend([heads, *lines]),
        )  # fmt: skip

    @property
    def record(self) -> QuantizedRecord:
        """quantized.json."""
        return read_json(self.out / "quantized.json", QuantizedRecord, "")

    @property
    def shares(self) -> list[float | None]:
        """The share of detections that changed, by file."""
        return [own.changed and own.changed.share_of_detections_that_changed for own in self.record.files]
