"""Files and folders that appear whole or not at all, digests of their bytes, and the files that make up a model."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.frozen import Digest

CHUNK_BYTES = 1 << 20


def write_text(path: Path, text: str) -> Path:
    """The path, its folder made, after the text was put there in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside the target that takes its place when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    replaced = partial.with_suffix(".replaced")
    try:
        yield partial
        if target.exists():
            target.rename(replaced)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def file_digest(*paths: Path) -> Digest:
    """sha256 over the bytes of a file, or of several one after another."""
    content = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                content.update(chunk)
    return content.hexdigest()
