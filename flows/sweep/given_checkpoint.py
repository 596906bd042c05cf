"""A trained detector of ours that a plan's `teacher` section brings: taken as it is, or trained further for other classes."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from detection import checkpoint
from detection.checkpoint import Detector
from detection.frozen import InputError
from flows.records.formatting import listed

MOST_NAMES = 6
"""Classes that a message names."""


def read_checkpoint(folder: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None) -> Detector:
    """The detector as it was saved.

    `classes` are those of the data, None where it is not prepared yet; (height, width) in pixels. InputError where it was trained
    for others.
    """
    detector = _read("checkpoint", folder)
    spec = detector.spec
    if spec.input_size != input_size:
        raise InputError(
            f"teacher.checkpoint: {folder} was trained for pictures of {spec.input_size} (height, width), data.input_size is "
            f"{input_size}. Make them equal, or name it in teacher.start_from, to train it for these."
        )
    if classes is not None and spec.classes != classes:
        own, theirs = (listed(names, MOST_NAMES, mark="") for names in (spec.classes, classes))
        raise InputError(
            f"teacher.checkpoint: {folder} predicts {own}, the data has {theirs}, and their order "
            f"counts. Name it in teacher.start_from, which draws the last predictions anew and trains them."
        )
    return detector


def read_start(folder: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None, seed: int) -> Detector:
    """What the training begins with: the detector's weights, with predictions drawn anew where its classes are not the data's."""
    brought = _read("start_from", folder)
    try:
        spec = brought.spec.at(input_size)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"teacher.start_from: {folder} does not fit data.{reason}.") from error
    return checkpoint.started(brought, spec if classes is None else spec.model_copy(update={"classes": classes}), seed)


def _read(field: str, folder: Path) -> Detector:
    try:
        detector = checkpoint.load(folder)
    except InputError as error:
        raise InputError(f"teacher.{field}: {error}") from error
    if "training" in detector.family.cannot(detector.spec):
        raise InputError(f"teacher.{field}: {folder} holds an ONNX file of yours. Name the file in `detector.onnx`.")
    return detector
