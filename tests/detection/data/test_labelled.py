"""The checks that all sources share: splitting, pictures that are the same, names and texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest

from detection.data.labelled import (
    SplitShares,
    check_splits,
    draw_splits,
    existing_folder,
    inside,
    read_text,
    same_pictures,
    split_by_share,
)
from detection.data.voc import VocSource
from detection.frozen import InputError

NAMES = [f"{number:03d}.jpg" for number in range(100)]


def test_every_picture_is_in_exactly_one_split_of_the_wanted_size() -> None:
    """A hundred names split 70, 15 and 15, none lost and none twice."""
    splits = split_by_share(NAMES, SplitShares(), 0, Path("here"))
    assert [len(splits[split]) for split in ("train", "val", "test")] == [70, 15, 15]
    assert sorted(splits["train"] + splits["val"] + splits["test"]) == NAMES


def test_the_split_depends_on_seed_and_names_but_not_on_their_order() -> None:
    """A listing in another order splits alike; another seed splits otherwise."""
    splits = split_by_share(NAMES, SplitShares(), 0, Path("here"))
    assert split_by_share(NAMES[::-1], SplitShares(), 0, Path("here")) == splits
    assert split_by_share(NAMES, SplitShares(), 1, Path("here")) != splits


def test_growing_data_moves_few_pictures() -> None:
    """Ten names more: the old test pictures stay where they were but for those that the new shares push over an edge."""
    before = split_by_share(NAMES, SplitShares(), 0, Path("here"))["test"]
    after = split_by_share([*NAMES, *(f"new{n}.jpg" for n in range(10))], SplitShares(), 0, Path("here"))
    assert len(set(before) & set(after["train"])) == 0
    assert len(set(before) & set(after["test"])) >= 11


def test_too_few_pictures_to_split_are_refused() -> None:
    """Two pictures cannot fill three splits; the message names the empty one and where it looked."""
    with pytest.raises(InputError, match=r"here: 2 pictures cannot be split.*test would be empty"):
        split_by_share(["a", "b"], SplitShares(), 0, Path("here"))


def test_shares_must_add_up() -> None:
    """Shares of 110 % are refused when the config is read."""
    with pytest.raises(ValueError, match=r"add up to 1\.1"):
        SplitShares(train=0.8, val=0.15, test=0.15)


def test_a_missing_data_folder_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    """The message says that root is relative to the params file."""
    with pytest.raises(InputError, match=r"nowhere: no such folder.*relative to the folder of the params file"):
        existing_folder(tmp_path, VocSource(root=Path("nowhere")))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../secret.jpg", "leads out of"),
        ("a/../../secret.jpg", "leads out of"),
        ("link.jpg", "leads out of"),
        ("/etc/hostname", "is an absolute path"),
        ("nul\0.jpg", "holds a NUL byte"),
        ("https://example.com/a.jpg?signature=0", "is a web address"),
        ("x" * 256, "has a part of 256 bytes"),
        ("é" * 128, "has a part of 256 bytes"),
        ("folder/" * 600 + "a.jpg", "gives a path of more than 4095 bytes"),
    ],
)
def test_names_that_no_picture_in_the_folder_can_have(tmp_path: Path, name: str, fault: str) -> None:
    """The message says what is wrong with it, where it stands, and what a file name may be; a long one is cut."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(InputError) as caught:
        inside(folder, name, "labels.json: images[3]")
    assert str(caught.value).startswith("labels.json: images[3]: file name ")
    assert fault in str(caught.value)
    assert f"A file name is a path relative to {folder}" in str(caught.value)
    assert name * 2 not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_file_names_may_wander_inside_the_data_folder(tmp_path: Path) -> None:
    """Subfolders, and dots that stay inside, are fine."""
    assert inside(tmp_path, "a/../b/c.jpg", "labels.json").resolve() == (tmp_path / "b/c.jpg").resolve()


def test_the_longest_name_is_allowed(tmp_path: Path) -> None:
    """255 bytes."""
    assert inside(tmp_path, "x" * 255, "labels.json") == tmp_path / ("x" * 255)


