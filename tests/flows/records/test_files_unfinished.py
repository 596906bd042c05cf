"""What a killed writer left is removed, and what a living one is filling is not, whoever sweeps at the same time."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.records.files import ABANDONED_S, sweep_unfinished, unfinished_folder
from tests.places import ROOT

WRITER = """
import sys
from pathlib import Path
from flows.records.files import unfinished_folder
with unfinished_folder(Path(sys.argv[1]), "writer") as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""
"""Fills a folder until its stdin ends."""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that fills a folder, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def age(folder: Path, seconds: float) -> None:
    """Make a folder look as if nothing had been added to it for so long."""
    then_s = time.time() - seconds
    os.utime(folder, (then_s, then_s))


def test_a_folder_vanishes_with_its_block_unless_it_was_moved(tmp_path: Path) -> None:
    """Content included; a moved one stays where it went."""
    with unfinished_folder(tmp_path / "partial", "one") as lost, unfinished_folder(tmp_path / "partial", "one") as kept:
        assert lost != kept
        (lost / "file").write_text("lost")
        (kept / "file").write_text("kept")
        kept.rename(tmp_path / "kept")
    assert list((tmp_path / "partial").iterdir()) == []
    assert (tmp_path / "kept" / "file").read_text() == "kept"


def test_a_killed_writer_is_swept_and_a_living_one_is_not(tmp_path: Path, writer: tuple[subprocess.Popen[str], Path]) -> None:
    """Before kill -9 nothing is removed, however old the folder looks; after it the folder is."""
    process, folder = writer
    age(folder, 2 * ABANDONED_S)
    assert sweep_unfinished(tmp_path) == 0
    assert (folder / "half").read_text() == "half"
    process.kill()
    process.wait()
    assert (folder / "half").is_file(), "a killed process cleans nothing up"
    assert sweep_unfinished(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_sweeps_and_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Four writers of fifty folders each beside two sweepers: every folder is there until its writer is done with it."""
    done, lost = threading.Event(), list[str]()
    partial, kept = tmp_path / "partial", tmp_path / "kept"
    kept.mkdir()

    def write() -> None:
        for _ in range(50):
            with unfinished_folder(partial, "one") as folder:
                try:
                    (folder / "file").write_text("content")
                    folder.rename(kept / folder.name)
                except OSError as error:
                    lost.append(str(error))

    def sweep() -> None:
        while not done.is_set():
            sweep_unfinished(partial)

    writers, sweepers = ([threading.Thread(target=work) for _ in range(n)] for work, n in ((write, 4), (sweep, 2)))
    for thread in (*sweepers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in sweepers:
        thread.join()
    assert lost == []
    assert len(list(kept.iterdir())) == 200


@pytest.mark.parametrize("name", ["one.elsewhere.0a1b2c3d", "0123456789abcdef-4711-0a1b2c3d"])
def test_the_writer_of_another_machine_is_given_time(name: str, tmp_path: Path) -> None:
    """Its lock may not reach here, so the folder stays for a week after its last file; so does one of an older version."""
    folder = tmp_path / name
    folder.mkdir()
    age(folder, ABANDONED_S - 60)
    assert sweep_unfinished(tmp_path) == 0
    age(folder, ABANDONED_S + 60)
    assert sweep_unfinished(tmp_path) == 1
    assert not folder.exists()


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS refuses locks on folders: writing works, and sweeping goes by age alone."""

    def refuse(*_args: Any) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with unfinished_folder(tmp_path, "one") as folder:
        assert sweep_unfinished(tmp_path) == 0
        assert folder.is_dir()
        age(folder, ABANDONED_S + 60)
        assert sweep_unfinished(tmp_path) == 1


def test_nothing_to_sweep_is_fine(tmp_path: Path) -> None:
    """Neither a missing folder nor a file in it is an error; the file stays."""
    assert sweep_unfinished(tmp_path / "absent") == 0
    (tmp_path / "file").write_text("not ours")
    assert sweep_unfinished(tmp_path) == 0
    assert (tmp_path / "file").is_file()
