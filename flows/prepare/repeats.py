"""The same picture in two splits where neither path nor bytes tell: saved again, in another format or size. Found by its pixels."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.boxes import Fit
from detection.data.dataset import Split
from detection.data.pixel_files import Pixels, read_picture

Hashes = NDArray[np.uint64]
FLIPS: Hashes = np.concatenate([np.zeros(1, np.uint64), np.uint64(1) << np.arange(64, dtype=np.uint64)])
"""Every change of at most one bit: two hashes with a changed form in common differ in at most two bits, and the reverse."""
FLAT = 2
"""Steps of grey that a rising edge must exceed, or noise would decide the bits of a plain surface."""
CANDIDATES = 16
"""Earlier pictures that one is compared with at most, the nearest first: pictures of a fixed camera may all have one hash."""
THUMB, MOST_STEPS = (32, 32), 24
"""Alike are two pictures of which no cell of the grey thumbnails differs by more, in steps of 255: an object that moved does."""


class Repeat(NamedTuple):
    """A picture that an earlier split has as well."""

    picture: str
    earlier: str
    equal: bool
    """Every pixel of the input, rather than alike."""


class Seen:
    """Fingerprints of all pictures, split after split; a kilobyte of each is kept, the pixels stay in their files."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._starts: dict[Split, int] = {}
        self._hashes, self._sums = array("Q"), array("L")
        self._thumbs = bytearray()

    def add(self, split: Split, name: str, pixels: NDArray[np.uint8], fit: Fit) -> None:
        """Take the next picture (height, width, 3) as it lies in the input; all of a split come one after another."""
        self._starts.setdefault(split, len(self.names))
        self.names.append(name)
        grey = _grey(pixels[fit.top_px : pixels.shape[0] - fit.top_px, fit.left_px : pixels.shape[1] - fit.left_px])
        self._hashes.append(difference_hash(grey))
        self._thumbs += _cells(grey, THUMB).tobytes()
        self._sums.append(zlib.crc32(pixels.data))

    def repeats(self, packed: Mapping[Split, Pixels]) -> Iterator[Repeat]:
        """Pictures that an earlier split has as well, each once; `packed` has the pixels of every split."""
        hashes = np.frombuffer(self._hashes, np.uint64)
        thumbs = np.frombuffer(self._thumbs, np.uint8).reshape(len(self.names), -1)
        ends = [*list(self._starts.values())[1:], len(self.names)]
        first: dict[tuple[int, int], int] = {}

        def pixels(index: int) -> NDArray[np.uint8]:
            split = next(split for split, start in reversed(self._starts.items()) if index >= start)
            return read_picture(packed[split], index - self._starts[split])

        for start, end in zip(self._starts.values(), ends, strict=True):
            near = near_hashes(hashes[start:end], hashes[:start])
            for index in range(start, end):
                same = first.get((self._hashes[index], self._sums[index]))
                if same is not None and np.array_equal(pixels(same), pixels(index)):
                    yield Repeat(self.names[index], self.names[same], equal=True)
                elif candidates := near.get(index - start):
                    steps = np.abs(thumbs[candidates].astype(np.int16) - thumbs[index]).max(1)
                    if (alike := steps <= MOST_STEPS).any():
                        yield Repeat(self.names[index], self.names[candidates[int(alike.argmax())]], equal=False)
            for index in range(start, end):
                first.setdefault((self._hashes[index], self._sums[index]), index)


def difference_hash(grey: NDArray[np.uint8]) -> int:
    """64 bits of a grey picture, one for each step to the right in 8 rows of 9 cells: 1 where it becomes lighter (dHash)."""
    cells = _cells(grey, (9, 8)).astype(np.int16)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1] + FLAT).tobytes())


def near_hashes(own: Hashes, others: Hashes) -> dict[int, list[int]]:
    """Row in own -> rows of others whose hash differs in at most two bits, the nearest first, CANDIDATES at most.

    Memory and time grow with the number of pictures, not with that of their pairs.
    """
    forms = (others[:, None] ^ FLIPS).ravel()
    order = np.argsort(forms, kind="stable")
    forms, owners = forms[order], order // len(FLIPS)
    wanted = own[:, None] ^ FLIPS  # (pictures, 65), the unchanged hash first
    begin, end = np.searchsorted(forms, wanted), np.searchsorted(forms, wanted, side="right")
    found = {}
    for row in np.flatnonzero((end > begin).any(1)):
        spans = zip(begin[row], np.minimum(end[row], begin[row] + CANDIDATES), strict=True)
        rows = np.unique(np.concatenate([owners[low:high] for low, high in spans]))
        distance = np.array([int(own[row] ^ others[other]).bit_count() for other in rows])
        found[int(row)] = rows[np.argsort(distance, kind="stable")][:CANDIDATES].tolist()
    return found


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _cells(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The means of a grey picture at (width, height), as OpenCV has it."""
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
