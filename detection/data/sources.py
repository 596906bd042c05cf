"""Where pictures come from: the configuration of a data set, the one function that reads any of them, and a digest of it all, by
which prepared data is known to be what a params file asks for."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from detection.boxes import Resize
from detection.data.archives import Watch, archive_digest, is_archive, unpacked, unwatched
from detection.data.coco import CocoSource, coco_files, read_coco
from detection.data.dataset import Provenance
from detection.data.generated import GeneratedSource, read_generated
from detection.data.labelled import DataFile, FolderSource, Labelled
from detection.data.voc import VocSource, read_voc, voc_files
from detection.data.yolo import read_yolo, yolo_files
from detection.data.yolo_description import YoloSource
from detection.frozen import Digest, Frozen, PositiveInt

Source = GeneratedSource | CocoSource | VocSource | YoloSource
READING_VERSION = 2
"""Raise when reading, composing or letterboxing gives other pixels or boxes for the same pictures; a test notices."""
ABSENT = "absent"


class Reader(NamedTuple):
    """What is known of one kind of source; paths are relative to base, the folder of the params file."""

    read: Callable[[Any, Path, int], Labelled]
    """(source, base, seed) -> the labelled pictures; InputError for bad data."""
    files: Callable[[Any, Path], Iterable[DataFile]]
    """(source, base) -> every file that `read` looks at, whether it is there or not."""


READERS: dict[type[Source], Reader] = {
    GeneratedSource: Reader(lambda source, base, seed: read_generated(source, seed), lambda source, base: ()),
    CocoSource: Reader(read_coco, coco_files),
    VocSource: Reader(read_voc, voc_files),
    YoloSource: Reader(read_yolo, yolo_files),
}
"""A further format is a file like `voc.py`, a row here and its class in `Source`."""


class Data(Frozen):
    """The `data` section of a params file: which pictures, and the size a detector sees them in."""

    name: Annotated[str, Field(min_length=1)] = "digits"
    source: Annotated[Source, Field(discriminator="kind")] = GeneratedSource()
    input_size: tuple[PositiveInt, PositiveInt] = (96, 128)
    """(height, width) in pixels that every picture is brought to; multiples of the detector's coarsest stride, mostly 32."""
    resize: Resize = "letterbox"
    """`letterbox`: in its own shape, padded with grey; `stretch`: to all of the input, as some detectors were trained."""
    pixel_cache_bytes: Annotated[int, Field(ge=0)] = 4 * 2**30
    """A split with more bytes of pixels is stored encoded, without loss, and decoded as batches ask for it: the same pixels in less
    room, but slower to read. No result depends on it."""


def read_source(source: Source, base: Path, seed: int, watch: Watch = unwatched) -> Labelled:
    """The labelled pictures of any source; its paths are relative to base, the folder of the params file.

    The seed makes the generated pictures, or the splits of a data set that brings none. A root that is an archive is unpacked
    below base, once, and watched meanwhile. Raises InputError for bad data.
    """
    notes: tuple[str, ...] = ()
    if archive := _archive(source, base):
        folder = unpacked(archive, base, watch)
        source = source.model_copy(update={"root": folder})
        notes = (f"{archive} is unpacked in {folder}",)
    labelled = READERS[type(source)].read(source, base, seed)
    return replace(labelled, notes=(*notes, *labelled.notes))


def provenance(data: Data, base: Path, seed: int, watch: Watch = unwatched) -> Provenance:
    """What `prepare` would work from now; paths in the data are relative to base, the folder of the params file."""
    asked = data.model_dump(mode="json", exclude={"pixel_cache_bytes"})
    if data.resize == "letterbox":  # the only way there was when the first data was prepared
        del asked["resize"]
    settings = {"reading": READING_VERSION, "data": asked, "seed": seed}
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return Provenance(settings=hashlib.sha256(text.encode()).hexdigest(), files=_files_digest(data, base, watch))


def _files_digest(data: Data, base: Path, watch: Watch) -> Digest | None:
    """sha256 over the data set's files: annotations by content, pictures by name and size. None where it has none, or not here.

    Of an archive, its content.

    Names and sizes cost no reading, and unlike times they are the same after a copy; annotations are small and are corrected
    without changing their size.
    """
    content, found = hashlib.sha256(), False
    archive = _archive(data.source, base)
    packed = [DataFile(archive.parent, archive.name, archive_digest(archive, watch).encode())] if archive else None
    for file in packed or READERS[type(data.source)].files(data.source, base):
        state = _size(file.root / file.name) if file.content is None else hashlib.sha256(file.content).hexdigest()
        found |= state != ABSENT
        content.update(f"{file.name} {state}\n".encode(errors="surrogatepass"))  # a name need not be UTF-8
    return content.hexdigest() if found else None  # nothing at all: a mount point with nothing mounted


def _archive(source: Source, base: Path) -> Path | None:
    return base / source.root if isinstance(source, FolderSource) and is_archive(base / source.root) else None


def _size(path: Path) -> str:
    try:
        about = path.stat()
    except (OSError, ValueError):  # not there, or a name that no file can have
        return ABSENT
    return str(about.st_size) if stat.S_ISREG(about.st_mode) else ABSENT
