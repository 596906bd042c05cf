"""Files and folders that appear whole or not at all, folders that are being filled, and digests of bytes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.frozen import Digest

ABANDONED_S = 7 * 24 * 3600.0
"""A folder whose writer cannot be asked (another machine, no locks on this file system) is given up after so long: no node
trains for a week, and the time of a folder is that of its last new file."""


def write_text(path: Path, text: str) -> Path:
    """The path, its folder made, after the text was put there in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder next to the target that takes its place when the block ends well, and vanishes when it does not."""
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
            hashlib.file_digest(file, lambda: content)
    return content.hexdigest()


@contextmanager
def unfinished_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder below parent, locked while the block runs and removed after it unless the block moved it elsewhere.

    The kernel drops the lock when the process ends, however it ends. Process ids would not do: they are used again, and mean
    nothing in another container or on another machine.
    """
    folder, lock = _locked_folder(parent, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_unfinished(parent: Path) -> int:
    """Remove the abandoned folders below parent; how many. Safe while others sweep or write."""
    swept = 0
    for folder in sorted(parent.glob("*")):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # finished or swept in this moment, or no folder
            continue
        try:
            if _is_left_behind(folder, lock):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        finally:
            os.close(lock)
    return swept


def _locked_folder(parent: Path, name: str) -> tuple[Path, int]:
    """A folder and the descriptor that holds its lock; another one where a sweep was faster than the lock."""
    while True:
        folder = parent / f"{name}.{platform.node()}.{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        if _try_lock(lock) is not False and folder.is_dir():
            return folder, lock
        os.close(lock)


def _is_left_behind(folder: Path, lock: int) -> bool:
    """Whether its writer is gone: by the lock where the writer was on this machine, by age where that cannot be known."""
    free = _try_lock(lock)
    if free is False:
        return False
    host = folder.name.partition(".")[2].rpartition(".")[0]
    return (free is True and host == platform.node()) or time.time() - os.fstat(lock).st_mtime > ABANDONED_S


def _try_lock(descriptor: int) -> bool | None:
    """True: locked now. False: somebody else holds it. None: this file system has no locks on folders (NFS)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
