"""Data sets in an archive: unpacked once, into a folder named by the archive's content."""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
import stat
import struct
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from detection.data.labelled import SHOWN, inside
from detection.frozen import Digest, InputError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
UNPACKED = Path(".sixfold/unpacked")
"""Where archives are unpacked, relative to the folder of the params file."""
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
"""What reading an archive raises: TarError for links out and devices, too, RuntimeError for passwords and unknown compressions."""
NOT_OF_THE_DISK = (None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
"""Numbers of an OSError that the archive causes: no gzip, a place before its start, one name for a file and a folder."""
BLOCK_BYTES = 1 << 18
"""Read at a time."""
Watch = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
"""Tells how far long work is: gets its title and its bytes, and gives the block what takes the number of further bytes done."""


@contextmanager
def unwatched(title: str, total_bytes: int) -> Iterator[Callable[[int], object]]:
    """A watch that tells nothing."""
    yield lambda done_bytes: None


def is_archive(path: Path) -> bool:
    """Whether this is a file that `unpacked` opens."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def archive_digest(archive: Path, watch: Watch = unwatched) -> Digest:
    """sha256 of the archive's bytes."""
    with _opened(archive, f"read {archive.name}", watch) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpacked(archive: Path, base: Path, watch: Watch = unwatched) -> Path:
    """The folder with the archive's data, absolute: below base, unpacked now or earlier.

    Folders around it that hold nothing else are passed. Raises InputError where it is damaged, larger than the free space, or
    holds a name or a link that leads out.
    """
    target = (base / UNPACKED / archive_digest(archive, watch)).absolute()
    if not target.is_dir():
        partial = target.with_name(f"{uuid.uuid4().hex}.partial")
        partial.mkdir(parents=True)
        try:
            _unpack(archive, partial, watch)
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # another process was faster
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _data_folder(target)


def _data_folder(folder: Path) -> Path:
    """The folder, or the one in it where it is alone."""
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return _data_folder(shown[0]) if len(shown) == 1 and shown[0].is_dir() and not shown[0].is_symlink() else folder


class _Counted(io.FileIO):
    """A file that tells how many bytes are read from it."""

    def __init__(self, path: Path, tell: Callable[[int], object]) -> None:
        super().__init__(path)
        self._tell = tell

    def readinto(self, buffer: Any) -> int:
        read_bytes = super().readinto(buffer) or 0
        self._tell(read_bytes)
        return read_bytes


@contextmanager
def _opened(archive: Path, title: str, watch: Watch) -> Iterator[io.BufferedReader[Any]]:
    """The archive, open; how much of it was read is told."""
    with watch(title, archive.stat().st_size) as tell, io.BufferedReader(_Counted(archive, tell), BLOCK_BYTES) as file:
        yield file


def _unpack(archive: Path, folder: Path, watch: Watch) -> None:
    try:
        with _opened(archive, f"unpack {archive.name}", watch) as file:
            if archive.suffix.lower() == ".zip":
                with zipfile.ZipFile(file) as zipped:
                    _unpack_zip(zipped, archive, folder)
            else:
                with tarfile.open(fileobj=file) as tar:
                    _unpack_tar(tar, archive, folder)
    except InputError:
        raise
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NOT_OF_THE_DISK:
            raise
        why = f"{type(error).__name__}: {' '.join(str(error).split())[: 2 * SHOWN]}"  # Python's may hold half of the archive
        raise InputError(
            f"{archive}: cannot be unpacked ({why}). Pack or download it again, or unpack it yourself and name the folder."
        ) from error


def _unpack_zip(zipped: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    room_bytes = shutil.disk_usage(folder).free
    for member in zipped.infolist():
        name = member.filename.replace("\\", "/")  # some programs for Windows write it so
        if name.startswith("__MACOSX/"):  # macOS adds it to every zip
            continue
        room_bytes = _room_left(room_bytes, member.file_size, archive)
        path = inside(folder, name, str(archive))
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"{archive}: {name!r} is a link. Pack the file itself.")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipped.open(member) as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def _unpack_tar(tar: tarfile.TarFile, archive: Path, folder: Path) -> None:
    room_bytes = shutil.disk_usage(folder).free
    for member in tar:
        room_bytes = _room_left(room_bytes, member.size, archive)
        inside(folder, member.name, str(archive))
        tar.extract(member, folder, filter="data")
    assert tar.fileobj is not None, "open"
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # cut between two files, which Python takes for the end
        raise tarfile.ReadError("no end-of-archive mark")


def _room_left(room_bytes: int, size_bytes: int, archive: Path) -> int:
    if size_bytes > room_bytes:
        raise InputError(f"{archive}: its files need more room than is free below {UNPACKED}. Free some, or unpack it elsewhere.")
    return room_bytes - size_bytes
