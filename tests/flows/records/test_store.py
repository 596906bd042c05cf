"""Finished work appears whole or not at all, is checked on every read, and a refusal of the disk is one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from detection.frozen import InputError
from flows.records.store import JOURNAL, MANIFEST, Manifest, Store, StoreError, open_store

KEY, OTHER = "a" * 64, "b" * 64


def filled(store: Store, key: str = KEY, text: str = "content") -> Path:
    """The folder of an entry of two files, one of them in a folder of its own."""
    with store.writing("nodes", key) as folder:
        (folder / "one.txt").write_text(text)
        (folder / "below").mkdir()
        (folder / "below" / "two.bin").write_bytes(b"\x00\x01")
    return store.folder("nodes", key)


def files_in(store: Store) -> list[str]:
    """Every file below the store but its journal, relative to it."""
    files = (path for path in store.root.rglob("*") if path.is_file() and path.name != JOURNAL)
    return sorted(path.relative_to(store.root).as_posix() for path in files)


def test_an_entry_appears_when_the_block_ends(store: Store) -> None:
    """While it is written nobody sees it; afterwards it opens, and nothing else is left."""
    with store.writing("nodes", KEY) as folder:
        (folder / "one.txt").write_text("content")
        assert not store.has("nodes", KEY)
    assert store.has("nodes", KEY)
    assert (store.open("nodes", KEY) / "one.txt").read_text() == "content"
    place = f"nodes/aa/{KEY}"
    assert files_in(store) == [f"{place}/{MANIFEST}", f"{place}/one.txt"]


def test_the_manifest_tells_every_file(store: Store) -> None:
    """Size and sha256 of each file, folders included, under section and key; worked by hashlib here."""
    filled(store)
    manifest = store.manifest("nodes", KEY)
    assert (manifest.section, manifest.key, set(manifest.files)) == ("nodes", KEY, {"one.txt", "below/two.bin"})
    assert manifest.files["one.txt"].size_bytes == len("content")
    assert manifest.files["below/two.bin"].sha256 == hashlib.sha256(b"\x00\x01").hexdigest()


def test_an_exception_leaves_nothing(store: Store) -> None:
    """Neither an entry nor a part of one."""
    with pytest.raises(RuntimeError, match="in the middle"), store.writing("nodes", KEY) as folder:
        (folder / "one.txt").write_text("half")
        raise RuntimeError("in the middle")
    assert not store.has("nodes", KEY)
    assert files_in(store) == []
    with pytest.raises(StoreError, match=r"no such entry. `sixfold grid` makes it"):
        store.open("nodes", KEY)


def test_the_manifest_is_written_last_and_the_folder_moved_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest comes after the files, and the one move that makes the entry visible after both."""
    seen: list[tuple[str, set[str]]] = []
    write_text, rename = Path.write_text, Path.rename

    def watched_write(self: Path, text: str, *args: Any, **kwargs: Any) -> int:
        if self.name == MANIFEST:
            seen.append(("manifest", {path.name for path in self.parent.rglob("*") if path.is_file()}))
        return write_text(self, text, *args, **kwargs)

    def watched_rename(self: Path, target: Path) -> Path:
        seen.append(("moved", {path.name for path in self.rglob("*") if path.is_file()}))
        assert not target.exists()
        return rename(self, target)

    monkeypatch.setattr(Path, "write_text", watched_write)
    monkeypatch.setattr(Path, "rename", watched_rename)
    filled(store)
    assert seen == [("manifest", {"one.txt", "two.bin"}), ("moved", {"one.txt", "two.bin", MANIFEST})]


def test_a_folder_without_manifest_is_no_entry(store: Store) -> None:
    """What a copy program left half-way does not count."""
    filled(store)
    (store.folder("nodes", KEY) / MANIFEST).unlink()
    assert not store.has("nodes", KEY)


@pytest.mark.parametrize("spoil", ["cut", "changed", "gone"])
def test_a_damaged_file_is_noticed_on_opening(spoil: str, store: Store) -> None:
    """Another length, the same length with other bytes, or no file: the message names it and says what to do."""
    path = filled(store) / "below" / "two.bin"
    if spoil == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\x00" if spoil == "cut" else b"\x00\x02")
    with pytest.raises(StoreError) as caught:
        store.open("nodes", KEY)
    assert str(caught.value).startswith(f"{path}: differs from its manifest.")
    assert "Run `sixfold grid` again" in str(caught.value)


def test_a_damaged_manifest_is_noticed(store: Store) -> None:
    """An empty manifest, as a crash of the machine may leave it, is told and not parsed into nonsense."""
    (filled(store) / MANIFEST).write_text("")
    with pytest.raises(StoreError, match="not a manifest"):
        store.open("nodes", KEY)


def test_a_broken_entry_is_moved_aside_and_can_be_made_again(store: Store) -> None:
    """Quarantine keeps the evidence and frees the name; a second time too."""
    for turn in ("first", "second"):
        (filled(store) / "one.txt").write_text(f"spoiled {turn}")
        aside = store.quarantine("nodes", KEY)
        assert (aside / "one.txt").read_text() == f"spoiled {turn}"
        assert not store.has("nodes", KEY)
    filled(store)
    assert store.open("nodes", KEY).is_dir()


