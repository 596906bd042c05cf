"""Labelled pictures in the one form that every source is read into, and the checks that all sources share."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detection.data.dataset import SPLITS, Split
from detection.data.pixels import ExifOrientation, file_digest
from detection.frozen import Frozen, InputError, printable

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SPLIT_NAMES: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What tools call the splits, in small letters."""
NAME_BYTES, PATH_BYTES, SHOWN = 255, 4095, 80
"""The longest name and path that Linux's file systems take, in bytes; characters of a longer name that a message shows."""

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
    notes: tuple[str, ...] = ()
    """What the reader decided by itself and the user should know."""


class DataFile(NamedTuple):
    """A file that a reader looks at, be it there or not."""

    root: Path
    """The data folder."""
    name: str
    """Relative to it."""
    content: bytes | None = None
    """Of an annotation or a list; None where it is not there, and for a picture, which counts by its size."""


def split_by_share(
    names: Sequence[str], shares: SplitShares, seed: int, where: Path, into: tuple[Split, ...] = SPLITS
) -> dict[Split, list[str]]:
    """Every name in exactly one split, in sorted order there; the same names and seed give the same splits.

    Names are ranked by a hash of seed and name, so neither the order of a listing nor the platform matters, and a data set
    that grows keeps nearly all of its old pictures where they were. With fewer splits, their shares count among themselves.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest())
    own = [float(getattr(shares, split)) for split in into]
    whole = 1.0 if into == SPLITS else sum(own)
    ends = [round(len(ranked) * sum(own[: end + 1]) / whole) for end in range(len(own) - 1)]
    parts = [ranked[start:end] for start, end in zip([0, *ends], [*ends, len(ranked)], strict=True)]
    if not all(parts):
        raise InputError(
            f"{where}: {len(names)} pictures cannot be split by the shares {', '.join(f'{share:g}' for share in own)}: "
            f"{into[parts.index([])]} would be empty. Add pictures or change `split_shares`."
        )
    return {split: sorted(part) for split, part in zip(into, parts, strict=True)}


def same_pictures(files: Iterable[Path]) -> dict[Path, Path]:
    """Every file -> the first of the files that is the same picture: one file by whatever path or link, or equal bytes.

    Files of a size of their own are not read; of the others a digest is kept.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in dict.fromkeys(files):
        by_size[file.stat().st_size].append(file)
    first: dict[Path, Path] = {}
    for alike in by_size.values():
        seen: dict[bytes, Path] = {}
        for file in alike:
            first[file] = seen.setdefault(file_digest(file) if len(alike) > 1 else b"", file)
    return first


def draw_splits(
    files: Mapping[str, Path], shares: SplitShares | None, seed: int, where: Path, into: tuple[Split, ...] = SPLITS
) -> tuple[dict[Split, dict[str, Path]], tuple[str, ...]]:
    """Every name and its file in exactly one split, all names of one picture in the same; and what to tell of those."""
    same = same_pictures(files.values())
    names: dict[Path, list[str]] = defaultdict(list)
    for name in sorted(files):
        names[same[files[name]]].append(name)
    drawn = split_by_share([own[0] for own in names.values()], shares or SplitShares(), seed, where, into)
    splits = {
        split: {name: files[name] for leader in leaders for name in names[same[files[leader]]]} for split, leaders in drawn.items()
    }
    return splits, check_splits(splits, dict.fromkeys(into, where), same)


def settle_splits(
    given: Mapping[Split, Mapping[str, Path]], shares: SplitShares | None, seed: int, where: Path,
    lists: Mapping[Split, Path] | None = None,
) -> tuple[dict[Split, dict[str, Path]], tuple[str, ...]]:  # fmt: skip
    """Every name and its file in one split: as given where train and another are; and what to tell.

    Of val and test, the missing one is drawn from the other: who split the pictures knows which are of one scene, so train stays.
    With shares, or a single split, all are drawn. Lists are the files that say what a split holds, where there are such.
    """
    files = {name: file for own in given.values() for name, file in own.items()}
    if shares or len(given) == 1:
        return draw_splits(files, shares, seed, where)
    if "train" not in given:
        raise InputError(f"{where}: no train. Name its pictures, or set `split_shares` to have all pictures split again.")
    if alike := [split for split in given if split != "train" and given[split] == given["train"]]:
        raise InputError(f"{where}: train and {alike[0]} are the same pictures. Set `split_shares` to have them split.")
    splits, notes = {split: dict(own) for split, own in given.items()}, tuple[str, ...]()
    if len(splits) < len(SPLITS):
        [other] = set(splits) - {"train"}
        notes = (f"{where}: of val and test there is only {other}: half of its {len(splits[other]):,} pictures are taken for each",)
        splits |= draw_splits(splits[other], None, seed, where, ("val", "test"))[0]
    splits = {split: splits[split] for split in SPLITS}
    return splits, (*notes, *check_splits(splits, {**dict.fromkeys(SPLITS, where), **(lists or {})}))


