"""Trouble with the surroundings of a command: one message that says what to do, exit 2 or 3, and nothing half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flows.records.store import Store
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.sweep_factory import Sweep, listing, write_params

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)  # MLflow's own use of SQLAlchemy 2.1


def test_a_lost_store_names_the_command_that_fills_it(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """cells.json is here, but the store it speaks of is not: `sixfold grid` makes it again."""
    swept_copy.store.root.rename(swept_copy.folder / "away")
    assert "sixfold grid" in sixfold(swept_copy.folder, "measure", "--no-tracking").err


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "the store cannot be written"), (errno.ENOSPC, "the store is full")])
@pytest.mark.parametrize("command", [("teacher",), ("grid", "--executor", "inline", "--no-tracking")], ids=lambda c: c[0])
def test_a_store_that_cannot_be_written_is_one_message(
    command: tuple[str, ...], number: int, words: str, sixfold: Sixfold, fresh: Path, sweep_prepared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Read-only or full is exit 3 with what to do; no part of a result is left."""
    # Root may write everywhere, so mkdir below the store answers as a read-only or full file system does.
    (fresh / "data").mkdir()
    (fresh / "data" / "prepared").symlink_to(sweep_prepared)
    mkdir, root = Path.mkdir, Store(fresh / ".sixfold/store").root

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        if root in (self, *self.parents):
            raise OSError(number, os.strerror(number), str(self))
        mkdir(self, *args, **kwargs)

    before = listing(fresh)
    monkeypatch.setattr(Path, "mkdir", refuse)
    refused(sixfold(fresh, *command), str(root), words, code=3, out="node teacher" if command == ("teacher",) else "")
    assert listing(fresh) == before


@pytest.mark.parametrize("command", [("teacher",), ("grid", "--executor", "inline", "--no-tracking")], ids=lambda c: c[0])
def test_a_file_where_the_store_should_be_is_one_message(command: tuple[str, ...], sixfold: Sixfold, swept_copy: Sweep) -> None:
    """store.url names a file: this works for root too, unlike permissions."""
    swept_copy.store.root.rename(swept_copy.folder / "away")
    swept_copy.store.root.write_text("a file")
    assert sixfold(swept_copy.folder, *command).err.startswith("sixfold: ")


PLACES = {
    "prepare": ("data", "data/prepared"),
    "teacher": ("models", "models/teacher"),
    "grid": ("results", "results/cells.json"),
    "measure": ("results", "results/latency.json"),
    "report": ("models", "results/report"),
    "retrain": ("results", "results/seeds.json"),
    "check": ("results", "results/check"),
}
"""Command -> a folder that it writes below, and what it writes."""


@pytest.mark.parametrize("command", PLACES)
def test_a_file_where_a_folder_is_needed_is_found_before_the_work(command: str, sixfold: Sixfold, fresh: Path) -> None:
    """Named with what was to be written below it; nothing was done, nothing is written."""
    (fresh / PLACES[command][0]).write_text("a file")
    before = listing(fresh)
    refused(sixfold(fresh, command), f"{fresh / PLACES[command][0]}: no folder, but ", "to be written below it. Move or remove it")
    assert listing(fresh) == before


@pytest.mark.parametrize("command", PLACES)
def test_an_output_of_the_wrong_kind_is_found_before_the_work(command: str, sixfold: Sixfold, fresh: Path) -> None:
    """A folder named as the file, or a file named as the folder."""
    place = fresh / PLACES[command][1]
    place.parent.mkdir()
    place.mkdir() if place.suffix else place.write_text("a file")
    before = listing(fresh)
    found = "a folder, but this command writes a file" if place.suffix else "a file, but this command writes a folder"
    refused(sixfold(fresh, command), f"{PLACES[command][1]}: {found} of that name. Move or remove it.")
    assert listing(fresh) == before


@pytest.mark.parametrize("command", PLACES)
def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    command: str, sixfold: Sixfold, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3: the folder is the surroundings' business."""
    # Root may write everywhere, so access answers as for a user; the others may still read the params file.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != fresh and access(path, mode))
    before = listing(fresh)
    refused(sixfold(fresh, command), f"{fresh}: cannot be written, but ", "Change its permissions", code=3)
    assert listing(fresh) == before


def test_a_disk_that_fills_at_the_end_is_one_message(sixfold: Sixfold, swept_copy: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for the records: exit 3, the file that was being written, and what is stored is kept."""
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "cells.json.partial":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    ended = sixfold(swept_copy.folder, "grid", "--executor", "inline", "--no-tracking")
    assert (ended.code, "Traceback" in ended.err) == (3, False)
    message = (
        "sixfold: results/cells.json.partial: No space left on device. See to space and permissions, then run the same command"
    )
    assert ended.err.splitlines()[-1].startswith(message)


def test_a_stage_does_not_fail_for_want_of_its_note(sixfold: Sixfold, fresh: Path) -> None:
    """Where the note about its time cannot be written, the stage ends as it would have."""
    write_params(fresh, store__url="store")
    (fresh / ".sixfold").write_text("a file")
    assert sixfold(fresh, "prepare").code == 0


def test_a_second_grid_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Another driver on the same sweep and store is infrastructure: exit 3."""
    with FileLock(swept_copy.store.root / "locks" / "tiny.lock"):
        ended = sixfold(swept_copy.folder, "grid", "--executor", "inline", "--no-tracking")
    refused(ended, "another grid of sweep 'tiny' is running on this store", code=3)


def test_a_damaged_prepared_folder_is_one_message(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """prepared.json cut in half is the user's disk, not our bug."""
    (swept_copy.prepared / "prepared.json").write_text("{")
    refused(sixfold(swept_copy.folder, "plan"), "prepared.json", "sixfold prepare", code=3)


@pytest.mark.parametrize("text", ["{}", '{"schema": 99}', "[1, 2]"])
def test_records_of_another_kind_are_one_message(text: str, sixfold: Sixfold, swept_copy: Sweep) -> None:
    """A cells.json of another schema or of another shape names the command that writes it."""
    swept_copy.cells_path.write_text(text)
    refused(sixfold(swept_copy.folder, "measure"), "results/cells.json: of another version", "Run `sixfold grid` again.")
