"""What `sixfold quantize` says of the files that it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.progress import PrintTable, Say
from flows.quantize.record import QuantizedFile, QuantizedRecord
from flows.records.formatting import count, larger_or_smaller, listed

RECORD = "quantized.json"
HEADS = ("file", "bytes", "than float", "detections", "in float", "share of detections that changed")
MOST_NAMES = 4
"""Layers that a line names."""


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
