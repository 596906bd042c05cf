"""While a user's code builds a network it opens only files whose content is in the keys."""

from __future__ import annotations

import importlib
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from detection.frozen import InputError
from detection.module.user_code import UserCode, only_named_files, own_spec, read_code, user_object
from tests.detection.module.projects import REFERENCE, write

READS: dict[str, Callable[[Path], object]] = {
    "open": lambda path: path.open().close(),
    "bytes": lambda path: os.close(os.open(bytes(path), os.O_RDONLY)),
    "descriptor": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "for writing too": lambda path: path.open("r+").close(),
    "to append and read": lambda path: path.open("a+").close(),
    "numpy": np.load,
}
OPENING = {"my_pkg/detector.py": "def family(path):\n    with open(path) as file:\n        return file.read()"}


@pytest.fixture
def code(tmp_path: Path) -> UserCode:
    """A family that opens the path that it is given, and one file that its spec names."""
    write(tmp_path, OPENING | {"named.txt": "named", "other.txt": "other", "my_pkg/near.txt": ""})
    return read_code(REFERENCE, tmp_path, {"x": {"file": "named.txt"}})


@pytest.mark.parametrize("way", READS)
def test_other_files_are_refused(way: str, code: UserCode, tmp_path: Path) -> None:
    """However Python opens them; the message names the file as the params file would, and what to write there."""
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(3))
    message = r'^array\.npy: your code opens this file.*in detector\.spec as \{"file": "array\.npy"\}'
    with only_named_files(code), pytest.raises(InputError, match=message):
        READS[way](path)
    READS[way](path)


def test_the_users_code_is_refused_too(code: UserCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an absolute path, by one relative to the working folder, and through a folder of Python."""
    family = user_object(code)
    assert family(tmp_path / "other.txt") == "other"
    monkeypatch.chdir(tmp_path)
    library = Path(sysconfig.get_path("stdlib"))
    roundabout = library.joinpath(*[".."] * (len(library.parts) - 1), *tmp_path.parts[1:], "other.txt")
    for path in (tmp_path / "other.txt", "other.txt", roundabout):
        with only_named_files(code), pytest.raises(InputError, match=r"^other\.txt: "):
            family(path)


def test_named_files_may_be_read(code: UserCode) -> None:
    """Their unpacked copies."""
    family = user_object(code)
    with only_named_files(code):
        assert family(own_spec(code, {"x": {"file": "named.txt"}})["x"]) == "named"


def test_files_that_lie_next_to_the_code_are_told(tmp_path: Path) -> None:
    """Found by `__file__` they are not in the copy; the message has the path that the spec takes."""
    text = "from pathlib import Path\ndef family():\n    return Path(__file__).with_name('near.txt').read_text()"
    write(tmp_path, {"my_pkg/detector.py": text, "my_pkg/near.txt": ""})
    family_code = read_code(REFERENCE, tmp_path, {})
    family = user_object(family_code)
    with only_named_files(family_code), pytest.raises(InputError, match=r'^my_pkg/near\.txt: .*"file": "my_pkg/near\.txt"'):
        family()


def test_reading_at_the_top_of_a_module_is_refused(tmp_path: Path) -> None:
    """The import is watched as the build is."""
    write(tmp_path, {"my_pkg/detector.py": f"family = open({str(tmp_path / 'a.txt')!r}).read()", "a.txt": ""})
    with pytest.raises(InputError, match=r"^a\.txt: your code opens this file"):
        user_object(read_code(REFERENCE, tmp_path, {}))


def test_libraries_may_read_what_they_are(code: UserCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed files, also through links; what a library opens while it is imported; devices. Missing files are missing."""
    text = f"from pathlib import Path\nSETTINGS = Path({str(tmp_path / 'other.txt')!r}).read_text()"
    write(tmp_path / "site", {"library_of_theirs.py": text})
    (tmp_path / "link").symlink_to(np.__file__)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    family = user_object(code)
    with only_named_files(code):
        assert family(Path(np.__file__)).startswith('"""')
        assert family(Path(os.__file__))
        assert family(tmp_path / "link")
        assert importlib.import_module("library_of_theirs").SETTINGS == "other"
        assert family(os.devnull) == ""
        with pytest.raises(FileNotFoundError):
            family(tmp_path / "missing.txt")


def test_writing_is_nobodys_business(code: UserCode, tmp_path: Path) -> None:
    """What a file is after it was emptied does not depend on what it was."""
    with only_named_files(code):
        (tmp_path / "log.txt").write_text("a")
        with (tmp_path / "log.txt").open("a") as log:
            log.write("b")
        with (tmp_path / "log.txt").open("w+") as log:
            assert log.read() == ""


def test_other_threads_are_not_watched(code: UserCode, tmp_path: Path) -> None:
    """Those of a server or a progress bar, at the same time."""
    found: list[Any] = []
    with only_named_files(code):
        thread = Thread(target=lambda: found.append((tmp_path / "other.txt").read_text()))
        thread.start()
        thread.join()
    assert found == ["other"]


def test_the_watch_ends_with_the_context(code: UserCode, tmp_path: Path) -> None:
    """Also the inner of two, and after an exception."""
    path = tmp_path / "other.txt"
    with only_named_files(code):
        with only_named_files(code), pytest.raises(ValueError, match="mine"):
            raise ValueError("mine")
        with pytest.raises(InputError):
            path.read_text()
    assert path.read_text() == "other"
