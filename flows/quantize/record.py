"""`quantized.json`: what `sixfold quantize` wrote, from which pictures, and what it changes; and how that is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt

from detection.boxes import Detections, Resize, pairwise_iou
from detection.file_interface.interface import PictureForm
from detection.frozen import Digest, Frozen, PositiveInt, Share
from flows.progress import PrintTable, Say
from flows.records.formatting import count, larger_or_smaller, listed

RECORD = "quantized.json"
HEADS = ("file", "bytes", "than float", "detections", "in float", "share of detections that changed")
MOST_NAMES = 4
"""Layers that a line names."""
LEAST_IOU = 0.5
"""From here on two boxes are of the same object, as in mAP50."""


class Changed(Frozen):
    """The detections of two files on the same pictures, with scores above a threshold."""

    share_of_detections_that_changed: float | None
    """Those of both files without a partner in the other, over all of both: 0 where each has one, 1 where none has, the same for
    both orders of files. None where neither finds anything."""
    pictures: PositiveInt
    float_detections: NonNegativeInt
    """Of the float file, over all pictures."""
    detections: NonNegativeInt
    """Of the other file."""


class QuantizedFile(Frozen):
    """One file for one runtime."""

    runtime: str
    """With its version."""
    precision: Literal["int8", "float16"]
    file: str
    """Relative to the folder of the record; an OpenVINO .xml has its .bin next to it."""
    sha256: Digest
    """Of its parts, one after another."""
    size_bytes: PositiveInt
    """Of all its parts."""
    float_layers: tuple[str, ...]
    """Convolutions and matrix products that int8 leaves in float, in the order of the graph; empty for float16."""
    changed: Changed | None
    """None where the plan does not say how outputs become boxes."""


class QuantizedRecord(Frozen):
    """All that one run wrote."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    onnx: str
    """The user's file, as it was named."""
    sha256: Digest
    """Of it, as it was given."""
    size_bytes: PositiveInt
    """Of the float file that the others are compared with: the user's, or that made whole."""
    picture: PictureForm
    resize: Resize
    calibrator: str
    seed: int
    """Of the choice of pictures."""
    calibrated_on: tuple[str, ...]
    compared_on: tuple[str, ...]
    score_threshold: float
    least_iou: Share = LEAST_IOU
    """From which on two boxes of a class are partners."""
    files: tuple[QuantizedFile, ...]


def compare(exact: Sequence[Detections], other: Sequence[Detections]) -> Changed:
    """What the other file finds in each picture, compared with what the float file finds in it."""
    float_detections, detections = (sum(len(own.scores) for own in found) for found in (exact, other))
    both, pairs = float_detections + detections, sum(count_pairs(*own) for own in zip(exact, other, strict=True))
    return Changed(
        share_of_detections_that_changed=(both - 2 * pairs) / both if both else None,
        pictures=len(exact),
        float_detections=float_detections,
        detections=detections,
    )


def count_pairs(a: Detections, b: Detections) -> int:
    """How many detections of one picture have a partner: of the same class, IoU `LEAST_IOU` or more, one for each.

    Those that overlap most become partners first, of equals those of the better scores.
    """
    iou = pairwise_iou(*(torch.from_numpy(own.boxes_xyxy_px) for own in (a, b))).numpy()  # (A, B)
    iou[(a.boxes_xyxy_px[:, None] == b.boxes_xyxy_px).all(-1)] = 1.0  # a box without area overlaps nothing, not even itself
    iou[a.labels[:, None] != b.labels] = 0.0
    pairs = 0
    while iou.size and iou.max() >= LEAST_IOU:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        iou[row], iou[:, column] = 0.0, 0.0
        pairs += 1
    return pairs


def tell(record: QuantizedRecord, params: Path | None, out: Path, say: Say, table: PrintTable) -> None:
    """How the file was fed, which pictures served what, the numbers of each file, what they mean, and what comes next."""
    form, again, compared = record.picture, len({*record.calibrated_on} & {*record.compared_on}), len(record.compared_on)
    numbers = f"scale {form.scale:g}, mean {list(form.mean)}, std {list(form.std)}"
    same = f"all {compared}, {again} of which gave the ranges, as too few would be left" if again else f"the other {compared}"
    ranges = f"int8 ranges by {record.calibrator} from {count(len(record.calibrated_on), 'picture')}"
    say(f"fed as {params} says: {form.colour}, {numbers}, {record.resize}")
    say(f"{ranges}; compared on {same}" if compared else ranges)
    table(HEADS, [_row(own, record.size_bytes) for own in record.files])
    for own in record.files:
        if own.precision == "int8":
            last = f", from the last on: {listed(own.float_layers[::-1], MOST_NAMES)}" if own.float_layers else ""
            say(f"{own.file}: {len(own.float_layers)} convolutions and matrix products stay float{last}")
    say(f"float file: {record.size_bytes:,} bytes; numbers: {out / RECORD}")
    for line in _meaning(record, params, out):
        say(line)


def _row(own: QuantizedFile, float_bytes: int) -> tuple[str, ...]:
    line = f"{own.precision}, {own.runtime}", f"{own.size_bytes:,}", larger_or_smaller(float_bytes / own.size_bytes)
    if own.changed is None:
        return (*line, "-", "-", "-")
    share = own.changed.share_of_detections_that_changed
    return (*line, str(own.changed.detections), str(own.changed.float_detections), "-" if share is None else f"{share:.1%}")


def _meaning(record: QuantizedRecord, params: Path | None, out: Path) -> Iterator[str]:
    if not record.compared_on:
        yield (
            f"No share of detections that changed: {params} does not say how outputs become boxes. Next: declare "
            f"`detector.decode` there, a preset or its parts (docs/your-detector.md), and run this again."
        )
        return
    yield (
        f"The share of detections that changed is far harsher than mAP, as a score that crosses {record.score_threshold:g} counts "
        f"whether the detection was right or wrong: some 50 labelled pictures are worth more."
    )
    yield (
        f"Next: `sixfold predict {out / record.files[0].file} PICTURES --params {params} --out drawn` draws what it finds; with "
        f"labels, `sixfold inspect --params PLAN` and the sweep say what is lost."
    )
