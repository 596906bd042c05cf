"""The pictures that a user names: files, folders and patterns, each read to its last pixel before anything is written."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.data.pixels import ExifOrientation, read_pixels, size_in_header
from detection.frozen import InputError
from flows.progress import steps
from flows.report.drawing import MOST_SIDE_PX

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of pictures, where a folder is named; a file that is named itself may have any."""


class Picture(NamedTuple):
    """One picture, not yet read."""

    file: Path
    """As the user named it."""
    size: tuple[int, int] | None
    """(height, width) in pixels that its labels are for; None where it has none."""
    orientation: ExifOrientation

    def pixels(self) -> NDArray[np.uint8]:
        """The picture (height, width, 3), RGB; InputError where it cannot be read, or has another size than its labels are for."""
        return read_pixels(self.file, self.size or size_in_header(self.file, self.orientation), self.orientation)


def find_pictures(named: Sequence[str]) -> list[Path]:
    """Every picture once, as it is named first, those of a folder or pattern sorted; InputError for a name without pictures."""
    found: dict[Path, Path] = {}
    for name in named:
        own = list(_files(name))
        if not own:
            what = f"no pictures ({', '.join(SUFFIXES)}) in this folder" if Path(name).is_dir() else "no such file, and no match"
            raise InputError(f"{name}: {what}. Name pictures, folders that hold them, or patterns such as 'photos/*.jpg'.")
        for file in own:
            found.setdefault(file.parent.resolve() / file.name, file)
    return list(found.values())


def readable(files: Sequence[Path], sizes: Mapping[Path, tuple[int, int]], orientation: ExifOrientation) -> list[Picture]:
    """The pictures, each of which was read once; InputError names the first that cannot be, and how many there are."""
    pictures = [Picture(file, sizes.get(file), orientation) for file in files]
    faults = [fault for own in steps(pictures, len(pictures), "read", "pictures") if (fault := _fault(own))]
    if faults:
        raise InputError(f"{len(faults)} of {len(files)} pictures cannot be used; nothing was written. The first: {faults[0]}")
    return pictures


def names_apart(files: Sequence[Path]) -> Iterator[str]:
    """For each file its name without suffix, numbered from the second of a name on; capital letters make no difference."""
    taken: set[str] = set()
    for file in files:
        name, number = file.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.casefold())
        yield name


def _files(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        listed = sorted(path.iterdir())
        yield from (own for own in listed if own.suffix.lower() in SUFFIXES and own.name[0] != "." and own.is_file())
    elif path.is_file():
        yield path
    else:
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207, a pattern may begin with /
        yield from (own for own in map(Path, matches) if own.is_file())


def _fault(picture: Picture) -> str | None:
    try:
        longest_px = max(picture.pixels().shape)
    except InputError as error:
        return str(error)
    if longest_px > MOST_SIDE_PX:
        return f"{picture.file}: a side of {longest_px} pixels; a drawing may have {MOST_SIDE_PX}. Scale it down or cut it."
    return None
