"""Labels of the pictures, matched by file and by the names of classes, and the accuracy that follows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from detection.boxes import select
from detection.data.coco import read_one_file
from detection.evaluation import MOST_DETECTIONS, SCORE_THRESHOLD, Accuracy, accuracy, as_coco
from detection.frozen import InputError
from flows.predict.detect import Candidates
from flows.prepare.stage import GroundTruth
from flows.records.formatting import listed

MOST_NAMES = 3
"""Classes that a message names."""


@dataclass(frozen=True)
class Labels:
    """The ground truth of the pictures."""

    truth: GroundTruth
    ids: Mapping[Path, int]
    """File -> id of its picture."""
    sizes: Mapping[Path, tuple[int, int]]
    """File -> (height, width) in pixels that its labels are for."""
    categories: Mapping[int, int]
    """Category of the model, from 1 -> of the labels; those without labels are absent."""
    remarks: tuple[str, ...]
    """What does not match, and what becomes of it."""

    @property
    def boxes(self) -> int:
        """How many objects there are to find."""
        return self.truth.learnable

    def results(self, file: Path, found: Candidates, suppressed_above: float | None) -> list[dict[str, Any]]:
        """COCO results of a picture by the thresholds of mAP, which are not those of drawings: nearly every score counts."""
        final = select(found.boxes_xyxy_px, found.scores, SCORE_THRESHOLD, suppressed_above, MOST_DETECTIONS)
        own = as_coco(final, found.fit, self.ids[file])
        return [box | {"category_id": self.categories[box["category_id"]]} for box in own if box["category_id"] in self.categories]

    def accuracy(self, results: list[dict[str, Any]]) -> Accuracy:
        """Of these results of all the pictures."""
        return accuracy(self.truth.coco, results)


def read_labels(path: Path, files: Sequence[Path], classes: tuple[str, ...]) -> Labels:
    """The labels of these pictures in a COCO file; InputError where a picture has none, or no class a name of the model's."""
    names, pictures = read_one_file(path, _finder(path, files), "refuse")
    if missing := [file for file in files if file not in pictures]:
        raise InputError(
            f"--labels {path}: {len(missing)} of {len(files)} pictures are not in it, first {missing[0]}. Each needs an entry in "
            f"`images` whose `file_name` is the end of its path; one without objects has no annotations."
        )
    if not set(names) & set(classes):
        raise InputError(
            f"--labels {path}: its classes ({listed(names, MOST_NAMES)}) are none of the model's ({listed(classes, MOST_NAMES)}). "
            f"Classes are matched by name: rename the categories of the file."
        )
    truth = GroundTruth(names)
    for file in files:
        truth.add(pictures[file])
    return Labels(
        truth=truth,
        ids={file: row + 1 for row, file in enumerate(files)},
        sizes={file: own.size for file, own in pictures.items()},
        categories={label + 1: names.index(name) + 1 for label, name in enumerate(classes) if name in names},
        remarks=tuple(_remarks(names, classes)),
    )


def _remarks(names: tuple[str, ...], classes: tuple[str, ...]) -> Iterator[str]:
    if unknown := [name for name in names if name not in classes]:
        yield f"labelled, but no classes of the model, so never found: {listed(unknown, MOST_NAMES)}"
    if unlabelled := [name for name in classes if name not in names]:
        yield f"classes of the model that the labels do not have, so left out of mAP: {listed(unlabelled, MOST_NAMES)}"


def _finder(path: Path, files: Sequence[Path]) -> Callable[[str], Path | None]:
    """What finds pictures by the names that labels give them."""
    taken: dict[Path, str] = {}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_name[file.name].append(file)

    def find(file_name: str) -> Path | None:
        """The picture whose path ends with this; None where there is none, InputError where it is not the only one."""
        parts = PurePosixPath(file_name).parts
        found = [file for file in by_name[parts[-1] if parts else ""] if file.absolute().parts[-len(parts) :] == parts]
        if not found:
            return None
        other = taken.setdefault(found[0], file_name)
        if len(found) > 1 or other != file_name:
            one, two = (found[0], found[1]) if len(found) > 1 else (other, file_name)
            what = f"{file_name!r} may be" if len(found) > 1 else f"{found[0]} may be"
            raise InputError(f"--labels {path}: {what} {one} or {two}. Give each `file_name` the folders that tell them apart.")
        return found[0]

    return find
