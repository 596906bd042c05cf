"""The data card of a small COCO data set: what is suspicious, with file names, and what is printed of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.data.coco import CocoSource, SplitPaths
from detection.data.dataset import SPLITS
from detection.data.sources import Data
from detection.frozen import DamagedError
from flows.prepare.card import DataCard, read_card
from flows.prepare.stage import prepare

GOOD = ([20, 20, 60, 60], 1)
"""xywh in pixels, category id."""
Labels = dict[str, dict[str, list[tuple[list[float], int]]]]


def carded(folder: Path, more: Labels) -> tuple[DataCard, list[str]]:
    """The card and the printed lines: a picture with a good box in every split, and more pictures (split -> name -> boxes).

    Pictures are colourful noise; one whose name starts with `copy` is what train's is, but saved with other bytes.
    """
    (folder / "data").mkdir()
    for number, split in enumerate(SPLITS):
        names = {f"{split}.png": [GOOD], **more.get(split, {})}
        annotations = []
        for index, (name, boxes) in enumerate(names.items()):
            is_copy = name.startswith("copy")
            rng = np.random.default_rng(0 if is_copy else 100 * number + index)
            tiles = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(tiles).save(folder / "data" / name, compress_level=0 if is_copy else 6)
            annotations += [{"image_id": index, "bbox": box, "category_id": label} for box, label in boxes]
        content = {
            "images": [{"id": index, "file_name": name} for index, name in enumerate(names)],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "thing"}, {"id": 2, "name": "rare"}],
        }
        (folder / "data" / f"{split}.json").write_text(json.dumps(content))
    source = CocoSource(root=Path("data"), annotations=SplitPaths(**{split: Path(f"{split}.json") for split in SPLITS}))
    lines: list[str] = []
    prepare(Data(source=source, input_size=(64, 64)), folder, folder / "out", 0, lines.append)
    card = read_card(folder / "out")
    assert card is not None
    return card, lines


def test_suspicious_labels_are_counted_with_their_files(tmp_path: Path) -> None:
    """Half of the pictures' pixels are in the input: 3 px are narrower than 2 there. Crowds are not looked at, and what is well
    is not told. Of boxes over the border only the one that loses more than a pixel counts."""
    boxes: dict[str, list[tuple[list[float], int]]] = {
        "tiny.png": [([10, 10, 3, 50], 1), ([10, 10, 5, 50], 2)],
        "huge.png": [([0, 0, 128, 126], 1)],
        "twice.png": [([10, 10, 50, 50], 1), ([10, 10, 50, 51], 1), ([10, 10, 50, 50], 2)],
        "outside.png": [([200, 0, 9, 9], 1), ([5, 5, 0, 9], 1)],
        "over.png": [([100, 100, 30, 20], 1), ([100, 10, 28.5, 20], 2)],
        "empty.png": [],
    }
    card, lines = carded(tmp_path, {"val": boxes})
    assert {own.kind: (own.count, own.examples) for own in card.findings} == {
        "unlearnable": (1, ("rare",)),
        "doubled": (1, ("twice.png (val)",)),
        "outside": (2, ("outside.png (val)",)),
        "tiny": (1, ("tiny.png (val)",)),
        "huge": (1, ("huge.png (val)",)),
        "clipped": (1, ("over.png (val)",)),
    }
    val = card.splits["val"]
    assert (val.pictures, val.background, val.boxes, val.clipped, val.dropped) == (7, 2, 9, 2, 2)
    assert val.boxes_per_class == {"thing": 6, "rare": 3}
    attention = [line for line in lines if line.startswith("look at ")]
    assert len(attention) == 6
    assert "look at boxes without area inside their picture (dropped): 2, outside.png (val)" in attention
    assert lines.index(attention[-1]) < next(n for n, line in enumerate(lines) if line.startswith("train: 1 pictures"))
    assert f"data card: {tmp_path / 'out' / 'card.json'}" in lines


def test_a_copy_with_other_bytes_is_found_in_another_split(tmp_path: Path) -> None:
    """Readers compare bytes; the card compares pixels."""
    card, lines = carded(tmp_path, {"train": {"rare.png": [([20, 20, 60, 60], 2)]}, "test": {"copy.png": [GOOD]}})
    assert [(own.kind, own.count, own.examples) for own in card.findings] == [
        ("equal", 1, ("copy.png (test) = train.png (train)",))
    ]
    assert any("pictures in two splits" in line and line.endswith(": 1, copy.png (test) = train.png (train)") for line in lines)


def test_nothing_alarming_where_all_is_well(tmp_path: Path) -> None:
    """No line asks for attention, one says that there was a look, and the sizes follow."""
    card, lines = carded(tmp_path, {"train": {"rare.png": [([20, 20, 60, 60], 2)]}})
    assert card.findings == ()
    assert "data card: no picture in two splits, no suspicious label" in lines
    assert not [line for line in lines if line.startswith("look at")]
    assert (
        "shorter sides of boxes in the input of 64 x 64: 30 to 30 px (5 % to 95 %), median 30; 0% below 4 px, 0% below 8 px, "
        "0% below 16 px, 100% below 32 px. The input_size is large enough for nearly all boxes."
    ) in lines


def test_a_line_names_few_files_and_the_card_some_more(tmp_path: Path) -> None:
    """Of twelve files with tiny boxes, three are printed and ten kept; control characters in a name stay out of both."""
    tiny = {f"\x1b{n:02d}.png": [([10.0, 10, 1, 1], 1)] for n in range(12)}
    card, lines = carded(tmp_path, {"train": tiny | {"rare.png": [([20, 20, 60, 60], 2)]}})
    (finding,) = card.findings
    assert (finding.count, len(finding.examples), finding.examples[0]) == (12, 10, "\\x1b00.png (train)")
    (line,) = [line for line in lines if line.startswith("look at")]
    assert line.endswith(": 12, \\x1b00.png (train), \\x1b01.png (train), \\x1b02.png (train), ...")


def test_older_data_has_no_card_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    """None where there is no file; a message that names the command where it is cut off."""
    assert read_card(tmp_path) is None
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(DamagedError, match=r"card\.json: damaged .*sixfold prepare"):
        read_card(tmp_path)
