"""A data set may be an archive: read as its folder would be, unpacked once, and never outside of where it belongs."""

from __future__ import annotations

import errno
import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.data import archives
from detection.data.archives import Watch, is_archive, unpacked
from detection.data.labelled import Labelled
from detection.data.sources import Data, provenance, read_source
from detection.frozen import InputError


def picture(number: int) -> bytes:
    """A PNG of 20 x 30 (height, width)."""
    content = io.BytesIO()
    Image.fromarray(np.full((20, 30), number, dtype=np.uint8)).save(content, "png")
    return content.getvalue()


YOLO = {"classes.txt": b"cat\n"}
YOLO |= {f"images/{n}.png": picture(n) for n in range(10)} | {f"labels/{n}.txt": b"0 0.5 0.5 0.2 0.4\n" for n in range(10)}
CONTENT = {
    "images": [{"id": n, "file_name": f"{n}.png"} for n in range(10)],
    "annotations": [{"image_id": n, "category_id": 1, "bbox": [12, 6, 6, 8]} for n in range(10)],
    "categories": [{"id": 1, "name": "cat"}],
}
COCO = {"labels.json": json.dumps(CONTENT).encode(), **{name: own for name, own in YOLO.items() if name.startswith("images/")}}
XML = "<annotation><object><name>cat</name><bndbox>{}</bndbox></object></annotation>".format(
    "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), (13, 7, 18, 14), strict=True))
).encode()
VOC = {f"JPEGImages/{n}.png": picture(n) for n in range(10)} | {f"Annotations/{n}.xml": XML for n in range(10)}
SOURCES = {"yolo": (YOLO, {}), "coco": (COCO, {"annotations": "labels.json", "images": "images"}), "voc": (VOC, {})}


def pack(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None, hard: bool = False) -> Path:
    """An archive of these files, by the ending of its name; links are name -> target."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
            for name, target in (links or {}).items():
                link = zipfile.ZipInfo(name)
                link.external_attr = (stat.S_IFLNK | 0o777) << 16
                zipped.writestr(link, target)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def data_of(kind: str, name: str) -> Data:
    return Data.model_validate({"source": {"kind": kind, "root": name, **SOURCES[kind][1]}})


def read(base: Path, name: str, kind: str = "yolo") -> Labelled:
    return read_source(data_of(kind, name).source, base, 0)


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz", "set.TGZ"])
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("below", ["", "mine/", "VOCdevkit/VOC2012/"])
def test_an_archive_is_read_as_its_folder(tmp_path: Path, name: str, kind: str, below: str) -> None:
    """In every format, packed with or without the folders around it: ten pictures with one box each."""
    pack(tmp_path / name, {f"{below}{file}": content for file, content in SOURCES[kind][0].items()})
    labelled = read(tmp_path, name, kind)
    pictures = [picture for own in labelled.splits.values() for picture in own]
    assert {tuple(picture.boxes_xyxy_px.round(6).ravel()) for picture in pictures} == {(12.0, 6.0, 18.0, 14.0)}
    assert (labelled.classes, len(pictures)) == (("cat",), 10)
    assert {picture.pixels().shape for picture in pictures} == {(20, 30, 3)}
    assert labelled.notes[0].startswith(f"{tmp_path / name} is unpacked in {tmp_path / archives.UNPACKED}")


def test_an_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second reading opens nothing; an archive of other content is another one."""
    archive = pack(tmp_path / "set.zip", YOLO)
    read(tmp_path, "set.zip")
    with monkeypatch.context() as patched:
        patched.setattr(archives, "_unpack", lambda *_: pytest.fail("unpacked again"))
        read(tmp_path, "set.zip")
    pack(archive, YOLO | {"classes.txt": b"dog\n"})
    assert read(tmp_path, "set.zip").classes == ("dog",)
    assert len(list((tmp_path / archives.UNPACKED).iterdir())) == 2


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tgz"])
def test_reading_and_unpacking_are_watched(tmp_path: Path, name: str) -> None:
    """By the bytes of the archive: its digest, then its files, each told to the end; later only the digest is taken."""
    archive = pack(tmp_path / name, YOLO | {"notes.bin": np.random.default_rng(0).bytes(3 * archives.BLOCK_BYTES)})
    size_bytes, seen = archive.stat().st_size, dict[str, list[int]]()

    @contextmanager
    def watch(title: str, total_bytes: int) -> Iterator[Callable[[int], object]]:
        assert total_bytes == size_bytes
        yield seen.setdefault(title, []).append

    unpacked(archive, tmp_path, watch)
    assert list(seen) == [f"read {name}", f"unpack {name}"]
    assert sum(seen[f"read {name}"]) == size_bytes
    assert sum(seen[f"unpack {name}"]) >= 0.95 * size_bytes  # the end of a tar holds no file
    assert max(map(max, seen.values())) <= archives.BLOCK_BYTES, "told while it lasts"
    seen.clear()
    provenance(data_of("yolo", name), tmp_path, 0, watch)
    unpacked(archive, tmp_path, watch)
    assert list(seen) == [f"read {name}"]