@pytest.fixture
def alike(tmp_path: Path) -> dict[str, Path]:
    """Twelve pictures; a.jpg by five names: itself, through another folder, both kinds of link, and a copy."""
    for number, name in enumerate(("a", *(f"other{n}" for n in range(6)))):
        (tmp_path / f"{name}.jpg").write_bytes(bytes([number]) * 10)
    (tmp_path / "longer.jpg").write_bytes(b"longer than the others")
    (tmp_path / "folder").mkdir()
    (tmp_path / "symbolic.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / "a.jpg")
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    names = ("a.jpg", "folder/../a.jpg", "symbolic.jpg", "hard.jpg", "copy.jpg", "longer.jpg", *(f"other{n}.jpg" for n in range(6)))
    return {name: tmp_path / name for name in names}


def test_one_picture_is_known_by_path_link_and_content(alike: dict[str, Path]) -> None:
    """Five names lead to the first of them, all others to themselves."""
    same = same_pictures(alike.values())
    assert {same[file] for file in list(alike.values())[:5]} == {alike["a.jpg"]}
    assert all(same[file] == file for file in list(alike.values())[5:])


def test_files_of_a_size_of_their_own_are_not_read(alike: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Most pictures are compressed and differ in size: a large data set costs no second reading."""
    read: list[Path] = []
    monkeypatch.setattr("detection.data.labelled.file_digest", lambda path: read.append(path) or path.read_bytes())
    same_pictures(alike.values())
    assert set(alike.values()) - set(read) == {alike["longer.jpg"]}


@pytest.mark.parametrize("seed", range(10))
def test_one_picture_is_drawn_into_one_split(alike: dict[str, Path], seed: int) -> None:
    """Whatever the seed; the others stand as if the further names were not there, and the note counts them."""
    same = same_pictures(alike.values())
    splits, notes = draw_splits(alike, None, seed, Path("here"))
    [own] = [names for names in splits.values() if "a.jpg" in names]
    assert len([name for name in own if same[alike[name]] == alike["a.jpg"]]) == 5
    assert sorted(name for names in splits.values() for name in names) == sorted(alike)
    [note] = notes
    assert "4 of" in note
    assert "copy.jpg = a.jpg" in note


def test_without_repeats_the_draw_is_as_ever(alike: dict[str, Path]) -> None:
    """Grouping moves nothing where there is nothing to group, and nothing is said."""
    few = {name: file for name, file in alike.items() if name.startswith("other")}
    splits, notes = draw_splits(few, SplitShares(train=0.4, val=0.3, test=0.3), 0, Path("here"))
    wanted = split_by_share(list(few), SplitShares(train=0.4, val=0.3, test=0.3), 0, Path("here"))
    assert {split: list(names) for split, names in splits.items()} == wanted
    assert notes == ()


@pytest.mark.parametrize("name", ["folder/../a.jpg", "symbolic.jpg", "hard.jpg", "copy.jpg"])
def test_one_picture_in_two_given_splits_is_refused(alike: dict[str, Path], name: str) -> None:
    """By whatever way: both names, both splits and both lists are in the message."""
    splits = {"train": {"a.jpg": alike["a.jpg"]}, "val": {"longer.jpg": alike["longer.jpg"]}, "test": {name: alike[name]}}
    lists = {split: Path(f"{split}.txt") for split in splits}
    with pytest.raises(InputError) as caught:
        check_splits(splits, lists)
    wanted = f"test.txt: {name} is in test, and the same picture is in train as a.jpg (train.txt): one file, or equal bytes."
    assert str(caught.value).startswith(wanted)


def test_names_and_messages_survive_another_encoding(tmp_path: Path) -> None:
    """A list in Latin-1 gives the names that the file system gives; what is printed of them is UTF-8."""
    (tmp_path / "list.txt").write_bytes(b"caf\xe9\n")
    name = read_text(tmp_path / "list.txt", "surrogateescape").strip()
    assert os.fsencode(name) == b"caf\xe9"
    assert split_by_share([name, "b", "c"], SplitShares(train=0.4, val=0.3, test=0.3), 0, tmp_path)
    assert str(InputError(f"{name}: broken")) == r"caf\xe9: broken"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_utf16_is_refused(tmp_path: Path, errors: Literal["strict", "surrogateescape"]) -> None:
    """A list written by PowerShell's `>`."""
    (tmp_path / "list.txt").write_text("a\nb\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"list\.txt: not text in UTF-8"):
        read_text(tmp_path / "list.txt", errors)
