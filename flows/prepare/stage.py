"""Stage `prepare`: any source of labelled pictures becomes packed pixels and COCO ground truth, checked box by box."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.boxes import fitted
from detection.data.dataset import SPLITS, Prepared, Split, SplitSummary, split_digest
from detection.data.labelled import Labelled, Picture
from detection.data.pixel_files import ENCODED, RAW, Shape, encode, open_pixels, pixel_writer
from detection.data.sources import Data, provenance, read_source
from detection.frozen import InputError
from flows.prepare.card import CARD, SplitCounts
from flows.prepare.observed import Observed
from flows.progress import Say, reading, steps
from flows.records.files import whole_folder
from hardware_profiles.timing.environment import digest_of

OUTPUTS = frozenset({"prepared.json", CARD, *(f"{split}{kind}" for split in SPLITS for kind in (RAW, ENCODED, ".json"))})
SAMPLED = 16
"""Pictures of a split that tell how large it is encoded."""
READ_AHEAD = 2
"""Pictures that are decoded while the one before is packed; more would fill the memory where pictures are large."""


def prepare(data: Data, base: Path, folder: Path, seed: int, report: Say) -> Prepared:
    """What now lies in the folder: pixels, ground truth, data card and manifest, whole or not at all.

    Paths in the data are relative to base, the folder of the params file. An earlier prepared folder is replaced at the end;
    any other content there is an InputError, as is everything wrong with the data.
    """
    _check_replaceable(folder)
    report(f"reading {data.source.kind} data for {data.name!r}")
    labelled = read_source(data.source, base, seed, reading)
    for note in labelled.notes:
        report(note)
    _check_room(folder, data, labelled)
    with whole_folder(folder) as unfinished:
        observed, splits, counts = Observed(data), dict[Split, SplitSummary](), dict[Split, SplitCounts]()
        for split in SPLITS:
            splits[split], counts[split] = _write_split(unfinished, split, labelled, data, observed)
        packed = {split: open_pixels(unfinished, split, _shape(labelled, split, data)) for split in SPLITS}
        card = observed.card(counts, packed)
        (unfinished / CARD).write_text(card.model_dump_json(by_alias=True, indent=2) + "\n")
        content = {
            "classes": labelled.classes,
            "input_size": data.input_size,
            "splits": {split: about.digest for split, about in splits.items()},
        }
        prepared = Prepared(
            name=data.name,
            classes=labelled.classes,
            input_size=data.input_size,
            resize=data.resize,
            splits=splits,
            digest=digest_of(content),
            made_from=provenance(data, base, seed, reading),
        )
        (unfinished / "prepared.json").write_text(prepared.model_dump_json(by_alias=True, indent=2) + "\n")
    for line in card.lines():
        report(line)
    report(f"data card: {folder / CARD}")
    report(f"prepared {data.name!r} ({len(labelled.classes)} classes, {data.input_size[0]} x {data.input_size[1]}) in {folder}")
    return prepared


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file, but prepared data needs a folder. Name another place or remove the file.")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in OUTPUTS) if folder.is_dir() else []
    if foreign:
        raise InputError(
            f"{folder}: holds {foreign[0]!r}, which is no part of prepared data, and the whole folder would be replaced. "
            f"Name another place or move its content."
        )


def _check_room(folder: Path, data: Data, labelled: Labelled) -> None:
    """Long work would end at a full disk, so ask first."""
    needed_bytes = sum(_packed_bytes(labelled, split, data) for split in SPLITS)
    existing = next(parent for parent in folder.absolute().parents if parent.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    if needed_bytes > free_bytes:
        raise InputError(
            f"{folder}: the pixels need {needed_bytes / 1e9:.1f} GB, but {free_bytes / 1e9:.1f} GB are free. "
            f"Free some space, or choose a smaller `input_size` or fewer pictures."
        )


def _packed_bytes(labelled: Labelled, split: Split, data: Data) -> int:
    """What the pixels of a split take on the disk; where they are encoded, as if all were like a few."""
    raw_bytes, pictures = math.prod(_shape(labelled, split, data)), labelled.splits[split]
    if not _encoded(raw_bytes, data):
        return raw_bytes
    few = list(islice(pictures, 0, None, max(1, len(pictures) // SAMPLED)))
    return sum(len(encode(fitted(own.pixels(), data.input_size, data.resize))) for own in few) * len(pictures) // len(few)


def _shape(labelled: Labelled, split: Split, data: Data) -> Shape:
    return (len(labelled.splits[split]), *data.input_size, 3)


def _encoded(raw_bytes: int, data: Data) -> bool:
    return raw_bytes > data.pixel_cache_bytes


def _write_split(
    folder: Path, split: Split, labelled: Labelled, data: Data, observed: Observed
) -> tuple[SplitSummary, SplitCounts]:
    """Pixels and ground truth of one split, picture by picture, so that memory stays flat."""
    pictures, shape = labelled.splits[split], _shape(labelled, split, data)
    truth = GroundTruth(labelled.classes)
    with pixel_writer(folder, split, shape, encoded=_encoded(math.prod(shape), data)) as write:

        def packed() -> Iterator[NDArray[np.uint8]]:
            decoded = read_ahead(steps(pictures, len(pictures), f"prepare {split}", "pictures"))
            for picture, original in decoded:
                pixels = fitted(original, data.input_size, data.resize)
                write(pixels)
                observed.add(split, picture, truth.add(picture), pixels)
                yield pixels

        digest = split_digest(shape, packed(), truth.coco)
    (folder / f"{split}.json").write_text(json.dumps(truth.coco, separators=(",", ":")) + "\n")
    if not truth.learnable:
        raise InputError(
            f"split {split}: none of its {len(pictures)} pictures has a box to find, so nothing could be learned or measured. "
            f"Label objects in it or split the data differently."
        )
    counts = truth.counts()
    summary = SplitSummary(
        pictures=counts.pictures, boxes=counts.boxes, clipped_boxes=counts.clipped, dropped_boxes=counts.dropped, digest=digest
    )
    return summary, counts


def read_ahead(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    """Every picture and its pixels in the same order, decoded by one thread: decoders and OpenCV work without Python's lock."""
    waiting = deque[tuple[Picture, Future[NDArray[np.uint8]]]]()
    with ThreadPoolExecutor(1) as reader:  # one, as the filter for warnings in `read_pixels` is the whole process's
        for picture in pictures:
            waiting.append((picture, reader.submit(picture.pixels)))
            if len(waiting) > READ_AHEAD:
                first, pixels = waiting.popleft()
                yield first, pixels.result()
        for first, pixels in waiting:
            yield first, pixels.result()