def test_what_macos_and_windows_add_is_no_data(tmp_path: Path) -> None:
    """__MACOSX, .DS_Store, and folders parted by backslashes."""
    files = {f"mine\\{name.replace('/', chr(92))}": content for name, content in YOLO.items()}
    pack(tmp_path / "set.zip", files | {"__MACOSX/mine/._0.png": b"x", ".DS_Store": b"x", "mine/images/._0.png": b"x"})
    assert sum(map(len, read(tmp_path, "set.zip").splits.values())) == 10


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        ("../escaped.txt", "file name '../escaped.txt' leads out of"),
        ("a/../../escaped.txt", "file name 'a/../../escaped.txt' leads out of"),
        ("/escaped.txt", "file name '/escaped.txt' is an absolute path"),
        ("x" * 300, "has a part of 300 bytes"),
    ],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, member: str, complaint: str) -> None:
    """By name, and nothing is left behind."""
    pack(tmp_path / name, YOLO | {member: b"x"})
    with pytest.raises(InputError, match=rf"{name}: .*{complaint}"):
        read(tmp_path, name)
    assert not list((tmp_path / archives.UNPACKED).iterdir())
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize(
    ("name", "target", "hard", "complaint"),
    [
        ("set.tar", "/etc/hostname", False, "cannot be unpacked .*(AbsoluteLink|OutsideDestination)Error: .*images/link.png"),
        ("set.tar.gz", "../../../../secret", False, "cannot be unpacked .*LinkOutsideDestinationError: .*images/link.png"),
        ("set.tar", "../../secret", True, "cannot be unpacked .*LinkOutsideDestinationError: .*images/link.png"),
        ("set.zip", "/etc/hostname", False, "'images/link.png' is a link"),
    ],
)
def test_links_out_are_refused(tmp_path: Path, name: str, target: str, hard: bool, complaint: str) -> None:
    """By name."""
    pack(tmp_path / name, YOLO, {"images/link.png": target}, hard)
    with pytest.raises(InputError, match=complaint):
        read(tmp_path, name)


