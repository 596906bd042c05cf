"""What a runtime is: the files it opens, and what opens them, reads their graph and writes them in float16 and int8."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hardware_profiles.estimate.graph.graph import Graph
    from hardware_profiles.runtimes.ranges import Ranges

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8] | NDArray[np.float32]
INPUT, OUTPUTS = "images", ("boxes", "scores")
"""Names in every file that a family of ours exports."""
COLOURS = 3
PICTURE_CHANNELS = (COLOURS, 1)
"""Of pictures in colour and in grey."""
PLANE_CHANNELS = (COLOURS, 4 * COLOURS)
"""Of files for quantizers: one pixel in each position, or four of a row."""
MODEL = "model"
"""Stem of the files that writers write."""


class SessionError(ValueError):
    """A runtime is unknown or absent, or cannot open a file; the message says which and what to do."""


class Session(Protocol):
    """An opened detector."""

    input_size: tuple[int, int]
    """(height, width) in pixels."""
    output_names: tuple[str, ...]
    """In the order in which a call gives them."""

    def blank(self) -> Pixels:
        """A black picture as this file takes it."""

    def __call__(self, pixels: Pixels) -> tuple[Array, ...]:
        """The outputs in fresh memory, for one picture as the file takes it.

        Files of ours take pictures (1, height, width, 3) uint8 and give boxes (1, N, 4) xyxy in pixels and scores (1, N, C). Those
        that were exported for quantizers take planes (1, 3, height, width) float32 in [0, 255] instead, or (1, 12, height,
        width / 4), four pixels of a row in one position. A user's file has outputs of its own, which come in the file's order.
        """


WriteInt8 = Callable[["Ranges", Iterable[str], Path], Path]
"""Ranges by tensor, names of the nodes that stay float, folder -> the int8 file in it."""


@dataclass(frozen=True)
class ForInt8:
    """All that an int8 file is made from, besides ranges and the choice of nodes."""

    planes_file: Path
    """The float ONNX file that takes planes."""
    prepared_file: Path
    """The same with constants folded and normalisations fused: the one whose tensors have ranges."""
    pictures: tuple[Any, ...]
    """Training pictures as planes."""
    trained_for_int8: bool
    """By quantization-aware training, which has corrected biases itself."""
    takes_pictures: bool = True
    """Whether the int8 file takes pictures as they are stored; false: what the float file takes, as a user's own does."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One runtime. Its functions are `lazily` imported: a table of runtimes costs nothing to read."""

    name: str
    package: str
    """Distribution that must be installed to open files."""
    libraries: tuple[str, ...]
    """Distributions that decide what is in its files: their versions are part of the keys of the nodes that write them."""
    suffixes: tuple[str, ...]
    """Files it opens, its own format first."""
    parts: tuple[str, ...] = ()
    """Suffixes of the files that belong to one of its own format."""
    open: Callable[[Path, int], Session]
    """File, threads -> session."""
    read_graph: Callable[[Path], Graph]
    """File -> what the runtime executes of it."""
    write_float16: Callable[[Path, Path], Path]
    """Float ONNX file, folder -> the file with float16 weights in it."""
    int8_writer: Callable[[ForInt8], WriteInt8]
    pack: Callable[[Path, Path], Path] | None = None
    """Float ONNX file, folder -> the same in its own format; needed where it opens no ONNX."""
    keeps_half_stem_float: bool = False
    """Whether a stem that steps by 2 is faster in float."""
    empty_model: Mapping[str, bytes]
    """Suffix -> content of a detector that does nothing, `INPUT` of 1 x 3 x 8 x 8 to `OUTPUTS`: the positive part of the input.

    Constants, since the process that measures what a runtime costs by itself must not load the libraries that could make them.
    """

    @property
    def needs_packing(self) -> bool:
        """True where it does not open the exported ONNX file as it is."""
        return ".onnx" not in self.suffixes


class Tensor(NamedTuple):
    """What a file says of a tensor that it takes."""

    shape: list[int | str]
    """Sides that are open have a name, or a question mark."""
    dtype: str
    """As NumPy calls it."""


class OpenedFile(Session):
    """What all sessions have in common: they know what they take."""

    input_name: str

    def blank(self) -> Pixels:
        """A black picture as this file takes it."""
        return np.zeros(self._shape, self._dtype)

    def check_type(self, pixels: Pixels) -> None:
        """SessionError for pixels of another type than the file takes, where the runtime would convert them without a word."""
        if pixels.dtype != self._dtype:
            raise SessionError(f"input {self.input_name} is {pixels.dtype}; the file takes {self._dtype}")

    def accept(self, model: Path, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> None:
        """Note what the one input is and which outputs there are; SessionError where it is no picture."""
        if len(inputs) != 1:
            raise SessionError(f"{model}: has {len(inputs)} inputs ({', '.join(inputs)}); a detector has one, the picture")
        ((self.input_name, (shape, dtype)),) = inputs.items()
        match shape:
            case [1, int(height_px), int(width_px), channels] if channels in PICTURE_CHANNELS:
                self.input_size = height_px, width_px
            case [1, int(channels), int(height_px), int(positions)] if channels in (*PICTURE_CHANNELS, *PLANE_CHANNELS):
                per_position = channels // COLOURS or 1
                self.input_size = height_px, positions * per_position
            case _:
                raise SessionError(
                    f"{model}: input {self.input_name} has the shape {shape}; (1, height, width, 3) or (1, 3, height, width) with "
                    f"fixed sizes is needed"
                )
        self._shape, self._dtype = tuple(int(side) for side in shape), np.dtype(dtype)
        self.output_names = OUTPUTS if set(outputs) == set(OUTPUTS) else tuple(outputs)


def cannot_open(model: Path, runtime: str, error: Exception) -> SessionError:
    """The error for a file that the runtime refuses, with the first line of what it says."""
    return SessionError(f"{model}: {runtime} cannot open it: {first_line(error)}")


def lazily(function: str) -> Callable[..., Any]:
    """A function, "module:name", that is imported when it is called."""

    def call(*arguments: Any) -> Any:
        module, _, name = function.partition(":")
        return getattr(importlib.import_module(module), name)(*arguments)

    return call


def first_line(error: Exception) -> str:
    """What an exception says first."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
