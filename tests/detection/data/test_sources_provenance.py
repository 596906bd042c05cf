"""Prepared data knows what it was made from: each thing that decides it changes a digest, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from detection.data import sources as module
from detection.data.sources import Data, provenance

GENERATED: dict[str, Any] = {"name": "digits", "source": {"kind": "generated"}, "input_size": [64, 96]}
VOC: dict[str, Any] = {"name": "mine", "source": {"kind": "voc", "root": "data"}}
COCO: dict[str, Any] = {
    "name": "mine",
    "source": {"kind": "coco", "root": "data", "annotations": "labels.json", "images": "pictures"},
}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """The names of a VOC data set; nothing here reads what is in its files."""
    for name in ("Annotations/one.xml", "Annotations/two.xml", "JPEGImages/one.jpg", "JPEGImages/two.PNG"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(f"content of {name}")
    return tmp_path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """The same in COCO's format."""
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    for name in ("one.png", "two.png"):
        (tmp_path / "data" / "pictures" / name).write_text(f"content of {name}")
    content = {"images": [{"file_name": "two.png"}, {"file_name": "one.png"}], "annotations": [], "categories": []}
    (tmp_path / "data" / "labels.json").write_text(json.dumps(content))
    return tmp_path


def files_of(base: Path, tree: dict[str, Any]) -> str | None:
    """The digest of the files."""
    return provenance(Data.model_validate(tree), base, 0).files


def test_the_same_settings_give_the_same_digest() -> None:
    """Whatever the folder of the params file is; generated pictures have no files."""
    data = Data.model_validate(GENERATED)
    assert provenance(data, Path("/one"), 0) == provenance(data, Path("/other"), 0)
    assert provenance(data, Path("/one"), 0).files is None


@pytest.mark.parametrize(
    ("changes", "seed"),
    [
        ({}, 1),
        ({"name": "numbers"}, 0),
        ({"input_size": [96, 96]}, 0),
        ({"source": {"kind": "generated", "noise": [0.0, 9.0]}}, 0),
        ({"source": {"kind": "voc", "root": "data"}}, 0),
    ],
)
def test_every_setting_of_the_data_counts(changes: dict[str, Any], seed: int) -> None:
    """So does the seed, which composes pictures and draws splits."""
    before = provenance(Data.model_validate(GENERATED), Path(), 0)
    assert provenance(Data.model_validate(GENERATED | changes), Path(), seed).settings != before.settings


