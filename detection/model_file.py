"""How a model file is fed and read: one of ours as it is, a user's own by the interface that lies next to it. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detection.boxes import Array
from detection.evaluation import Infer, as_input
from detection.file_interface.interface import FileInterface, read_interface

Call = Callable[[Any], Sequence[Array]]
"""An opened file: the picture as it takes it -> its outputs."""


@dataclass(frozen=True)
class Reader:
    """What surrounds a file that was opened."""

    tensor: Callable[[NDArray[np.uint8]], NDArray[Any]]
    """A picture of the input's size (height, width, 3), RGB -> the picture as the file takes it."""
    boxes_and_scores: Callable[[Sequence[Array], tuple[int, int]], tuple[Array, Array]]
    """Outputs, input size (height, width) -> boxes (1, N, 4) xyxy in pixels of the input, and scores (1, N, C) in [0, 1]."""
    select: Literal["nms", "best"] = "nms"
    """How final detections are chosen, as the family's `select` says of a spec."""

    def infer(self, call: Call) -> Infer:
        """A picture of the input's size (1, height, width, 3) -> boxes and scores, by an opened file."""

        def boxes_and_scores(pixels: NDArray[np.uint8]) -> tuple[Array, Array]:
            size = int(pixels.shape[1]), int(pixels.shape[2])
            return self.boxes_and_scores(call(self.tensor(pixels[0])), size)

        return boxes_and_scores


def reader_of(model: Path) -> Reader:
    """How this file is fed and read."""
    return reader_for(read_interface(model.parent))


def reader_for(interface: FileInterface | None) -> Reader:
    """How files of this interface are fed and read; without one they are ours."""
    if interface is None:
        return Reader(as_input, _as_they_are)
    return Reader(interface.tensor, interface.boxes_and_scores, interface.decoding.select)


def _as_they_are(outputs: Sequence[Array], input_size: tuple[int, int]) -> tuple[Array, Array]:
    boxes, scores = outputs
    return boxes, scores
