"""`prepare` writes what the rest of the workflow reads, whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection.data.dataset import load_prepared, load_split
from detection.data.generated import GeneratedSource, PictureCounts
from detection.data.labelled import Picture
from detection.data.sources import Data, VocSource
from detection.frozen import InputError
from flows.prepare.stage import READ_AHEAD, prepare, read_ahead
from tests.flows.init_factory import write_archive
from tests.places import SHARED

BCCD = SHARED / "datasets/bccd"
GENERATED = Data(source=GeneratedSource(pictures=PictureCounts(train=4, val=2, test=3)))
COCO = {
    "name": "mine",
    "input_size": [64, 64],
    "source": {
        "kind": "coco",
        "root": "data",
        "annotations": {split: f"{split}.json" for split in ("train", "val", "test")},
    },
}


def silent(line: str) -> None:
    del line


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three splits of one picture each, 40 x 80 (height, width), with a box of every fate in train."""
    boxes = {
        "train": [[10, 10, 20, 20], [70, -5, 20, 15], [90, 0, 5, 5], [5, 5, 0, 9]],
        "val": [[0, 0, 80, 40]],
        "test": [[1, 2, 3, 4]],
    }
    (tmp_path / "data").mkdir()
    for blue, (split, own) in enumerate(boxes.items()):
        Image.new("RGB", (80, 40), (200, 0, blue)).save(tmp_path / "data" / f"{split}.png")
        content = {
            "images": [{"id": 5, "file_name": f"{split}.png", "height": 40, "width": 80}],
            "categories": [{"id": 9, "name": "thing"}],
            "annotations": [
                {"id": 20 + n, "image_id": 5, "category_id": 9, "bbox": box, "iscrowd": 0} for n, box in enumerate(own)
            ],
        }
        (tmp_path / "data" / f"{split}.json").write_text(json.dumps(content))
    return tmp_path


def test_boxes_are_clipped_dropped_counted_and_told(coco: Path) -> None:
    """Of four boxes one is whole, one is cut at the border, one lies outside and one has no width."""
    lines: list[str] = []
    prepared = prepare(Data.model_validate(COCO), coco, coco / "out", seed=0, report=lines.append)
    train = prepared.splits["train"]
    assert (train.pictures, train.boxes, train.clipped_boxes, train.dropped_boxes) == (1, 2, 1, 2)
    truth = json.loads((coco / "out" / "train.json").read_text())
    assert truth["images"] == [{"id": 1, "file_name": "train.png", "height": 40, "width": 80}]
    assert truth["categories"] == [{"id": 1, "name": "thing"}]
    assert truth["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [70, 0, 10, 10], "area": 100, "iscrowd": 0},
    ]
    assert any(re.search(r"train: 1 pictures, 2 boxes \(thing 2\); 1 clipped at the border, 2 dropped", line) for line in lines)


def test_pixels_are_letterboxed_rgb(coco: Path) -> None:
    """40 x 80 in 64 x 64: scale 0.8, 32 rows of red between 16 rows of grey above and below; boxes move along."""
    prepare(Data.model_validate(COCO), coco, coco / "out", seed=0, report=silent)
    val = load_split(coco / "out", "val")
    assert val.pixels.shape == (1, 64, 64, 3)
    assert (val.pixels[0, 16:48] == [200, 0, 1]).all()
    assert (val.pixels[0, :16] == 114).all()
    assert (val.pixels[0, 48:] == 114).all()
    np.testing.assert_allclose(val.boxes_xyxy_px[0], [[0, 16, 64, 48]])


def test_generated_data_round_trips(tmp_path: Path) -> None:
    """What was composed is what is loaded; preparing twice gives the same digests, another seed others."""
    first = prepare(GENERATED, tmp_path, tmp_path / "a", seed=0, report=silent)
    assert load_prepared(tmp_path / "a") == first
    assert prepare(GENERATED, tmp_path, tmp_path / "b", seed=0, report=silent) == first
    assert prepare(GENERATED, tmp_path, tmp_path / "c", seed=1, report=silent).digest != first.digest
    assert [len(load_split(tmp_path / "a", split)) for split in ("train", "val", "test")] == [4, 2, 3]


def test_labels_are_their_own_perfect_detections(tmp_path: Path) -> None:
    """pycocotools reads the ground truth and gives the boxes themselves an mAP of 1: ids, categories and areas are sound."""
    tools = pytest.importorskip("pycocotools.coco", reason="pycocotools is a dev extra")
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is a dev extra")
    prepare(GENERATED, tmp_path, tmp_path / "out", seed=0, report=silent)
    truth = tools.COCO(str(tmp_path / "out" / "train.json"))
    found = truth.loadRes([{**own, "score": 1.0} for own in truth.loadAnns(truth.getAnnIds())])
    judge = evaluation.COCOeval(truth, found, "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1.0)


def test_a_failure_leaves_nothing_and_keeps_what_was_there(coco: Path) -> None:
    """A broken picture in the last split: no new folder, no leftovers, and the earlier result untouched."""
    data = Data.model_validate(COCO)
    good = prepare(data, coco, coco / "out", seed=0, report=silent)
    (coco / "data" / "test.png").write_bytes(b"broken")
    for name in ("out", "fresh"):
        with pytest.raises(InputError, match=r"test\.png: not a readable picture"):
            prepare(data, coco, coco / name, seed=0, report=silent)
    assert load_prepared(coco / "out") == good
    assert sorted(path.name for path in coco.iterdir()) == ["data", "out"]


def test_an_earlier_result_is_replaced(tmp_path: Path) -> None:
    """Preparing into the same folder again leaves the new data only."""
    prepare(GENERATED, tmp_path, tmp_path / "out", seed=0, report=silent)
    second = prepare(GENERATED, tmp_path, tmp_path / "out", seed=1, report=silent)
    assert load_prepared(tmp_path / "out") == second
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    """Naming one's home as the output costs nothing but a message."""
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"holds 'thesis\.tex', which is no part of prepared data"):
        prepare(GENERATED, tmp_path, tmp_path, seed=0, report=silent)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_pictures_are_read_ahead_in_order_and_few_at_a_time() -> None:
    """Each comes with its own pixels; when one comes, no more than READ_AHEAD after it were asked for."""
    asked: list[int] = []

    def pictures() -> Iterator[Picture]:
        for number in range(9):
            asked.append(number)
            boxes, labels, crowd = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_)
            yield Picture(str(number), (2, 2), boxes, labels, crowd, lambda own=number: np.full((2, 2, 3), own, np.uint8))

    for number, (picture, pixels) in enumerate(read_ahead(pictures())):
        assert (picture.file_name, pixels[0, 0, 0]) == (str(number), number)
        assert len(asked) == min(9, number + READ_AHEAD + 1)


