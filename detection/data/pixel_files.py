"""The pixels of a prepared split in one file: raw and mapped, or, where that would be large, encoded without loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.frozen import DamagedError

RAW, ENCODED = ".npy", ".pngs"
"""Endings of a split's file: NumPy's own, and PNG after PNG, then the places where they begin and the last one ends, as int64."""
PNG = (
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG),
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
)
"""Of photographs 46 % of the raw bytes, as by OpenCV's own choice, but written in half of the time."""
Shape = tuple[int, int, int, int]
"""(pictures, height, width, 3) in pixels, RGB."""


@dataclass(frozen=True, eq=False)
class EncodedPixels:
    """Pictures (pictures, height, width, 3) in RGB, each decoded whenever it is asked for; none is kept.

    Indexed by a row, or by a slice or an array of rows, iterated over, and made an array of, as NumPy's own. DamagedError where the
    file no longer holds a picture.
    """

    file: Path
    spans: NDArray[np.int64]  # (pictures, 2), the first byte of each and that after its last
    stored_size: tuple[int, int]  # (height, width) in pixels, of what is in the file
    size: tuple[int, int]  # (height, width) in pixels, of what comes out

    @property
    def shape(self) -> Shape:
        """That of the array."""
        return (len(self), *self.size, 3)

    def __len__(self) -> int:
        return len(self.spans)

    @overload
    def __getitem__(self, rows: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, rows: slice | NDArray[np.int64]) -> EncodedPixels: ...
    def __getitem__(self, rows: int | slice | NDArray[np.int64]) -> NDArray[np.uint8] | EncodedPixels:
        return replace(self, spans=self.spans[rows]) if isinstance(rows, slice | np.ndarray) else self._picture(rows)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return map(self._picture, range(len(self)))

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return np.stack(list(self)) if len(self) else np.empty(self.shape, np.uint8)

    def _picture(self, row: int) -> NDArray[np.uint8]:
        begin, end = self.spans[row]
        encoded = np.fromfile(self.file, np.uint8, end - begin, offset=begin)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if len(encoded) else None
        if decoded is None or decoded.shape != (*self.stored_size, 3):
            raise DamagedError(f"{self.file}: damaged at byte {begin}. Run `sixfold prepare` again.")
        return _resized(decoded, self.size)


Pixels = NDArray[np.uint8] | EncodedPixels
"""(pictures, height, width, 3) in RGB."""


@contextmanager
def pixel_writer(folder: Path, split: str, shape: Shape, *, encoded: bool) -> Iterator[Callable[[NDArray[np.uint8]], object]]:
    """What takes the pictures of a split, (height, width, 3) each, one by one; the file is whole when the block ends."""
    with (folder / f"{split}{ENCODED if encoded else RAW}").open("wb") as file:
        if not encoded:
            # a file, not a memory map: its pages would count as memory of this process
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            yield lambda picture: file.write(picture.data)
            return
        places = [0]

        def add(picture: NDArray[np.uint8]) -> None:
            file.write(encode(picture).data)
            places.append(file.tell())

        yield add
        file.write(np.array(places, "<i8").data)


def open_pixels(folder: Path, split: str, shape: Shape) -> Pixels:
    """The pixels of a split, none of them read yet; ValueError or FileNotFoundError where there are no such."""
    file = folder / f"{split}{ENCODED}"
    pixels = _encoded(file, shape) if file.is_file() else np.load(file.with_suffix(RAW), mmap_mode="r", allow_pickle=False)
    if pixels.shape != shape:
        raise ValueError(f"pixels of shape {pixels.shape}, not {shape}")
    return pixels


def read_picture(pixels: Pixels, row: int) -> NDArray[np.uint8]:
    """One picture (height, width, 3), read from its file: pages of a map would stay in the memory of this process."""
    if not isinstance(pixels, np.memmap):
        return pixels[row]
    assert pixels.filename is not None, "mapped from a file"
    shape = pixels.shape[1:]
    return np.fromfile(pixels.filename, np.uint8, math.prod(shape), offset=pixels.offset + row * math.prod(shape)).reshape(shape)


def resized(pixels: Pixels, input_size: tuple[int, int]) -> Pixels:
    """The same pictures at another size, (height, width) in pixels: in memory, or, if encoded, when one is asked for."""
    if isinstance(pixels, EncodedPixels):
        return replace(pixels, size=input_size)
    smaller = np.empty((len(pixels), *input_size, 3), dtype=np.uint8)
    for row, picture in enumerate(pixels):
        smaller[row] = _resized(np.asarray(picture), input_size)
    return smaller


def encode(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture (height, width, 3) as PNG, without loss."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), PNG)
    assert done, "in memory"
    return np.asarray(encoded, np.uint8)


def _encoded(file: Path, shape: Shape) -> EncodedPixels:
    size_bytes, places_bytes = file.stat().st_size, 8 * (shape[0] + 1)
    places = np.fromfile(file, "<i8", offset=max(0, size_bytes - places_bytes))
    if len(places) != shape[0] + 1 or places[0] != 0 or places[-1] != size_bytes - places_bytes or (np.diff(places) <= 0).any():
        raise ValueError(f"{file.name} is cut off, or does not hold {shape[0]} pictures")
    return EncodedPixels(file, np.stack([places[:-1], places[1:]], 1), shape[1:3], shape[1:3])


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if picture.shape[:2] == size:
        return picture
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
