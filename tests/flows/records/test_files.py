"""Files and folders appear whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flows.records.files import file_digest, whole_folder, write_text


def test_a_text_replaces_the_old_one_in_one_move(tmp_path: Path) -> None:
    """The folder is made, the old text is gone, and nothing else is left."""
    path = tmp_path / "results" / "page.md"
    for text in ("old", "new"):
        assert write_text(path, text) == path
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """No file of the old one stays, and nothing is left beside it."""
    target = tmp_path / "models" / "best"
    for name in ("old", "new"):
        with whole_folder(target) as partial:
            (partial / name).write_text(name)
            assert not (target / name).exists()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_could_not_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    """The failure comes through, the old content stays, nothing is left beside it."""
    target = tmp_path / "best"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(OSError, match="full"), whole_folder(target) as partial:
        (partial / "new").write_text("new")
        raise OSError("full")
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_digest_is_of_all_bytes_in_order(tmp_path: Path) -> None:
    """Of two files as of one that holds both."""
    (tmp_path / "a").write_bytes(b"graph")
    (tmp_path / "b").write_bytes(b"weights")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"graph").hexdigest()
    assert file_digest(tmp_path / "a", tmp_path / "b") == hashlib.sha256(b"graphweights").hexdigest()