def background_note(count: int, pictures: int, file: str) -> tuple[str, ...]:
    """What to tell of pictures without a file of labels."""
    return (f"{count:,} of {pictures:,} pictures have no {file}: they are background",) if count else ()


def check_splits(
    splits: Mapping[Split, Mapping[str, Path]], lists: Mapping[Split, Path], same: Mapping[Path, Path] | None = None
) -> tuple[str, ...]:
    """What to tell of pictures that stand in one split more than once; InputError where one stands in two splits.

    Lists are the files that say what a split holds; same is what `same_pictures` gives, where it is known already.
    """
    same = same or same_pictures(file for files in splits.values() for file in files.values())
    seen: dict[Path, tuple[Split, str]] = {}
    notes = []
    for split, files in splits.items():
        repeats: list[tuple[str, str]] = []
        for name, file in files.items():
            other, leader = seen.setdefault(same[file], (split, name))
            if other != split:
                raise InputError(
                    f"{lists[split]}: {name} is in {split}, and the same picture is in {other} as {leader} ({lists[other]}): one "
                    f"file, or equal bytes. A picture belongs to one split: remove it from the other, or the test would repeat "
                    f"the training."
                )
            if leader != name:
                repeats.append((name, leader))
        if repeats:
            notes.append(
                f"{split}: {len(repeats):,} of {len(files):,} pictures repeat another (one file, or equal bytes), first "
                f"{printable(' = '.join(repeats[0]))}. They are kept in one split, and each counts. Remove them if that is wrong."
            )
    return tuple(notes)


def existing_folder(base: Path, source: FolderSource) -> Path:
    """The data folder of a source; InputError where there is none."""
    folder = base / source.root
    if not folder.is_dir():
        found = "a file, but neither zip nor tar" if folder.is_file() else "no such folder"
        raise InputError(
            f"{folder}: {found}. `data.source.root` is {str(source.root)!r}, relative to the folder of the params file "
            f"({base}). Correct the path or put the data there."
        )
    return folder


def found_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files with these endings in a folder and the folders in it, sorted; hidden ones are none of the user's."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def nothing_found(folder: Path, suffixes: tuple[str, ...]) -> InputError:
    """What to raise where `found_files` gives nothing, with what is there instead."""
    others = sorted(path.name for path in folder.rglob("*") if path.is_file())
    return InputError(
        f"{folder}: no files with the ending {' or '.join(suffixes)}, neither there nor in folders within. Found: "
        f"{f'{len(others)} others, first {others[0]}' if others else 'no files'}. Put or convert them there, or correct `root`."
    )


def check_unique(values: Iterable[int | str], what: str, path: Path) -> None:
    """InputError where a value stands twice in a file."""
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: {what} {twice[0]!r} stands there more than once ({len(twice)} such). "
            f"Each must be unique: renumber or rename them."
        )


def stays_in(folder: Path, path: Path) -> bool:
    """Whether the path lies in the folder, links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))  # unlike resolve, raises nothing


def inside(folder: Path, name: str, where: str) -> Path:
    """The file of that name in the folder; InputError where no file can have it, or where it leads out, links followed."""
    if fault := _fault(folder, name):
        shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
        raise InputError(
            f"{where}: file name {shown!r} {fault}. A file name is a path relative to {folder}, with / between folders and at most "
            f"{NAME_BYTES} bytes in each part, and stays in that folder, links included: correct it, or move the file there."
        )
    return folder / name


def _fault(folder: Path, name: str) -> str | None:
    if "\0" in name:
        return "holds a NUL byte"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        return "is a web address"
    if (longest := max(len(os.fsencode(part)) for part in name.split("/"))) > NAME_BYTES:
        return f"has a part of {longest} bytes"
    if len(os.fsencode(folder / name)) > PATH_BYTES:
        return f"gives a path of more than {PATH_BYTES} bytes"
    if Path(name).is_absolute():
        return "is an absolute path"
    return None if stays_in(folder, folder / name) else f"leads out of {folder}"


def read_bytes(path: Path) -> bytes:
    """The file's content; InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Put the file there or correct its path.") from error


def read_text(path: Path, errors: Literal["strict", "surrogateescape"] = "strict") -> str:
    """The file's text; InputError where it cannot be read or is not UTF-8.

    With `surrogateescape`, other bytes are read as Python reads those of file names, so that both can be compared.
    """
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    if "\0" in text:  # UTF-16, as Windows likes to write it
        raise InputError(f"{path}: not text in UTF-8 (NUL at byte {content.index(0)}). Save it as UTF-8.")
    return text
