"""Which files may be opened while a user's code builds a network: others would change what it makes, and no key would tell.

Only what Python opens is seen; a library that opens files in C, as `cv2.imread` does, is not.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from detection.frozen import InputError

CODE = "code"
"""Folder of a copy that stands for the params file's."""
ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
FRESH = os.O_TRUNC | os.O_EXCL
"""Flags with which a file has no content but what is written now."""


class Guard(NamedTuple):
    """What is being watched."""

    copy: Path
    """The folder of the unpacked code: what is in it may be read."""
    base: Path | None
    """The folder of the params file, where this process has read the code from it."""


class _Active(threading.local):
    guard: Guard | None = None


_ACTIVE = _Active()


@contextmanager
def refused_files(guard: Guard) -> Iterator[None]:
    """In this thread, InputError from whatever opens a file whose content no key holds."""
    _install()
    before, _ACTIVE.guard = _ACTIVE.guard, guard
    try:
        yield
    finally:
        _ACTIVE.guard = before


def active_guard() -> Guard | None:
    """What this thread watches now."""
    return _ACTIVE.guard


@cache
def _install() -> None:
    """Once per process: an audit hook cannot be removed (PEP 578)."""
    _allowed()  # asks for folders of the system, which opens files
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    guard = _ACTIVE.guard if event == "open" else None
    if guard is None:
        return
    given, _, flags = arguments
    if isinstance(given, int) or flags & ACCESS == os.O_WRONLY or flags & FRESH:
        return
    path = Path(os.path.normpath(Path(os.fsdecode(given)).absolute()))
    if f"{path}{os.sep}".startswith(_allowed()) or f"{path.resolve()}{os.sep}".startswith(_allowed()):
        return  # the folder of libraries may be a link, and so may files in it
    if path.is_relative_to(guard.copy) != path.exists() and not _imports_a_library(guard):
        raise InputError(_refusal(path, guard))


def _imports_a_library(guard: Guard) -> bool:
    """True where the file is opened for an import of something that is not the user's: its version is in the keys."""
    frame: FrameType | None = sys._getframe(2)
    while frame and not Path(frame.f_code.co_filename).is_relative_to(guard.copy):
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _refusal(path: Path, guard: Guard) -> str:
    """The message; it has the path as the params file would where that is known."""
    root = guard.copy / CODE if path.is_relative_to(guard.copy) else guard.base
    named = Path(os.path.relpath(path, root)).as_posix() if root else "PATH"
    shown = named if root and path.is_relative_to(root) else path
    return (
        f"{shown}: your code opens this file, but only its Python files travel with it and are in the keys. "
        f'Name the file in detector.spec as {{"file": "{named}"}}, relative to the params file: `build` then gets a path to open.'
    )


@cache
def _allowed() -> tuple[str, ...]:
    """Beginnings of paths that any code may read: Python, installed libraries, the system's devices and the caches of torch."""
    home = Path.home()
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    folders = {
        *(sys.prefix, sys.base_prefix, sys.exec_prefix, site.getusersitepackages(), *site.getsitepackages()),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *("/proc", "/sys", "/dev"),
        os.environ.get("TORCH_HOME") or cache_home / "torch",
        os.environ.get("TRITON_CACHE_DIR") or home / ".triton",
        *filter(None, [os.environ.get("TORCHINDUCTOR_CACHE_DIR")]),
    }
    ways = {way for folder in folders for way in (Path(folder).absolute(), Path(folder).resolve())}
    inductor = Path(tempfile.gettempdir()).resolve() / "torchinductor_"  # followed by the name of the user
    return (str(inductor), *(f"{way}{os.sep}" for way in sorted(ways)))
