"""Pictures are read as they are, or refused with the name of the file."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detection.data.pixels import file_digest, read_pixels, size_in_header
from detection.frozen import InputError
from tests.places import ROOT, SHARED

SIXTEEN_BITS = SHARED / "cases/sixteen_bits"
WIDE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # a picture of height 2 and width 3


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, exif_orientation: int | None = None) -> Path:
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    if exif_orientation is not None:
        exif[0x0112] = exif_orientation
    (picture.convert(mode) if mode else picture).save(path, exif=exif)
    return path


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


def test_truncated_pictures_are_refused(tmp_path: Path) -> None:
    """Half a JPEG opens well; only reading it to the end shows that it is broken."""
    path = saved(tmp_path / "half.jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"half\.jpg: not a readable picture.*replace it"):
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


GREY = np.full((64, 96), 4095, dtype=np.uint16)  # 12 bits in 16: cut to 8, it would be nearly black
COLOUR = GREY[..., None].repeat(3, 2)


def netpbm(kind: str, maxval: int) -> bytes:
    """A PGM (P5) or PPM (P6) of 2 x 3 (height, width) in binary, every sample at its greatest value."""
    return f"{kind}\n3 2\n{maxval}\n".encode() + maxval.to_bytes(1 + (maxval > 255)) * (6 if kind == "P5" else 18)


def encoded(ending: str, pixels: np.ndarray, *options: int) -> bytes:
    """What OpenCV writes."""
    done, content = cv2.imencode(ending, pixels, options)
    assert done
    return content.tobytes()


DEEP = {
    "grey.png": encoded(".png", GREY),
    "colour.png": encoded(".png", COLOUR),
    "alpha.png": encoded(".png", np.dstack([COLOUR, GREY])),
    "grey.tif": encoded(".tif", GREY),
    "colour.tif": encoded(".tif", COLOUR),
    "grey.jp2": encoded(".jp2", GREY),
    "colour.jp2": encoded(".jp2", COLOUR),
    "colour.avif": encoded(".avif", COLOUR >> 2, cv2.IMWRITE_AVIF_DEPTH, 10),
    "grey.pgm": netpbm("P5", 65535),
    "twelve.pgm": netpbm("P5", 4095),
    "colour.ppm": netpbm("P6", 65535),
    "nine.ppm": netpbm("P6", 300),
    "plain.ppm": b"P3\n3 2\n4095\n" + b"4095 " * 18,
    "colour.sgi": struct.pack(">HBBHHHHII", 474, 0, 2, 3, 3, 2, 3, 0, 65535).ljust(512, b"\0") + bytes(36),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_eight_bits_a_channel_are_refused(tmp_path: Path, name: str) -> None:
    """One rule for all forms: no file says reliably which value is white, and a wrong guess turns pictures black."""
    (tmp_path / name).write_bytes(DEEP[name])
    with pytest.raises(InputError, match=rf"{name}: (9|1[0-6]) bits a channel; allowed are 8 bits a channel.*convert it"):
        read_pixels(tmp_path / name, (64, 96), "refuse")


@pytest.mark.skipif(not SIXTEEN_BITS.is_dir(), reason="needs ../shared/cases beside the checkout")
def test_every_form_of_the_shared_cases_is_refused() -> None:
    """Ten files of 16 bits."""
    for path in sorted(SIXTEEN_BITS.iterdir()):
        with pytest.raises(InputError, match=rf"{path.name}: 16 bits a channel"):
            read_pixels(path, (64, 96), "refuse")


def test_the_documented_conversion_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4095: white is 255, the half 127, a sixteenth 16; colours stay in their order."""
    values = np.array([[[4095, 2047, 256]]], dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(encoded(".png", values))
    monkeypatch.chdir(tmp_path)
    exec((ROOT / "docs/your-data.md").read_text().split("```python\n")[1].split("```")[0])
    np.testing.assert_array_equal(read_pixels(tmp_path / "eight.png", (1, 1), "refuse")[0, 0], [16, 127, 255])


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jp2", "a.ppm", "a.sgi", "a.bmp"])
def test_eight_bits_are_read_to_the_value(tmp_path: Path, name: str) -> None:
    """The forms that may be deeper, at 8 bits: nothing is scaled. JPEG 2000 is lossless here."""
    Image.fromarray(WIDE).save(tmp_path / name)
    np.testing.assert_array_equal(read_pixels(tmp_path / name, (2, 3), "refuse"), WIDE)


def test_a_small_greatest_value_of_a_netpbm_is_white(tmp_path: Path) -> None:
    """By hand: 15 of 15 is 255, 5 of 15 is 85."""
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n15\n\x0f\x05")
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.pgm", (1, 2), "refuse")[0, :, 0], [255, 85])


@pytest.mark.parametrize(("mode", "name"), [("F", "a.tif"), ("I", "a.tif")])
def test_32_bits_are_refused(tmp_path: Path, mode: str, name: str) -> None:
    """Floats, and 32 bits of a whole number."""
    Image.new(mode, (3, 2), 1000).save(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.tif: 32 bits a channel"):
        read_pixels(tmp_path / name, (2, 3), "refuse")


def damaged_exif() -> bytes:
    """A JPEG whose EXIF asks for a turn and holds a resolution that is no number, as some cameras write it."""
    exif = struct.pack("<2sHIH", b"II", 42, 8, 2) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 282, 7, 1, 0)
    buffer = io.BytesIO()
    Image.fromarray(WIDE).save(buffer, "jpeg", exif=b"Exif\0\0" + exif + bytes(4))
    return buffer.getvalue()


def test_damaged_exif_is_named(tmp_path: Path) -> None:
    """Pillow raises a TypeError while it turns the picture; where the boxes are of the stored pixels, nothing is turned."""
    (tmp_path / "a.jpg").write_bytes(damaged_exif())
    with pytest.raises(InputError, match=r"a\.jpg: not a readable picture \(TypeError"):
        read_pixels(tmp_path / "a.jpg", (3, 2), "apply")
    assert read_pixels(tmp_path / "a.jpg", (2, 3), "ignore").shape == (2, 3, 3)


@pytest.mark.parametrize("error", [TypeError, KeyError, AttributeError, struct.error, RecursionError, AssertionError, cv2.error])
def test_whatever_a_library_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """For pixels, size and digest alike."""

    def fail(*given: object) -> None:
        raise error("out of the depths")

    path = saved(tmp_path / "a.png", WIDE)
    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr("hashlib.file_digest", fail)
    for read in (lambda: read_pixels(path, (2, 3), "refuse"), lambda: size_in_header(path, "refuse"), lambda: file_digest(path)):
        with pytest.raises(InputError, match=r"a\.png: not a readable picture \(.*out of the depths"):
            read()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_is_no_fault_of_the_file_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Ctrl-C, and a machine without memory."""

    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(error):
        read_pixels(tmp_path / "a.png", (2, 3), "refuse")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_pixels(tmp_path: Path, name: str, orientation: int) -> None:
    """For every orientation, turned or as stored."""
    path = saved(tmp_path / name, WIDE, exif_orientation=orientation)
    turned = size_in_header(path, "apply")
    assert turned == ((3, 2) if orientation > 4 else (2, 3))
    assert read_pixels(path, turned, "apply").shape[:2] == turned
    if name != "a.tif":
        assert read_pixels(path, size_in_header(path, "ignore"), "ignore").shape == (2, 3, 3)


def test_a_tiff_is_turned_once_or_refused(tmp_path: Path) -> None:
    """Pillow turns it by itself: `apply` gets that, `ignore` cannot be obeyed."""
    path = saved(tmp_path / "a.tif", WIDE, exif_orientation=6)
    np.testing.assert_array_equal(read_pixels(path, (3, 2), "apply"), np.rot90(WIDE, -1))
    with pytest.raises(InputError, match=r"a\.tif: EXIF orientation 6 in a TIFF"):
        read_pixels(path, (2, 3), "ignore")
