"""A detector as an ONNX file: pixels in, decoded boxes and scores out."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import cast

import torch
from torch import nn

from detection.checkpoint import Detector
from detection.family import family_of
from detection.file_interface.declaration import Boxes, Decoding, Scores
from detection.file_interface.interface import FileInterface, PictureForm
from detection.spec import Spec

OPSET = 18
PREDICTIONS = "/predictions."
"""What the names of the nodes of the last predictions begin with: the attribute of `Exported` that holds the layers."""
INPUT_NAME, BOXES_NAME, SCORES_NAME = "images", "boxes", "scores"


def export_onnx(detector: Detector, path: Path, *, planes: bool = False) -> None:
    """Write one self-contained ONNX file.

    `images` (1, height, width, 3) uint8 RGB, as cameras and decoders give them -> `boxes` (1, N, 4) xyxy in pixels, `scores`
    (1, N, C) in [0, 1]. With planes, `images` is what `Exported.planes_of` makes of them instead, floats with channels first: what
    tools that quantize understand. It is not a file to ship. A detector that is a file is written as it is, with inputs and outputs
    of its own.
    """
    family = detector.family
    if family.write is not None:
        family.write(detector.weights, path)
        return
    height_px, width_px = detector.spec.input_size
    exported = family.exported(detector.network(), planes)
    example = torch.zeros(1, height_px, width_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns about its own internals; what it writes is checked by parity tests
        torch.onnx.export(
            cast(nn.Module, exported),
            (exported.planes_of(example) if planes else example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[BOXES_NAME, SCORES_NAME],
        )


def write_interface(spec: Spec, folder: Path) -> None:
    """Put next to a model file how it is fed and read, where it is not as `export_onnx` says or boxes need no suppression."""
    family = family_of(spec)
    if family.interface is not None:
        family.interface(spec).write(folder)
    elif family.select(spec) == "best":
        FileInterface(
            layout="nhwc",
            dtype="uint8",
            picture=PictureForm(),
            outputs=(BOXES_NAME, SCORES_NAME),
            decoding=Decoding(
                boxes=Boxes(outputs=(BOXES_NAME,), form="xyxy"), scores=Scores(outputs=(SCORES_NAME,)), select="best"
            ),
            classes=len(spec.classes),
        ).write(folder)
