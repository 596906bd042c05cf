"""What a folder of labelled pictures holds: its format, told by the files that lie there, and its pictures, classes and boxes."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressors.quantization.method import LEAST_PICTURES, Quantization
from detection.data.archives import is_archive, unpacked
from detection.data.coco import CocoSource, SplitPaths
from detection.data.dataset import SPLITS, Split
from detection.data.labelled import SPLIT_NAMES, Labelled, SplitShares, found_files
from detection.data.sources import read_source
from detection.data.voc import ANNOTATION_SUFFIXES, VocSource
from detection.data.yolo_description import DESCRIPTIONS, YoloSource
from detection.frozen import InputError
from flows.progress import reading

Found = CocoSource | VocSource | YoloSource
LOOKED_FOR = (
    f"YOLO ({', '.join(DESCRIPTIONS)}, or text files in a folder labels), COCO (.json files with images, annotations and "
    f"categories), Pascal VOC (.xml files that begin with <annotation>)"
)
COCO_KEYS = {"images", "annotations", "categories"}
VOC_START = re.compile(rb"<annotation[\s>]")
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
MOST_NAMES = 8
"""Classes that are told."""
SEED = 0
"""Of the plan; it draws the splits of a data set that has none."""
CALIBRATING, MOST_CALIBRATING = Quantization().pictures, 0.34
"""Pictures that train needs where it is for calibration alone, and the share that it gets at most."""


@dataclass(frozen=True)
class LookedAt:
    """A data set by its labels and the headers of its pictures. Crowds, and boxes without area inside a picture, count nowhere."""

    source: Found
    labelled: Labelled
    picture_size: tuple[int, int]
    """(height, width) in pixels: the median of each."""
    sizes: NDArray[np.float64]  # (n, 2), height and width in pixels of the picture that box i is in
    shorter_px: NDArray[np.float64]  # (n,), the shorter side of box i
    per_class: Counter[str]
    """Boxes of each class."""

    def sentences(self) -> tuple[str, ...]:
        """What was seen, a line each."""
        tenth_px, half_px = np.percentile(self.shorter_px, (10, 50))
        height_px, width_px = self.picture_size
        classes = self.labelled.classes
        pictures = {split: len(own) for split, own in self.labelled.splits.items()}
        return (
            f"{self.source.kind} data: {sum(pictures.values()):,} pictures "
            f"({', '.join(f'{split} {own:,}' for split, own in pictures.items())}), "
            f"{height_px} x {width_px} (height x width) in the median",
            f"{len(classes)} classes, {len(classes) - len(self.per_class)} without a box; most boxes: "
            + ", ".join(f"{name} {own:,}" for name, own in self.per_class.most_common(MOST_NAMES)),
            f"{len(self.shorter_px):,} boxes; shorter side {half_px:.0f} px in the median, {tenth_px:.0f} px or less in a tenth",
        )


def look(data: Path, base: Path) -> LookedAt:
    """What a data folder, or an archive of one, holds; base is the folder of the plan that is to name it.

    InputError where its format cannot be told, or where its reader refuses it.
    """
    if not data.is_dir() and not is_archive(data):
        raise InputError(f"{data}: no such folder, nor zip or tar. Name the folder of your pictures and labels.")
    source = _source(unpacked(data, base, reading) if is_archive(data) else data, data)
    source = source.model_copy(update={"root": Path(relative(data, base))})
    labelled = read_source(source, base, SEED, reading)
    pictures = [picture for split in SPLITS for picture in labelled.splits[split]]
    boxes: list[tuple[int, int, float]] = []
    per_class = Counter[str]()
    for picture in pictures:
        cut = picture.boxes_xyxy_px.clip(0, [*picture.size[::-1]] * 2)
        shorter_px = (cut[:, 2:] - cut[:, :2]).min(axis=1)
        counted = (shorter_px > 0) & ~picture.crowd
        boxes += [(*picture.size, side_px) for side_px in shorter_px[counted]]
        per_class.update(labelled.classes[label] for label in picture.labels[counted])
    if not boxes:
        raise InputError(f"{data}: none of {len(pictures):,} pictures has a box to find. Label some objects first.")
    height_px, width_px = np.median([picture.size for picture in pictures], axis=0).round().astype(int).tolist()
    table = np.array(boxes, dtype=np.float64)
    return LookedAt(source, labelled, (height_px, width_px), table[:, :2], table[:, 2], per_class)


def without_training(looked: LookedAt, base: Path) -> LookedAt:
    """The same where nothing is to be trained: of pictures that are divided by shares, more choose and report."""
    pictures = sum(map(len, looked.labelled.splits.values()))
    train = min(math.ceil(100 * CALIBRATING / pictures) / 100, MOST_CALIBRATING)
    if train * pictures < LEAST_PICTURES or not _is_drawn(looked, base):
        return looked
    shares = SplitShares(train=train, val=round((1 - train) / 2, 3), test=round((1 - train) / 2, 3))
    source = looked.source.model_copy(update={"split_shares": shares})
    return replace(looked, source=source, labelled=read_source(source, base, SEED))


def _is_drawn(looked: LookedAt, base: Path) -> bool:
    """Whether the splits are those that are drawn, and not the user's."""
    if isinstance(looked.source, CocoSource):
        return isinstance(looked.source.annotations, Path)
    drawn = read_source(looked.source.model_copy(update={"split_shares": SplitShares()}), base, SEED)
    return all(
        [own.file_name for own in drawn.splits[split]] == [own.file_name for own in looked.labelled.splits[split]]
        for split in SPLITS
    )


