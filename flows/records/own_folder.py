"""The folder that a command is told to write: it appears whole or not at all, and replaces what that command wrote alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.frozen import InputError
from flows.records.files import whole_folder
from flows.sweep import workspace


def checked_place(out: Path, command: str) -> Path:
    """The folder, links followed; InputError where it holds anything that an earlier run of the command did not write."""
    folder = out.resolve()
    if folder in (here := Path.cwd(), *here.parents):
        raise InputError(f"--out {out}: holds the folder you are in, and would be replaced whole. Name a new folder.")
    workspace.require_place(folder.with_name(f"{folder.name}.partial"))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {out}: a file, but `sixfold {command}` writes a folder. Name another place or remove the file.")
    own = folder / _list_name(command)
    known = {own.name, *json.loads(own.read_text())} if own.is_file() else set()
    if folder.is_dir() and (foreign := sorted(set(_names(folder)) - known)):
        raise InputError(
            f"--out {out}: holds {foreign[0]!r}, which `sixfold {command}` did not write, and the whole folder would be replaced. "
            f"Name another place or move its content."
        )
    return folder


@contextmanager
def own_folder(folder: Path, command: str) -> Iterator[Path]:
    """An empty folder that takes the place of this one when the block ends well; what an earlier run wrote goes then."""
    with whole_folder(folder) as partial:
        yield partial
        (partial / _list_name(command)).write_text(json.dumps(sorted(_names(partial))) + "\n")


def _list_name(command: str) -> str:
    """Of the file that lists what was written, which alone the next run may replace."""
    return f".sixfold-{command}"


def _names(folder: Path) -> Iterator[str]:
    """All that the folder holds, at whatever depth, relative to it."""
    yield from (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
