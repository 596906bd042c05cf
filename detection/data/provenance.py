"""What prepared data was made from, as digests: whether a params file still asks for the data that is there."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

from detection.data.dataset import Provenance
from detection.data.sources import READERS, Data
from detection.frozen import Digest

READING_VERSION = 2
"""Raise when reading, composing or letterboxing gives other pixels or boxes for the same pictures; a test notices."""
ABSENT = "absent"


def provenance(data: Data, base: Path, seed: int) -> Provenance:
    """What `prepare` would work from now; paths in the data are relative to base, the folder of the params file."""
    settings = {"reading": READING_VERSION, "data": data.model_dump(mode="json"), "seed": seed}
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return Provenance(settings=hashlib.sha256(text.encode()).hexdigest(), files=_files_digest(data, base))


def _files_digest(data: Data, base: Path) -> Digest | None:
    """sha256 over the data set's files: annotations by content, pictures by name and size. None where it has none, or not here.

    Names and sizes cost no reading, and unlike times they are the same after a copy; annotations are small and are corrected
    without changing their size.
    """
    content, found = hashlib.sha256(), False
    for file in READERS[type(data.source)].files(data.source, base):
        state = _size(file.root / file.name) if file.content is None else hashlib.sha256(file.content).hexdigest()
        found |= state != ABSENT
        content.update(f"{file.name} {state}\n".encode(errors="surrogatepass"))  # a name need not be UTF-8
    return content.hexdigest() if found else None  # nothing at all: a mount point with nothing mounted


def _size(path: Path) -> str:
    try:
        about = path.stat()
    except (OSError, ValueError):  # not there, or a name that no file can have
        return ABSENT
    return str(about.st_size) if stat.S_ISREG(about.st_mode) else ABSENT