def test_a_file_behind_a_link_is_refused(tmp_path: Path) -> None:
    """A link to a folder outside, then a file in it."""
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("link/escaped.txt"), io.BytesIO())
    with pytest.raises(InputError, match="cannot be unpacked"):
        read(tmp_path, "set.tar")
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tgz"])
@pytest.mark.parametrize("spoil", ["cut", "cut between files", "text", "empty"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str, spoil: str) -> None:
    """Half a download, a page in its place, nothing."""
    archive = pack(tmp_path / name, YOLO)
    whole = archive.read_bytes()
    cut = {"cut": whole[: len(whole) // 2 + 7], "cut between files": whole[: min(4096, len(whole) // 2)]}  # 1,024 a file
    archive.write_bytes({**cut, "text": b"<html>not found</html>" * 99, "empty": b""}[spoil])
    with pytest.raises(InputError, match=rf"{name}: cannot be unpacked .*Pack or download it again"):
        read(tmp_path, name)


def test_a_place_before_the_start_is_an_error_of_the_archive(tmp_path: Path) -> None:
    """A zip whose index says that its first file begins a byte too early: the system refuses to go there."""
    archive = pack(tmp_path / "set.zip", YOLO)
    content = bytearray(archive.read_bytes())
    end = content.rindex(b"PK\5\6")
    start = int.from_bytes(content[end + 16 : end + 20], "little") + 1
    content[end + 16 : end + 20] = start.to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.zip: cannot be unpacked \(OSError"):
        read(tmp_path, "set.zip")


def test_a_message_of_python_is_cut(tmp_path: Path) -> None:
    """It may hold half of the archive: here a name of 1,000 bytes."""
    archive = pack(tmp_path / "set.zip", YOLO)
    content = bytearray(archive.read_bytes())
    content[26:28] = (1000).to_bytes(2, "little")  # the length of the first name
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.zip: cannot be unpacked \(BadZipFile") as caught:
        read(tmp_path, "set.zip")
    assert len(str(caught.value)) < 600


def test_a_full_disk_is_no_error_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes as it is, and nothing is left behind."""
    pack(tmp_path / "set.zip", YOLO)

    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("detection.data.archives.shutil.copyfileobj", fail)
    with pytest.raises(OSError, match="No space left"):
        read(tmp_path, "set.zip")
    assert not list((tmp_path / archives.UNPACKED).iterdir())


def test_one_name_for_a_file_and_a_folder_is_an_error_of_the_archive(tmp_path: Path) -> None:
    """Not of the disk."""
    pack(tmp_path / "set.zip", {"a": b"x", "a/b.txt": b"x"})
    with pytest.raises(InputError, match=r"set\.zip: cannot be unpacked"):
        read(tmp_path, "set.zip")


def test_more_than_the_disk_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive may unpack into anything."""
    pack(tmp_path / "set.zip", YOLO)
    monkeypatch.setattr("detection.data.archives.shutil.disk_usage", lambda path: type("Usage", (), {"free": 500}))
    with pytest.raises(InputError, match=r"set\.zip: its files need more room than is free"):
        read(tmp_path, "set.zip")
    assert not list((tmp_path / archives.UNPACKED).iterdir())


def test_another_process_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readings at once leave one folder."""
    archive = pack(tmp_path / "set.zip", YOLO)
    original = archives._unpack

    def slow(own: Path, folder: Path, watch: Watch) -> None:
        monkeypatch.setattr(archives, "_unpack", original)
        unpacked(archive, tmp_path)
        original(own, folder, watch)

    monkeypatch.setattr(archives, "_unpack", slow)
    assert (unpacked(archive, tmp_path) / "classes.txt").read_bytes() == b"cat\n"
    assert len(list((tmp_path / archives.UNPACKED).iterdir())) == 1


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    """rar and 7z are not opened; a folder may be called set.zip."""
    (tmp_path / "set.rar").touch()
    with pytest.raises(InputError, match=r"set\.rar: a file, but neither zip nor tar"):
        read(tmp_path, "set.rar")
    (tmp_path / "set.zip").mkdir()
    assert not is_archive(tmp_path / "set.zip")


def test_the_archive_is_what_prepared_data_was_made_from(tmp_path: Path) -> None:
    """By content, unpacked or not; None where it is not here."""
    data = data_of("yolo", "set.tar")
    assert provenance(data, tmp_path, 0).files is None
    archive = pack(tmp_path / "set.tar", YOLO)
    before = provenance(data, tmp_path, 0)
    read(tmp_path, "set.tar")
    assert provenance(data, tmp_path, 0) == before
    pack(archive, YOLO | {"labels/0.txt": b"0 0.5 0.5 0.2 0.5\n"})
    assert provenance(data, tmp_path, 0).files not in (None, before.files)
