"""`quantized.json`: what `sixfold quantize` wrote, from which pictures, and what it changes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from detection.boxes import Resize
from detection.file_interface.interface import PictureForm
from detection.frozen import Digest, Frozen, PositiveInt, Share
from flows.quantize.changed import LEAST_IOU, Changed

Precision = Literal["int8", "float16"]


class QuantizedFile(Frozen):
    """One file for one runtime."""

    runtime: str
    """With its version."""
    precision: Precision
    file: str
    """Relative to the folder of the record; an OpenVINO .xml has its .bin beside it."""
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
    score_threshold: Share
    least_iou: Share = LEAST_IOU
    """From which on two boxes of a class are partners."""
    files: tuple[QuantizedFile, ...]
