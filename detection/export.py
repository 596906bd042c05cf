"""A detector as an ONNX file: pixels in, decoded boxes and scores out."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import torch

from detection.checkpoint import Detector
from detection.compact.deployed import Deployed

OPSET = 18
INPUT_NAME, BOXES_NAME, SCORES_NAME = "images", "boxes", "scores"


def export_onnx(detector: Detector, path: Path, *, planes: bool = False) -> None:
    """Write one self-contained ONNX file.

    `images` (1, height, width, 3) uint8 RGB, as cameras and decoders give them -> `boxes` (1, N, 4) xyxy in pixels, `scores`
    (1, N, C) in [0, 1]. With planes, `images` is what `Deployed.planes_of` makes of them instead, floats with channels first: what
    tools that quantize understand. It is not a file to ship.
    """
    height_px, width_px = detector.blueprint.input_size
    deployed = Deployed(detector.network(), planes=planes).eval()
    example = torch.zeros(1, height_px, width_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns about its own internals; what it writes is checked by parity tests
        torch.onnx.export(
            deployed,
            (deployed.planes_of(example) if planes else example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[BOXES_NAME, SCORES_NAME],
        )
