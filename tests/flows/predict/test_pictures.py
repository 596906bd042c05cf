"""Pictures are found where they are named, once, and are read to the end before anything else happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from detection.frozen import InputError
from flows.predict.pictures import find_pictures, names_apart, readable
from tests.flows.predict_factory import write_pictures


def test_files_folders_and_patterns_give_each_picture_once(tmp_path: Path) -> None:
    """A folder gives its pictures sorted, without what is hidden, deeper or no picture; what was named before comes once."""
    folder = write_pictures(tmp_path, "b.png", "a.PNG", ".hidden.png", "deeper/c.png")
    (folder / "notes.txt").write_text("no picture")
    found = find_pictures([str(folder / "b.png"), str(folder), str(folder / "*/c.*"), str(folder / "deeper/../b.png")])
    assert [file.relative_to(folder).as_posix() for file in found] == ["b.png", "a.PNG", "deeper/c.png"]


def test_a_name_without_pictures_is_refused(tmp_path: Path) -> None:
    """An empty folder, a pattern without match, a file that is not there."""
    for name, words in (
        (tmp_path, "no pictures (.bmp"),
        (tmp_path / "*.png", "no such file"),
        (tmp_path / "a.png", "no such file"),
    ):
        with pytest.raises(InputError, match=re.escape(f"{name}: {words}")):
            find_pictures([str(name)])


def test_pictures_that_cannot_be_read_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    """One cut off and one that is text, of three."""
    folder = write_pictures(tmp_path, "a.png", "b.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:300])
    (folder / "c.png").write_text("no picture")
    with pytest.raises(
        InputError, match=r"^2 of 3 pictures cannot be used; nothing was written\. The first: .*b\.png: not a readable"
    ):
        readable(find_pictures([str(folder)]), {}, "apply")


def test_a_camera_that_was_turned_gives_an_upright_picture(tmp_path: Path) -> None:
    """EXIF orientation 6 swaps height and width; with labels, whose boxes may be either way, it is refused."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    (picture,) = readable([tmp_path / "turned.jpg"], {}, "apply")
    assert picture.pixels().shape == (30, 20, 3)
    with pytest.raises(InputError, match="EXIF orientation 6"):
        readable([tmp_path / "turned.jpg"], {}, "refuse")


def test_a_picture_of_another_size_than_its_labels_is_refused(tmp_path: Path) -> None:
    """Its boxes may not fit."""
    file = write_pictures(tmp_path) / "a.png"
    with pytest.raises(InputError, match=r"128 x 192 pixels .*but its annotation says 64 x 96"):
        readable([file], {file: (64, 96)}, "refuse")


def test_a_picture_that_no_jpeg_can_hold_is_refused(tmp_path: Path) -> None:
    """Its drawing could not be written."""
    Image.new("1", (65_501, 1)).save(tmp_path / "long.png")
    with pytest.raises(InputError, match=r"1 of 1 .*long\.png: a side of 65501 pixels; a drawing may have 65500\."):
        readable([tmp_path / "long.png"], {}, "apply")


def test_equal_names_are_numbered(tmp_path: Path) -> None:
    """Also where only folder, suffix or capitals differ, and where a number is taken already."""
    files = [Path(name) for name in ("a/x.png", "b/x.png", "b/x.jpg", "X.bmp", "x-2.png", "y.png")]
    assert list(names_apart(files)) == ["x", "x-2", "x-3", "X-4", "x-2-2", "y"]