def test_a_split_without_boxes_is_refused(coco: Path) -> None:
    """A val split of background alone can measure nothing."""
    content: dict[str, Any] = json.loads((coco / "data" / "val.json").read_text())
    (coco / "data" / "val.json").write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(InputError, match=r"split val: none of its 1 pictures has a box"):
        prepare(Data.model_validate(COCO), coco, coco / "out", seed=0, report=silent)
    assert not (coco / "out").exists()


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine pictures of 96 x 128 x 3 bytes do not fit into 1,000 free ones."""
    monkeypatch.setattr("flows.prepare.stage.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"the pixels need 0\.0 GB, but 0\.0 GB are free"):
        prepare(GENERATED, tmp_path, tmp_path / "out", seed=0, report=silent)
    assert not list(tmp_path.iterdir())


def test_room_is_asked_for_as_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine pictures of 36,864 bytes each do not fit raw into 300,000, but encoded; and where that does not fit, it is said."""
    encoded = GENERATED.model_copy(update={"pixel_cache_bytes": 0})
    monkeypatch.setattr("flows.prepare.stage.shutil.disk_usage", lambda path: type("Usage", (), {"free": 300_000}))
    with pytest.raises(InputError, match="the pixels need"):
        prepare(GENERATED, tmp_path, tmp_path / "out", seed=0, report=silent)
    prepare(encoded, tmp_path, tmp_path / "out", seed=0, report=silent)
    assert 100_000 < sum(path.stat().st_size for path in tmp_path.rglob("*.pngs")) < 300_000
    monkeypatch.setattr("flows.prepare.stage.shutil.disk_usage", lambda path: type("Usage", (), {"free": 100_000}))
    with pytest.raises(InputError, match="the pixels need"):
        prepare(encoded, tmp_path, tmp_path / "again", seed=0, report=silent)


def test_each_split_is_encoded_by_its_own_size(tmp_path: Path) -> None:
    """Above the threshold, not at it: four pictures of 36,864 bytes are, three are not."""
    data = GENERATED.model_copy(update={"pixel_cache_bytes": 3 * 96 * 128 * 3})
    prepare(data, tmp_path, tmp_path / "out", seed=0, report=silent)
    assert {path.name for path in (tmp_path / "out").iterdir()} > {"train.pngs", "val.npy", "test.npy"}
    prepare(GENERATED, tmp_path, tmp_path / "out", seed=0, report=silent)
    assert not list((tmp_path / "out").glob("*.pngs")), "an earlier form is replaced with the rest"


def test_long_work_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the pictures of a split take more than two seconds, lines tell how many are done."""
    seconds = iter(range(1000))
    monkeypatch.setattr("flows.progress.clock", lambda: 3.0 * next(seconds))
    prepare(GENERATED, tmp_path, tmp_path / "out", seed=0, report=silent)
    assert "prepare train: 4 of 4 pictures done in " in capsys.readouterr().err


def test_unpacking_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive that takes more than two seconds to read or to unpack is told of, and a short one is not."""
    archive = write_archive(tmp_path / "mine")
    data = Data.model_validate({"source": {"kind": "yolo", "root": archive.name}, "input_size": [64, 64]})
    prepare(data, tmp_path, tmp_path / "short", seed=0, report=silent)
    assert capsys.readouterr().err == ""
    seconds = iter(range(10_000))
    monkeypatch.setattr("flows.progress.clock", lambda: 3.0 * next(seconds))
    (tmp_path / "again").mkdir()
    archive.rename(tmp_path / "again" / archive.name)
    prepare(data, tmp_path / "again", tmp_path / "long", seed=0, report=silent)
    said = capsys.readouterr().err
    assert all(f"{work} {archive.name}: 1 of 1 MB done in " in said for work in ("read", "unpack"))


@pytest.mark.skipif(not BCCD.is_dir(), reason="needs ../shared/datasets/bccd beside the checkout")
def test_real_blood_cells_are_read_as_published(tmp_path: Path) -> None:
    """BCCD: 205, 87 and 72 pictures by its own lists, and 4,888 boxes, two of them without area."""
    data = Data(name="bccd", source=VocSource(root=BCCD), input_size=(96, 128))
    prepared = prepare(data, tmp_path, tmp_path / "out", seed=0, report=silent)
    assert prepared.classes == ("Platelets", "RBC", "WBC")
    assert [prepared.splits[split].pictures for split in ("train", "val", "test")] == [205, 87, 72]
    assert sum(own.boxes + own.dropped_boxes for own in prepared.splits.values()) == 4888
    assert sum(own.dropped_boxes for own in prepared.splits.values()) == 2
    assert sum(own.clipped_boxes for own in prepared.splits.values()) == 0
