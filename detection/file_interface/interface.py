"""What lies between pictures and a user's file, and between its outputs and boxes; data, kept in a file next to the model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from detection.file_interface.declaration import Decoding
from detection.file_interface.outputs import decode
from detection.frozen import Frozen, PositiveInt, read_json

INTERFACE_FILE = "interface.json"
Array = NDArray[np.float32]
Colour = Literal["rgb", "bgr", "grey"]
InputType = Literal["float32", "float16", "uint8"]
GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey value (ITU-R BT.601, what OpenCV and Pillow take)."""


class PictureForm(Frozen):
    """How pixels become the numbers that a file was trained on: (pixel / scale - mean) / std, channel by channel."""

    colour: Colour = "rgb"
    scale: PositiveFloat = 255.0
    """What pixels in [0, 255] are divided by."""
    mean: tuple[float] | tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Taken off after the division, in the order of the file's channels."""
    std: tuple[PositiveFloat] | tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)
    """What is divided by at last, in the same order."""


class FileInterface(Frozen):
    """How one user's file is fed and read."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    layout: Literal["nchw", "nhwc"]
    dtype: InputType
    """Of the input. Bytes are handed on as they are, in the file's order of colours."""
    picture: PictureForm
    outputs: tuple[str, ...]
    """Names of the outputs in the file's order, in which every runtime gives them."""
    decoding: Decoding
    classes: PositiveInt
    """How many the file's scores are of."""
    columns: tuple[int, ...] | None = None
    """Which of them are the classes of the data, in its order; None: all, as they are."""

    def tensor(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """A picture (height, width, 3), RGB, as the file takes it: (1, channels, height, width), or channels last."""
        numbers = self._channels(pixels)
        if self.dtype != "uint8":
            factors, offsets = self.factors_and_offsets()
            numbers = (numbers * factors - offsets).astype(self.dtype)
        ordered = numbers.transpose(2, 0, 1) if self.layout == "nchw" else numbers
        return np.ascontiguousarray(ordered[None])

    def factors_and_offsets(self) -> tuple[Array, Array]:
        """What pixels of each channel are multiplied by, and what is taken off then, in the file's order."""
        channels = 1 if self.picture.colour == "grey" else 3
        mean, std = (np.asarray(own, np.float32)[:channels] for own in (self.picture.mean, self.picture.std))
        return np.asarray(1.0 / (self.picture.scale * std), np.float32), np.asarray(mean / std, np.float32)

    def limits(self) -> tuple[float, float]:
        """The least and the greatest number that a pixel can become."""
        ends = self.tensor(np.stack([np.zeros((1, 3), np.uint8), np.full((1, 3), 255, np.uint8)]))
        return float(ends.min()), float(ends.max())

    def boxes_and_scores(self, outputs: Sequence[Array], input_size: tuple[int, int]) -> tuple[Array, Array]:
        """Boxes (1, N, 4) xyxy in pixels of the input, (height, width), and scores (1, N, C) in [0, 1]."""
        named = dict(zip(self.outputs, outputs, strict=True))
        boxes, scores = decode(self.decoding, named, input_size, self.classes)
        return boxes[None], scores[None] if self.columns is None else scores[None][..., list(self.columns)]

    def write(self, folder: Path) -> None:
        """Put it next to a model file."""
        (folder / INTERFACE_FILE).write_text(self.model_dump_json(by_alias=True, indent=1) + "\n")

    def _channels(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        match self.picture.colour:
            case "rgb":
                return pixels
            case "bgr":
                return pixels[..., ::-1]
            case "grey":
                grey = pixels @ np.asarray(GREY_WEIGHTS, np.float32)
                return grey.round().astype(np.uint8)[..., None]


def read_interface(folder: Path) -> FileInterface | None:
    """The interface of the model file in a folder; None where the file is one of ours."""
    path = folder / INTERFACE_FILE
    return read_json(path, FileInterface, "Run `sixfold grid` again: it replaces what is damaged.") if path.is_file() else None