def relative(path: Path, base: Path) -> str:
    """How a plan in the folder `base` names the path: from there, or from the root where they have nothing else in common."""
    own, other = path.resolve(), base.resolve()
    return str(own) if os.path.commonpath((own, other)) == own.anchor else os.path.relpath(own, other)


def _source(folder: Path, named: Path) -> Found:
    """The data in the folder, as if that were the plan's; InputError where labels are of no format or of several."""
    coco, xmls = _coco_files(folder), found_files(folder, ANNOTATION_SUFFIXES)
    described = [name for name in DESCRIPTIONS if (folder / name).is_file()]
    labels = [path for path in found_files(folder, (".txt",)) if "labels" in path.relative_to(folder).parts[:-1]]
    found: dict[str, Path | str] = {"COCO": next(iter(coco))} if coco else {}
    if xmls and VOC_START.search(xmls[0].read_bytes()):
        found["Pascal VOC"] = xmls[0]
    if labels or (described and not (found and described == ["classes.txt"])):  # a list of classes lies next to any format
        found["YOLO"] = described[0] if described else labels[0]
    if len(found) != 1:
        seen = f"labels of {len(found)} formats: {', '.join(f'{name} ({file})' for name, file in found.items())}"
        raise InputError(
            f"{named}: {seen if found else 'no labels found'}. Looked for: {LOOKED_FOR}. Name a folder with labels of one "
            f"format, or write `data.source` in a plan by hand (docs/your-data.md)."
        )
    if coco:
        return _coco_source(coco, folder)
    return VocSource(root=folder) if "Pascal VOC" in found else YoloSource(root=folder)


def _coco_files(folder: Path) -> dict[Path, str]:
    """The files with boxes in COCO's format, each with its first picture; captions are of the same form, but without classes."""
    found = {}
    for path in found_files(folder, (".json",)):
        try:
            content = json.loads(path.read_bytes())
            if content.keys() >= COCO_KEYS:
                found[path] = str(content["images"][0]["file_name"]) if content["images"] else ""
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError):  # something else
            continue
    return found


def _coco_source(files: dict[Path, str], folder: Path) -> CocoSource:
    """One file for all splits, or one for each; InputError where it is another number."""
    if len(files) == 1:
        [(path, picture)] = files.items()
        return CocoSource(root=folder, annotations=path.relative_to(folder), images=_place(path, picture, folder, ""))
    words = {path: SPLIT_WORD.findall(path.relative_to(folder).as_posix()) for path in files}
    splits: dict[Split, Path] = {SPLIT_NAMES[own[-1].lower()]: path for path, own in words.items() if own}
    if len(splits) != len(files) or "train" not in splits:
        raise InputError(
            f"{folder}: {len(files)} COCO files: {', '.join(path.relative_to(folder).as_posix() for path in files)}. Leave one, "
            f"which is then split by shares, or one each whose path says train, and val, test or both."
        )
    return CocoSource(
        root=folder,
        annotations=SplitPaths(**{split: path.relative_to(folder) for split, path in splits.items()}),
        images=SplitPaths(**{split: _place(path, files[path], folder, split) for split, path in splits.items()}),
    )


def _place(file: Path, picture: str, folder: Path, split: str) -> Path:
    """The folder of a COCO file's pictures, relative to the data's: the file's own, or another that has the first of them."""
    folders = sorted(path for path in folder.rglob("*") if path.is_dir())
    places = [file.parent, *sorted(folders, key=lambda path: split not in path.relative_to(folder).as_posix()), folder]
    return next((place for place in places if (place / picture).is_file()), file.parent).relative_to(folder)
