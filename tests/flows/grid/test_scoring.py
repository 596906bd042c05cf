"""A score is of the exported file in its own runtime, named by all that decides it, and the same every time."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from detection.data.dataset import load_split
from detection.evaluation import accuracy
from flows.grid import scoring
from flows.grid.nodes import NODES
from flows.grid.scoring import SCORES, artifact_digest, read_artifact, score, score_key
from flows.records.store import Store, StoreError
from tests.flows.sweep_factory import Sweep

RUNTIME = "onnxruntime"


@pytest.fixture(scope="module")
def control(swept: Sweep) -> str:
    """Key of the control's node."""
    return swept.cells.cells[0].node


def test_a_score_reads_back_as_it_was_given(swept_copy: Sweep, control: str) -> None:
    """Scored again into an empty section: equal numbers, equal detections, and the record that cells.json has."""
    first = swept_copy.cells.cells[0].artifacts[RUNTIME]
    before = (swept_copy.store.root / first.val.detections).read_bytes()
    shutil.rmtree(swept_copy.store.root / SCORES)
    result = score(control, RUNTIME, swept_copy.prepared, swept_copy.store)
    assert read_artifact(control, RUNTIME, swept_copy.data, swept_copy.store) == first
    assert (swept_copy.store.root / first.val.detections).read_bytes() == before
    assert (result.runtime, set(result.accuracy)) == (RUNTIME, {"val", "test"})


def test_the_numbers_follow_from_the_stored_detections(swept: Sweep) -> None:
    """Evaluating the stored detections against the ground truth gives the recorded metrics of both splits."""
    record = swept.cells.cells[0].artifacts[RUNTIME]
    for split in ("val", "test"):
        metrics = getattr(record, split)
        found = json.loads((swept.store.root / metrics.detections).read_text())
        again = accuracy(load_split(swept.prepared, split).ground_truth, found)  # type: ignore[arg-type]
        assert again.model_dump() == metrics.model_dump(exclude={"detections"})


def test_detections_name_pictures_of_their_split(swept: Sweep) -> None:
    """Every detection belongs to a picture of its split and a class of the data."""
    record = swept.cells.cells[0].artifacts[RUNTIME]
    for split in ("val", "test"):
        images = load_split(swept.prepared, split)  # type: ignore[arg-type]
        found = json.loads((swept.store.root / getattr(record, split).detections).read_text())
        assert found, "a network of two epochs still says something"
        assert {one["image_id"] for one in found} <= set(images.picture_ids)
        assert {one["category_id"] for one in found} <= set(range(1, len(images.classes) + 1))


def test_the_digest_covers_all_files_of_the_artifact(tmp_path: Path) -> None:
    """sha256 over the .xml and then the .bin, and their sizes together; worked by hashlib here."""
    (tmp_path / "model.xml").write_bytes(b"graph")
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert artifact_digest(tmp_path) == (hashlib.sha256(b"graphweights").hexdigest(), 12)


def test_a_score_s_name_follows_what_decides_it(swept: Sweep, control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another node, runtime, version of the runtime, data or protocol is another score; asking twice is not."""
    key = score_key(control, RUNTIME, swept.data)
    assert score_key(control, RUNTIME, swept.data) == key
    others = [score_key("f" * 64, RUNTIME, swept.data), score_key(control, "openvino", swept.data)]
    for name, value in (("PROTOCOL", 2), ("SCORE_THRESHOLD", 0.9), ("IOU_THRESHOLD", 0.9), ("MOST_DETECTIONS", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(scoring, name, value)
            others.append(score_key(control, RUNTIME, swept.data))
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "runtime_version", lambda _: "0.0")
        others.append(score_key(control, RUNTIME, swept.data))
    assert len({key, *others}) == 1 + len(others)


@pytest.mark.parametrize(("split", "other"), [("val", True), ("test", True), ("train", False)])
def test_only_val_and_test_name_a_score(split: str, other: bool, swept_copy: Sweep, control: str) -> None:
    """Other val or test pictures make another score; the training pictures matter to the node, not to its score."""
    before = score_key(control, RUNTIME, swept_copy.data)
    path = swept_copy.prepared / "prepared.json"
    tree = json.loads(path.read_text())
    tree["splits"][split]["digest"] = "0" * 64
    path.write_text(json.dumps(tree))
    assert (score_key(control, RUNTIME, swept_copy.data) != before) is other


def test_a_damaged_artifact_is_not_scored(swept_copy: Sweep, control: str) -> None:
    """The file is compared with its digest before it is run; no score is left."""
    shutil.rmtree(swept_copy.store.root / SCORES)
    model = swept_copy.store.folder(NODES, control) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(StoreError, match="differs from its manifest"):
        score(control, RUNTIME, swept_copy.prepared, swept_copy.store)
    assert not (swept_copy.store.root / SCORES).exists()


def test_an_artifact_that_is_not_there_says_so(tmp_path: Path, swept: Sweep) -> None:
    """An empty store names the command that fills it."""
    with pytest.raises(StoreError, match="`sixfold grid` makes it"):
        score("a" * 64, RUNTIME, swept.prepared, Store(tmp_path))
