"""Reading one picture of a user: its pixels, its size and a digest of its file."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin

from detection.frozen import InputError

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes that convert to RGB without loss of range; deep grey and float pictures would silently saturate."""
QUARTER_TURNS = (5, 6, 7, 8)
"""Orientations (Exif 2.32, section 4.6.4) that swap height and width; 1 means that the stored pixels are upright."""

ExifOrientation = Literal["refuse", "apply", "ignore"]


def read_pixels(path: Path, size: tuple[int, int], orientation: ExifOrientation) -> NDArray[np.uint8]:
    """The picture (height, width, 3) in RGB, read to its last pixel; InputError where it is broken or of another size."""
    with _reading(path), Image.open(path) as picture:
        _check_depth(path, picture)
        upright = _upright(path, picture, orientation)
        upright.load()
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")  # Pillow warns when it must guess this step
        pixels = np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))  # the same mode would be a copy
    if pixels.shape[:2] != size:
        raise InputError(
            f"{path}: {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), but its annotation says "
            f"{size[0]} x {size[1]}, so the boxes may not fit. Annotate it again, or correct the size if the boxes are right."
        )
    return pixels


def size_in_header(path: Path, orientation: ExifOrientation) -> tuple[int, int]:
    """(height, width) in pixels of what `read_pixels` would give, from the header alone."""
    with _reading(path), Image.open(path) as picture:
        upright = orientation != "apply" or picture.format == "TIFF"  # Pillow turns a TIFF by itself
        if upright or picture.getexif().get(ExifTags.Base.Orientation) not in QUARTER_TURNS:
            return picture.height, picture.width
        return picture.width, picture.height


def file_digest(path: Path) -> bytes:
    """sha256 of the file's bytes, read a block at a time."""
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a picture is read is an InputError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (InputError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{path}: larger than Pillow's safety limit of {Image.MAX_IMAGE_PIXELS:,} pixels. Scale the picture and its boxes down."
        ) from error
    except Exception as error:  # a broken file makes Pillow raise almost anything: TypeError out of EXIF, struct.error, zlib.error
        raise InputError(
            f"{path}: not a readable picture ({type(error).__name__}: {error}). It may be truncated, damaged or not a picture at "
            f"all: save it again or replace it, or remove it together with its annotations."
        ) from error


def _check_depth(path: Path, picture: ImageFile.ImageFile) -> None:
    """Refuse more than 8 bits a channel, whatever the format.

    Pillow keeps the upper 8 bits of some forms and refuses others. OpenCV keeps all bits of some, but does not scale a PNM by its
    greatest value, misreads 12-bit TIFF and cannot read CMYK. And files of 16 bits often hold 12 without saying so.
    """
    bits = _bits_a_channel(path, picture)
    if bits > 8 or picture.mode not in EIGHT_BIT_MODES:
        found = f"{bits} bits a channel" if bits > 8 else f"pixels of Pillow's mode {picture.mode!r}"
        raise InputError(
            f"{path}: {found}; allowed are 8 bits a channel. Which value is white cannot be told from such a file: "
            f"convert it to 8 bits with the brightness range you want (docs/your-data.md shows how)."
        )


def _bits_a_channel(path: Path, picture: ImageFile.ImageFile) -> int:
    """What the file stores, which Pillow's mode does not say for colour; 8 for formats that have no more."""
    match picture.format:
        case "PNG" | "SGI":
            return 16 if "16" in f"{picture.tile[0].codec_name} {picture.tile[0].args}" else 8
        case "PPM":  # raw samples, or (mode, maxval)
            layout = picture.tile[0].args
            if isinstance(layout, str):
                return 16 if "16" in layout else 8
            return max((value.bit_length() for value in layout or () if isinstance(value, int)), default=8)
        case "TIFF":
            assert isinstance(picture, TiffImagePlugin.TiffImageFile)
            return max(int(bits) for bits in picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        case "JPEG2000":  # ITU-T T.800, A.5.1: the segment SIZ ends with three bytes a component, the first its depth less 1
            content = path.read_bytes()
            size = content.index(b"\xff\x4f\xff\x51")
            count = int.from_bytes(content[size + 40 : size + 42])
            return max((depth & 0x7F) + 1 for depth in content[size + 42 : size + 42 + 3 * count : 3])
        case "AVIF":  # AV1 in ISOBMFF, 2.3.3: high_bitdepth
            content = path.read_bytes()
            return 10 if content[content.index(b"av1C") + 6] & 0x40 else 8
        case _:
            return 8


def _upright(path: Path, picture: Image.Image, orientation: ExifOrientation) -> Image.Image:
    if orientation == "ignore" and picture.format != "TIFF":
        return picture
    turn = picture.getexif().get(ExifTags.Base.Orientation, 1)
    if turn in (0, 1):  # cameras write 0 for "unknown"
        return picture
    if orientation == "apply":
        return ImageOps.exif_transpose(picture)
    if orientation == "ignore":
        raise InputError(
            f"{path}: EXIF orientation {turn} in a TIFF, which Pillow always turns: `exif_orientation: ignore` cannot be obeyed. "
            f"Save the picture without the tag."
        )
    raise InputError(
        f"{path}: EXIF orientation {turn} asks viewers to turn the picture, and nothing says whether its boxes were drawn before "
        f"or after the turn. Set `exif_orientation: apply` (after) or `ignore` (before), or save the picture upright."
    )