class GroundTruth:
    """COCO ground truth of one split as it grows: ids from 1, category id = label + 1, boxes cut at the border."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(classes)]
        self.coco = {"images": self.images, "annotations": self.annotations, "categories": categories}
        self.clipped = self.dropped = 0

    @property
    def learnable(self) -> int:
        """Boxes that are not crowds."""
        return sum(not annotation["iscrowd"] for annotation in self.annotations)

    def add(self, picture: Picture) -> NDArray[np.bool_]:
        """Take one picture; which of its boxes have an area inside it and were kept, (n,)."""
        height_px, width_px = picture.size
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": picture.file_name, "height": height_px, "width": width_px})
        cut = picture.boxes_xyxy_px.clip(0, [width_px, height_px] * 2)
        kept = np.ones(len(cut), dtype=np.bool_)
        boxes = zip(cut, picture.boxes_xyxy_px, picture.labels, picture.crowd, strict=True)
        for row, (box, whole, label, crowd) in enumerate(boxes):
            x, y, width, height = (round(float(v), 3) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
            if width <= 0 or height <= 0:
                self.dropped += 1
                kept[row] = False
                continue
            self.clipped += bool((box != whole).any())
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": [x, y, width, height],
                    "area": round(width * height, 3),
                    "iscrowd": int(crowd),
                }
            )
        return kept

    def counts(self) -> SplitCounts:
        """What there is so far, for the data card."""
        learnable = Counter(annotation["category_id"] for annotation in self.annotations if not annotation["iscrowd"])
        return SplitCounts(
            pictures=len(self.images),
            background=len(self.images) - len({annotation["image_id"] for annotation in self.annotations}),
            boxes=len(self.annotations),
            crowds=len(self.annotations) - learnable.total(),
            clipped=self.clipped,
            dropped=self.dropped,
            boxes_per_class={name: learnable[label + 1] for label, name in enumerate(self.classes)},
        )
