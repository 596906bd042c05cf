"""What prepared data was made from, as digests: whether a params file still asks for the data that is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detection.data.coco import CocoSource, SplitPaths
from detection.data.dataset import SPLITS, Provenance
from detection.data.generated import GeneratedSource
from detection.data.sources import Data
from detection.data.voc import PICTURE_SUFFIXES, VocSource
from detection.frozen import Digest

READING_VERSION = 1
"""Raise when reading, composing or letterboxing gives other pixels or boxes for the same pictures; a test notices."""


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
    source = data.source
    if isinstance(source, GeneratedSource) or not (base / source.root).is_dir():
        return None
    root, content = base / source.root, hashlib.sha256()
    files = list(_voc_files(root) if isinstance(source, VocSource) else _coco_files(source, root))
    if not any((root / name).is_file() for name, _ in files):  # a mount point with nothing mounted
        return None
    for name, by_content in files:
        path = root / name
        if not path.is_file():
            content.update(f"{name} absent\n".encode())
        elif by_content:
            content.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        else:
            content.update(f"{name} {path.stat().st_size}\n".encode())
    return content.hexdigest()


def _voc_files(root: Path) -> Iterator[tuple[str, bool]]:
    """Every file that the reader looks at, relative to the root, and whether its content counts."""
    yield from ((f"ImageSets/Main/{split}.txt", True) for split in SPLITS)
    yield from ((f"Annotations/{path.name}", True) for path in sorted((root / "Annotations").glob("*.xml")))
    pictures = (path for path in (root / "JPEGImages").glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    yield from ((f"JPEGImages/{path.name}", False) for path in sorted(pictures))


def _coco_files(source: CocoSource, root: Path) -> Iterator[tuple[str, bool]]:
    """Every file that the reader looks at, relative to the root, and whether its content counts."""
    files = source.annotations
    annotations = [getattr(files, split) for split in SPLITS] if isinstance(files, SplitPaths) else [files]
    folders = source.images
    images = [getattr(folders, split) for split in SPLITS] if isinstance(folders, SplitPaths) else [folders] * len(annotations)
    for annotation, folder in zip(annotations, images, strict=True):
        yield annotation.as_posix(), True
        yield from ((f"{folder.as_posix()}/{name}", False) for name in _file_names(root / annotation))


def _file_names(annotation: Path) -> list[str]:
    """The pictures that a COCO file lists, sorted; none where it is not one: its content counts, and `prepare` explains."""
    try:
        content: Any = json.loads(annotation.read_bytes())
        return sorted(str(image["file_name"]) for image in content["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