def test_two_writers_of_one_key_do_not_clash(store: Store) -> None:
    """The first to finish wins, the second ends without an error, and the entry is whole."""
    with store.writing("nodes", KEY) as slow:
        (slow / "one.txt").write_text("slow")
        filled(store, text="fast")
    assert (store.open("nodes", KEY) / "one.txt").read_text() == "fast"
    assert files_in(store) == [f"nodes/aa/{KEY}/{name}" for name in ("below/two.bin", MANIFEST, "one.txt")]


def test_many_writers_at_once(store: Store) -> None:
    """Eight threads that commit the same key at the same moment: no error, one whole entry."""
    gate, errors = threading.Barrier(8), []

    def write(name: str) -> None:
        try:
            with store.writing("nodes", KEY) as folder:
                (folder / "one.txt").write_text(name)
                gate.wait(timeout=30)
        except Exception as error:  # a thread's error would otherwise be lost
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (store.open("nodes", KEY) / "one.txt").read_text().startswith("writer ")
    assert len(files_in(store)) == 2


def test_an_entry_is_never_overwritten(store: Store) -> None:
    """Writing a key that is there leaves the first content and its time."""
    path = filled(store, text="first") / MANIFEST
    before = path.stat().st_mtime_ns
    filled(store, text="again")
    assert (store.open("nodes", KEY) / "one.txt").read_text() == "first"
    assert path.stat().st_mtime_ns == before


def test_keys_and_sections_have_folders_of_their_own(store: Store) -> None:
    """The same key in two sections, and two keys in one section, do not meet."""
    assert len({store.folder(section, key) for section in ("nodes", "scores") for key in (KEY, OTHER)}) == 4


def test_a_key_that_was_cut_is_no_key(store: Store) -> None:
    """A manifest speaks of 64 hex digits or is none: cut names once let two works share one place."""
    with pytest.raises(ValueError, match="key"), store.writing("nodes", KEY[:8]):
        pass
    with pytest.raises(ValueError, match="key"):
        Manifest(section="nodes", key="A" * 64, files={})


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written"),
                                               (errno.ENOSPC, "is full"), (errno.EDQUOT, "is full")])  # fmt: skip
def test_the_disk_s_refusal_is_one_sentence(number: int, words: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only or full, at the first folder as at the log and the lock: a StoreError with the store and what to do."""
    # Root may write everywhere and a full disk is hard to come by, so mkdir answers as such a file system does.

    def refuse(self: Path, *_args: Any, **_kwargs: Any) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    for attempt in (lambda: filled(store), lambda: store.log(KEY), lambda: store.one_driver("tiny", "a grid").__enter__()):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert str(caught.value).startswith(f"{store.root}: the store {words} ({os.strerror(number)}).")


def test_a_disk_that_fills_while_the_entry_is_sealed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for the manifest: the store is said to be full, and no part of the entry is left."""
    write_text = Path.write_text

    def refuse(self: Path, text: str, *args: Any, **kwargs: Any) -> int:
        if self.name == MANIFEST:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write_text(self, text, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(StoreError, match="the store is full"):
        filled(store)
    assert files_in(store) == []


def test_a_disk_that_fills_while_the_entry_is_filled(store: Store) -> None:
    """Weights are most of an entry: a full disk shows there first, and is the store's failure, not the node's."""
    with pytest.raises(StoreError, match="the store is full"), store.writing("nodes", KEY) as folder:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "weights.safetensors"))


def test_a_disk_that_fills_while_the_entry_is_put_in_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last move fails as well: only another's finished entry in its place is no failure."""

    def refuse(self: Path, *_args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match="the store is full"):
        filled(store)
    assert not store.has("nodes", KEY)


def test_a_file_where_the_store_should_be(store: Store) -> None:
    """store.url names a file: said in one sentence, as the other refusals are."""
    store.root.write_text("a file")
    with pytest.raises((StoreError, InputError), match=str(store.root)):
        filled(store)


@pytest.mark.parametrize("url", ["shared/store", "file://shared/store"])
def test_a_relative_store_starts_in_the_folder_of_the_params(url: str, tmp_path: Path) -> None:
    """Not in the folder of the process."""
    assert open_store(url, tmp_path).root == tmp_path / "shared" / "store"


def test_an_absolute_store_stays_where_it_is(tmp_path: Path) -> None:
    """As a path and as a file:// URL."""
    for url in (str(tmp_path / "store"), f"file://{tmp_path / 'store'}"):
        assert open_store(url, Path("/elsewhere")).root == tmp_path / "store"


def test_a_store_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    """Buckets are not supported yet: said at once, not taken for a folder named s3:."""
    with pytest.raises(InputError, match=r"store.url: 's3://bucket/x' is not supported; allowed is a folder"):
        open_store("s3://bucket/x", tmp_path)
