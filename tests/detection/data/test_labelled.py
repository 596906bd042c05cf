"""The checks that all sources share: splitting, paths, and reading pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.data.labelled import SplitShares, existing_folder, inside, read_pixels, split_by_share
from detection.data.voc import VocSource
from detection.frozen import InputError

NAMES = [f"{number:03d}.jpg" for number in range(100)]
WIDE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # a picture of height 2 and width 3


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, exif_orientation: int | None = None) -> Path:
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    if exif_orientation is not None:
        exif[0x0112] = exif_orientation
    (picture.convert(mode) if mode else picture).save(path, exif=exif)
    return path


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


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/etc/hostname", "link.jpg", "nul\0.jpg"])
def test_file_names_cannot_leave_the_data_folder(tmp_path: Path, name: str) -> None:
    """Neither dots, nor an absolute path, nor a link gets out."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(InputError, match="leads out of"):
        inside(folder, name, Path("labels.json"))


def test_file_names_may_wander_inside_the_data_folder(tmp_path: Path) -> None:
    """Subfolders, and dots that stay inside, are fine."""
    assert inside(tmp_path, "a/../b/c.jpg", Path("labels.json")).resolve() == (tmp_path / "b/c.jpg").resolve()


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    """Grey is repeated over the channels; the colour under transparency stays as it was stored."""
    grey = saved(tmp_path / "grey.png", WIDE[..., 0])
    np.testing.assert_array_equal(read_pixels(grey, (2, 3), "refuse"), WIDE[..., :1].repeat(3, 2))
    clear = saved(tmp_path / "clear.png", np.dstack([WIDE, np.zeros((2, 3), np.uint8)]))
    np.testing.assert_array_equal(read_pixels(clear, (2, 3), "refuse"), WIDE)


def test_palette_pictures_become_rgb(tmp_path: Path) -> None:
    """Indices are looked up, with and without transparent entries."""
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    for name, transparency in (("plain.png", {}), ("clear.png", {"transparency": bytes([0, 128])})):
        palette.save(tmp_path / name, **transparency)
        np.testing.assert_array_equal(read_pixels(tmp_path / name, (2, 3), "refuse"), np.full((2, 3, 3), [10, 20, 30]))


def test_sixteen_bit_pictures_are_refused(tmp_path: Path) -> None:
    """Converting them would turn everything above 255 white without a word."""
    path = saved(tmp_path / "deep.png", np.full((2, 3), 40_000, dtype=np.uint16))
    with pytest.raises(InputError, match=r"deep\.png: pixels of mode 'I;16'"):
        read_pixels(path, (2, 3), "refuse")


def test_truncated_pictures_are_refused(tmp_path: Path) -> None:
    """Half a JPEG opens well; only reading it to the end shows that it is broken."""
    path = saved(tmp_path / "half.jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"half\.jpg: not a readable picture.*replace the file"):
        read_pixels(path, (64, 64), "refuse")


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    """Text with the ending of a picture is named."""
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg: not a readable picture"):
        read_pixels(tmp_path / "text.jpg", (2, 3), "refuse")


@pytest.mark.parametrize("limit", [1, 4])
def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Pillow only warns up to twice its limit (6 pixels, limit 4) and raises above (limit 1): both are an error here."""
    path = saved(tmp_path / "huge.png", WIDE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=r"huge\.png: larger than Pillow's safety limit"):
        read_pixels(path, (2, 3), "refuse")


def test_a_picture_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    """Height and width swapped, the commonest slip."""
    with pytest.raises(InputError, match=r"2 x 3 pixels \(height x width\), but its annotation says 3 x 2"):
        read_pixels(saved(tmp_path / "wide.png", WIDE), (3, 2), "refuse")


def test_pictures_that_ask_to_be_turned_need_a_decision(tmp_path: Path) -> None:
    """Orientation 6 (turn right by 90 degrees) is refused by default, turned by `apply`, left alone by `ignore`."""
    path = saved(tmp_path / "turned.png", WIDE, exif_orientation=6)
    with pytest.raises(InputError, match=r"EXIF orientation 6 .*exif_orientation: apply"):
        read_pixels(path, (2, 3), "refuse")
    np.testing.assert_array_equal(read_pixels(path, (3, 2), "apply"), np.rot90(WIDE, -1))
    np.testing.assert_array_equal(read_pixels(path, (2, 3), "ignore"), WIDE)
