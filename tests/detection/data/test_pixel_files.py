"""Raw or encoded, a split has the same pixels for all that read it, and the reading holds few pictures at a time."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection.data.augmentation import Augmentation, make_batch
from detection.data.dataset import Images, load_prepared, load_split
from detection.data.generated import GeneratedSource, PictureCounts
from detection.data.pixel_files import ENCODED, RAW, EncodedPixels, open_pixels, pixel_writer, read_picture
from detection.data.sources import Data
from detection.frozen import DamagedError
from flows.prepare.stage import prepare

GENERATED: dict[str, Any] = {"source": GeneratedSource(pictures=PictureCounts(train=6, val=3, test=3)), "input_size": (64, 96)}
PICTURES = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8)


def written(folder: Path, pixels: NDArray[np.uint8], *, encoded: bool = True) -> Path:
    """The folder, with these pixels as its split train."""
    with pixel_writer(folder, "train", pixels.shape, encoded=encoded) as write:
        for picture in pixels:
            write(picture)
    return folder


def prepared(folder: Path, pixel_cache_bytes: int) -> Path:
    prepare(Data(**GENERATED, pixel_cache_bytes=pixel_cache_bytes), folder, folder / "out", seed=0, report=lambda line: None)
    return folder / "out"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same data, prepared raw and encoded."""
    return prepared(tmp_path_factory.mktemp("raw"), 10**9), prepared(tmp_path_factory.mktemp("encoded"), 0)


def in_both(both: tuple[Path, Path], split: Any = "train") -> tuple[Images, Images]:
    raw, encoded = (load_split(folder, split) for folder in both)
    assert isinstance(raw.pixels, np.memmap)
    assert isinstance(encoded.pixels, EncodedPixels)
    return raw, encoded


def test_the_form_changes_nothing_that_is_known_of_the_data(both: tuple[Path, Path]) -> None:
    """Every pixel, the digests that keys are made of, and what the data was made from; only the files differ."""
    for split in ("train", "val", "test"):
        raw, encoded = in_both(both, split)
        np.testing.assert_array_equal(raw.pixels, np.asarray(encoded.pixels))
        assert raw.pixels.shape == encoded.pixels.shape
        assert raw.digest == encoded.digest
    assert load_prepared(both[0]) == load_prepared(both[1])
    assert (both[0] / "card.json").read_bytes() == (both[1] / "card.json").read_bytes()
    names = [sorted(path.name for path in folder.iterdir() if path.suffix in (RAW, ENCODED)) for folder in both]
    assert names == [[f"{split}{form}" for split in ("test", "train", "val")] for form in (RAW, ENCODED)]


@pytest.mark.parametrize("size", [(64, 96), (32, 48)])
def test_batches_are_the_same(both: tuple[Path, Path], size: tuple[int, int]) -> None:
    """Rows as NumPy gives them, augmented alike, also for a network of a smaller input."""
    rows = np.array([4, 0, 4], np.int64)
    raw, encoded = (
        make_batch(own.at(size), rows, Augmentation(flip_vertical=0.5), np.random.default_rng(3)) for own in in_both(both)
    )
    assert raw.images.shape == (3, 3, *size)
    assert (raw.images == encoded.images).all()
    assert (raw.boxes_xyxy_px == encoded.boxes_xyxy_px).all()


def test_encoded_pixels_are_indexed_as_an_array(tmp_path: Path) -> None:
    """By rows from either end, by slices and arrays, in a loop, after a copy to another process; no row is outside."""
    pixels = open_pixels(written(tmp_path, PICTURES), "train", PICTURES.shape)
    for row in (0, 4, -1, np.int64(2)):
        np.testing.assert_array_equal(pixels[row], PICTURES[row])
    for rows in (slice(2), slice(1, None, 2), slice(3, 3), np.array([4, 0])):
        np.testing.assert_array_equal(np.asarray(pixels[rows]), PICTURES[rows])
        assert (len(pixels[rows]), pixels[rows].shape) == (len(PICTURES[rows]), PICTURES[rows].shape)
    assert [bool((own == picture).all()) for own, picture in zip(pixels, PICTURES, strict=True)] == [True] * 5
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pixels))[3], PICTURES[3])
    with pytest.raises(IndexError):
        pixels[5]


@pytest.mark.parametrize("encoded", [False, True])
def test_one_picture_is_read_from_its_place(encoded: bool, tmp_path: Path) -> None:
    """In either form, and from the first to the last."""
    pixels = open_pixels(written(tmp_path, PICTURES, encoded=encoded), "train", PICTURES.shape)
    assert all((read_picture(pixels, row) == PICTURES[row]).all() for row in range(5))


def test_colours_are_those_of_a_png(tmp_path: Path) -> None:
    """The file begins with a PNG that other programs show as it is: red stays red."""
    file = written(tmp_path, np.full((1, 32, 32, 3), (250, 10, 5), np.uint8)) / f"train{ENCODED}"
    assert cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)[0, 0].tolist() == [5, 10, 250]


def test_reading_holds_a_picture_at_a_time(tmp_path: Path) -> None:
    """A thousand pictures of 74 kB pass, and the most that is held is less than ten."""
    folder = written(tmp_path, np.broadcast_to(np.resize(PICTURES, (1, 128, 192, 3)), (1000, 128, 192, 3)))
    tracemalloc.start()
    try:
        pixels = open_pixels(folder, "train", (1000, 128, 192, 3))
        assert sum(int(picture[0, 0, 0]) for picture in pixels) == 1000 * int(PICTURES[0, 0, 0, 0])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * 128 * 192 * 3


@pytest.mark.parametrize("cut", [0, 1, 8, 3000])
def test_a_file_that_was_cut_off_is_noticed_when_it_is_opened(cut: int, both: tuple[Path, Path], tmp_path: Path) -> None:
    """Whatever is left of it; the message names the command that makes it again."""
    for path in both[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    file = tmp_path / f"val{ENCODED}"
    file.write_bytes(file.read_bytes()[: -cut if cut else 0])
    with pytest.raises(DamagedError, match=r"split val is damaged \(val\.pngs is cut off.*Run `sixfold prepare` again"):
        load_split(tmp_path, "val")


def test_a_damaged_picture_is_named_when_it_is_read(tmp_path: Path) -> None:
    """The others are read."""
    file = written(tmp_path, PICTURES) / f"train{ENCODED}"
    pixels = open_pixels(tmp_path, "train", PICTURES.shape)
    begin = int(pixels.spans[3, 0])  # type: ignore[union-attr]
    content = bytearray(file.read_bytes())
    content[begin : begin + 8] = bytes(8)
    file.write_bytes(content)
    np.testing.assert_array_equal(pixels[2], PICTURES[2])
    with pytest.raises(DamagedError, match=rf"train\.pngs: damaged at byte {begin}\. Run `sixfold prepare` again"):
        pixels[3]
