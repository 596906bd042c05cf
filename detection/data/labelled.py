"""Labelled pictures in the one form that every source is read into, and the checks that all sources share."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field, model_validator

from detection.data.dataset import SPLITS, Split
from detection.frozen import Frozen, InputError

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes that convert to RGB without loss of range; 16-bit and float pictures would silently saturate."""
EXIF_ORIENTATION = 0x0112
"""The tag that says how a viewer must turn the stored pixels (Exif 2.32, section 4.6.4); 1 means not at all."""

ExifOrientation = Literal["refuse", "apply", "ignore"]
PositiveShare = Annotated[float, Field(gt=0.0, lt=1.0)]


class SplitShares(Frozen):
    """Which share of the pictures goes into each split; they add up to 1."""

    train: PositiveShare = 0.7
    val: PositiveShare = 0.15
    test: PositiveShare = 0.15

    @model_validator(mode="after")
    def _add_up_to_one(self) -> SplitShares:
        if abs(self.train + self.val + self.test - 1.0) > 1e-6:
            raise ValueError(f"split_shares add up to {self.train + self.val + self.test:g}; they must add up to 1")
        return self


class FolderSource(Frozen):
    """What every data set in a folder of pictures has."""

    root: Path
    """The data folder, relative to the folder of the params file."""
    split_shares: SplitShares | None = None
    """Split by these shares; by default the data set's own splits where it has them, otherwise 0.7, 0.15 and 0.15."""
    exif_orientation: ExifOrientation = "refuse"
    """For pictures that ask to be turned: were the boxes drawn on the turned picture (apply) or on the stored pixels (ignore)?"""


@dataclass(frozen=True)
class Picture:
    """One labelled picture; its pixels are read only when asked for."""

    file_name: str
    size: tuple[int, int]  # (height, width) in pixels
    boxes_xyxy_px: NDArray[np.float64]  # (n, 4), as the source has them: not yet clipped
    labels: NDArray[np.int64]  # (n,), index into the classes
    crowd: NDArray[np.bool_]  # (n,), neither learned from nor counted against a detector
    pixels: Callable[[], NDArray[np.uint8]]  # -> (height, width, 3), RGB


class Pictures(Protocol):
    """Pictures in a fixed order, made or read one at a time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Picture]: ...


@dataclass(frozen=True)
class Labelled:
    """A whole data set: its classes and the pictures of every split."""

    classes: tuple[str, ...]
    splits: dict[Split, Pictures]


def split_by_share(names: Sequence[str], shares: SplitShares, seed: int, where: Path) -> dict[Split, list[str]]:
    """Every name in exactly one split, in sorted order there; the same names and seed give the same splits.

    Names are ranked by a hash of seed and name, so neither the order of a listing nor the platform matters, and a data set
    that grows keeps nearly all of its old pictures where they were.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    train_end = round(len(ranked) * shares.train)
    val_end = round(len(ranked) * (shares.train + shares.val))
    parts = (ranked[:train_end], ranked[train_end:val_end], ranked[val_end:])
    if not all(parts):
        raise InputError(
            f"{where}: {len(names)} pictures cannot be split by the shares {shares.train:g}, {shares.val:g}, {shares.test:g}: "
            f"{SPLITS[parts.index([])]} would be empty. Add pictures or change `split_shares`."
        )
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def existing_folder(base: Path, source: FolderSource) -> Path:
    """The data folder of a source; InputError where there is none."""
    folder = base / source.root
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder. `data.source.root` is {str(source.root)!r}, relative to the folder of the params file "
            f"({base}). Correct the path or put the data there."
        )
    return folder


def inside(folder: Path, name: str, where: Path) -> Path:
    """The file of that name in the folder; InputError where the name, links followed, leads out of it."""
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{where}: file name {name!r} leads out of {folder}. Names must stay inside the data folder, links included: "
            f"move the file there and correct the name."
        )
    return path


def read_text(path: Path) -> str:
    """The file's text; InputError where it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Put the file there or correct its path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error


def read_pixels(path: Path, size: tuple[int, int], orientation: ExifOrientation) -> NDArray[np.uint8]:
    """The picture (height, width, 3) in RGB, read to its last pixel; InputError where it is broken or of another size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                _check_mode(path, picture)
                upright = _upright(path, picture, orientation)
                upright.load()
                pixels = np.asarray(_to_rgb(upright))
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{path}: larger than Pillow's safety limit of {Image.MAX_IMAGE_PIXELS:,} pixels. Scale the picture and its boxes down."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise InputError(
            f"{path}: not a readable picture ({error}). It may be truncated or not a picture at all: "
            f"replace the file, or remove it together with its annotations."
        ) from error
    if pixels.shape[:2] != size:
        raise InputError(
            f"{path}: {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), but its annotation says "
            f"{size[0]} x {size[1]}, so the boxes may not fit. Annotate it anew, or correct the size if the boxes are right."
        )
    return pixels


def stored_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels from the picture's header, without reading its pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused when the pixels are read
            with Image.open(path) as picture:
                return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable picture ({error}). Replace the file, or remove it and its annotation.") from error


def _check_mode(path: Path, picture: Image.Image) -> None:
    if picture.mode not in EIGHT_BIT_MODES:
        raise InputError(
            f"{path}: pixels of mode {picture.mode!r}; allowed are 8-bit pictures ({', '.join(EIGHT_BIT_MODES)}). "
            f"Convert it to 8 bits with the brightness range you want."
        )


def _upright(path: Path, picture: Image.Image, orientation: ExifOrientation) -> Image.Image:
    turn = picture.getexif().get(EXIF_ORIENTATION, 1)
    if turn in (0, 1) or orientation == "ignore":  # cameras write 0 for "unknown"
        return picture
    if orientation == "apply":
        return ImageOps.exif_transpose(picture)
    raise InputError(
        f"{path}: EXIF orientation {turn} asks viewers to turn the picture, and nothing says whether its boxes were drawn before "
        f"or after the turn. Set `exif_orientation: apply` (after) or `ignore` (before), or save the picture upright."
    )


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Pillow warns when it must guess this step
    return picture.convert("RGB")