def test_the_version_of_the_reading_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older reader prepared is prepared again."""
    before = provenance(Data.model_validate(GENERATED), Path(), 0)
    monkeypatch.setattr(module, "READING_VERSION", module.READING_VERSION + 1)
    assert provenance(Data.model_validate(GENERATED), Path(), 0).settings != before.settings


def test_a_copy_of_the_files_has_the_same_digest(voc: Path, tmp_path: Path) -> None:
    """Times do not count, nor do files that no reader looks at."""
    before = files_of(voc, VOC)
    os.utime(voc / "data/JPEGImages/one.jpg", (1, 1))
    (voc / "data" / "notes.txt").write_text("about this data")
    (voc / "data/JPEGImages/Thumbs.db").write_text("cache")
    shutil.copytree(voc / "data", tmp_path / "copy" / "data")
    assert before == files_of(voc, VOC) == files_of(tmp_path / "copy", VOC)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("Annotations/one.xml", "CONTENT of Annotations/one.xml"),
        ("Annotations/three.xml", "new"),
        ("JPEGImages/one.jpg", "a picture of another size"),
        ("JPEGImages/three.jpg", "new"),
        ("ImageSets/Main/val.txt", "one"),
        ("Annotations/cam0/one.xml", "new"),
        ("JPEGImages/cam0/one.jpg", "new"),
    ],
)
def test_what_a_voc_reader_looks_at_counts(name: str, content: str, voc: Path) -> None:
    """A corrected annotation of the same length, a new one, another picture, a new one, a list of a split."""
    before = files_of(voc, VOC)
    (voc / "data" / name).parent.mkdir(parents=True, exist_ok=True)
    (voc / "data" / name).write_text(content)
    assert files_of(voc, VOC) != before


def test_what_a_coco_reader_looks_at_counts(coco: Path) -> None:
    """The annotations by content, the listed pictures by size; a picture that no file lists does not."""
    before = files_of(coco, COCO)
    (coco / "data/pictures/unlisted.png").write_text("nobody's")
    assert files_of(coco, COCO) == before
    (coco / "data/pictures/one.png").write_text("another size")
    smaller = files_of(coco, COCO)
    (coco / "data/pictures/one.png").unlink()
    absent = files_of(coco, COCO)
    labels = coco / "data/labels.json"
    labels.write_text(labels.read_text().replace("[]", "[ ]"))
    assert len({before, smaller, absent, files_of(coco, COCO)}) == 4


def test_coco_files_per_split_all_count(coco: Path) -> None:
    """Each of the three annotation files, with its own folder of pictures."""
    splits = {split: f"{split}.json" for split in ("train", "val", "test")}
    tree = {"name": "mine", "source": {"kind": "coco", "root": "data", "annotations": splits}}
    for name in splits.values():
        (coco / "data" / name).write_text(json.dumps({"images": [{"file_name": f"pictures/{name}.png"}]}))
    seen = {files_of(coco, tree)}
    for name in splits.values():
        (coco / "data" / "pictures" / f"{name}.png").write_text("a picture")
        seen.add(files_of(coco, tree))
    assert len(seen) == 4


ABSURD = json.dumps({"images": [{"file_name": name} for name in ("x" * 5000, "nul\0.jpg", "\ud800.jpg", "/", "../..")]})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [1]}', "\xff", "[" * 100_000, ABSURD], ids=range(7))
def test_a_broken_file_is_left_to_the_reader(text: str, coco: Path) -> None:
    """It has a digest like any other; what is wrong with it is said when it is read."""
    before = files_of(coco, COCO)
    (coco / "data/labels.json").write_text(text, encoding="latin-1")
    assert files_of(coco, COCO) not in (None, before)


def test_a_name_in_another_encoding_counts(voc: Path) -> None:
    """Whether a list names it or not."""
    before = files_of(voc, VOC)
    (voc / "data/JPEGImages" / os.fsdecode(b"caf\xe9.jpg")).touch()
    assert files_of(voc, VOC) not in (None, before)


def test_a_digest_by_hand(voc: Path, coco: Path, tmp_path: Path) -> None:
    """A line a file, in one order: lists and annotations by sha256, pictures by size. It is in every prepared folder."""
    del coco  # lies in the same folder
    lines = [f"ImageSets/Main/{split}.txt absent" for split in ("train", "val", "test")]
    for name in ("one", "two"):
        lines.append(f"Annotations/{name}.xml {hashlib.sha256(f'content of Annotations/{name}.xml'.encode()).hexdigest()}")
    lines += ["JPEGImages/one.jpg 29", "JPEGImages/two.PNG 29"]
    assert files_of(voc, VOC) == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    labels = tmp_path / "data/labels.json"
    lines = [f"labels.json {hashlib.sha256(labels.read_bytes()).hexdigest()}", "pictures/one.png 18", "pictures/two.png 18"]
    assert files_of(tmp_path, COCO) == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def test_an_annotation_is_read_once(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be of hundreds of megabytes, and every command asks."""
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or original(path))
    assert files_of(coco, COCO)
    assert read == [coco / "data/labels.json"]


def test_a_folder_that_is_not_here_is_not_known(tmp_path: Path) -> None:
    """Prepared data may be carried to a machine without the pictures."""
    assert files_of(tmp_path, VOC) is None
    assert files_of(tmp_path, COCO) is None
