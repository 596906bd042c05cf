"""`sixfold predict` as it is typed: what it says, that its accuracy is the sweep's, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from detection.data.dataset import load_split
from detection.evaluation import SCORE_THRESHOLD
from detection.frozen import read_json
from flows.records.schema import write_records
from flows.records.store import read_detections
from flows.report.model_export import CARD, ModelCard
from flows.sweep import workspace
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.gate_factory import ROUNDS_S, latency_of, row_of
from tests.flows.predict_factory import write_best, write_pictures, write_users
from tests.flows.sweep_factory import Sweep, listing


def test_a_recommended_model_finds_what_the_sweep_has_recorded(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """The cell of the report, by the folder that the report wrote and by its name: the boxes of the store, its mAP. The report has
    the card of the prepared data."""
    folder = swept_copy.folder
    files = {cell.cell: cell.artifacts["onnxruntime"].digest for cell in swept_copy.cells.cells}
    slow = tuple(2.0 * seconds for seconds in ROUNDS_S)
    rows = [row_of(name, rounds, slow, artifact_digest=files[name]) for name, rounds in (("none", slow), ("pruning", ROUNDS_S))]
    write_records(folder / workspace.LATENCY, latency_of(*rows))
    assert sixfold(folder, "report", "--no-tracking").code == 0
    assert '<section id="data">' in (folder / workspace.REPORT / "index.html").read_text()
    best = Path("models/best/x86-1t")
    chosen = read_json(folder / best / CARD, ModelCard, "").cell
    record = next(cell for cell in swept_copy.cells.cells if cell.cell == chosen).artifacts["onnxruntime"].test
    write_test_split(swept_copy)
    options = ("--labels", "labels.json", "--json", "--score", str(SCORE_THRESHOLD))
    for name, out in ((str(best), "by-folder"), (chosen, "by-name")):
        ended = sixfold(folder, "predict", name, "test", "--out", f"drawn/{out}", *options)
        assert (ended.code, ended.err) == (0, "")
        lines = ended.out.splitlines()
        assert lines[0].startswith("8 pictures, ")
        assert lines[1].startswith(f"mAP 50-95 {record.map_50_95:.3f}, mAP50 {record.map_50:.3f}, against ")
        assert lines[-1] == f"predictions: drawn/{out}/predictions.json"
        found = json.loads((folder / f"drawn/{out}/predictions.json").read_text())
        stored = read_detections(swept_copy.store.file(record.detections))
        assert len(found["predictions"]) == len(stored) > 8
        for box, other in zip(found["predictions"], stored, strict=True):
            assert box["file_name"] == f"test/{other['image_id']}.png"
            assert box["category"] == swept_copy.data.classes[other["category_id"] - 1]
            assert box["score"] == other["score"]
            assert box["bbox"] == pytest.approx(other["bbox"], abs=0.01)


def write_test_split(sweep: Sweep) -> None:
    """The pictures of test as files, and their labels."""
    images = load_split(sweep.prepared, "test")
    (sweep.folder / "test").mkdir()
    truth = json.loads(json.dumps(images.ground_truth))
    for pixels, about in zip(images.pixels, truth["images"], strict=True):
        about["file_name"] = f"{about['id']}.png"
        Image.fromarray(pixels).save(sweep.folder / "test" / about["file_name"])
    (sweep.folder / "labels.json").write_text(json.dumps(truth))


def test_a_users_file_is_shown_pictures_by_its_plan(sixfold: Sixfold, tmp_path: Path) -> None:
    """Named from another folder; the table says how many boxes of each class."""
    write_users(tmp_path)
    write_pictures(tmp_path / "in", "a.png", "b.png")
    ended = sixfold(tmp_path, "predict", "users.onnx", "in/*.png", "--params", "users.yaml", "--out", "out", "--threads", "2")
    assert (ended.code, ended.err) == (0, "")
    assert re.match(r"2 pictures, 4 boxes, \S+ ms a picture in onnxruntime \(2 threads; .*\): out\n", ended.out)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".sixfold-predict", "a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent", "in"), "absent: no file, no folder with model.json, and no cell"),
        (("best", "nowhere"), "nowhere: no such file, and no match"),
        (("best", "in", "broken"), "1 of 2 pictures cannot be used; nothing was written. The first: broken/a.png: not a readable"),
        (("best", "in", "--runtime", "tensorrt"), "--runtime 'tensorrt': allowed are onnxruntime and openvino."),
        (("best/model.onnx", "in", "--runtime", "openvino", "--labels", "absent.json"), "absent.json: cannot be read"),
        (("users.onnx", "in"), "users.onnx: takes float32 (1, 3, 64, 96) and gives found, unlike files of ours. A file"),
        (("users.onnx", "in", "--params", "absent.yaml"), "absent.yaml: no such params file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: tuple[str, ...], words: str, sixfold: Sixfold, tmp_path: Path) -> None:
    """Exit 2, nothing on stdout, and the folder as it was."""
    write_best(tmp_path / "best")
    write_users(tmp_path)
    write_pictures(tmp_path / "in")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_text("no picture")
    before = listing(tmp_path)
    refused(sixfold(tmp_path, "predict", *arguments, "--out", "out"), words)
    assert listing(tmp_path) == before
