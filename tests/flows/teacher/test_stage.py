"""The teacher is trained once, scored, and copied whole to where people look for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from torch import nn

from detection import checkpoint
from detection.frozen import InputError
from flows.grid.nodes import NODES
from flows.grid.scoring import SCORES
from flows.teacher.stage import teacher
from tests.flows.sweep_factory import Sweep, run_grid

FILES = {"spec.json", "weights.safetensors", "model.onnx", "metrics.json"}


@pytest.fixture
def folder(swept_copy: Sweep) -> Path:
    """Where the teacher is to lie."""
    return swept_copy.folder / "models" / "teacher"


def teach(sweep: Sweep, folder: Path) -> list[str]:
    """What the stage said."""
    said: list[str] = []
    teacher(sweep.plan, sweep.prepared, sweep.store, folder, said.append)
    return said


def teacher_key(sweep: Sweep) -> str:
    """The key of the one node without a parent."""
    (key,) = [
        path.parent.name
        for path in sweep.store.root.glob(f"{NODES}/*/*/done.json")
        if json.loads(path.read_text())["node"]["kind"] == "teacher"
    ]
    return key


def test_a_stored_teacher_is_copied(swept_copy: Sweep, folder: Path) -> None:
    """Trained by the grid already: said so, scored once more (the grid scores cells only), and laid out."""
    key = teacher_key(swept_copy)
    said = teach(swept_copy, folder)
    assert said[0] == f"teacher is stored: {swept_copy.store.folder(NODES, key)}"
    assert said[-1].startswith(f"Next: `sixfold grid --params {swept_copy.plan.path}`")
    assert {path.name for path in folder.iterdir()} == FILES
    for name in FILES - {"metrics.json"}:
        assert (folder / name).read_bytes() == (swept_copy.store.folder(NODES, key) / name).read_bytes()


def test_its_metrics_name_their_node(swept_copy: Sweep, folder: Path) -> None:
    """Sizes as counted on the spec, one multiply-add being two operations, and the accuracy of both splits."""
    teach(swept_copy, folder)
    metrics, detector = json.loads((folder / "metrics.json").read_text()), checkpoint.load(folder)
    assert metrics["node"] == teacher_key(swept_copy)
    network = detector.network()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    # Deployed, a normalisation's scale is folded into its convolution's weights and its shift is that convolution's bias.
    assert metrics["params"] == sum(p.numel() for p in network.parameters()) - sum(module.num_features for module in norms)
    assert metrics["gflops"] == pytest.approx(2 * metrics["macs"] / 1e9)
    assert metrics["train_s"] > 0
    for split in ("val", "test"):
        assert set(metrics[split]) == {"map_50_95", "map_50", "map_75", "per_class"}


def test_the_grid_goes_on_with_the_stage_s_teacher(swept_copy: Sweep, folder: Path) -> None:
    """From an empty store the stage trains it, and the grid finds it stored under the same key, with the same weights."""
    key = teacher_key(swept_copy)
    weights = (swept_copy.store.folder(NODES, key) / "weights.safetensors").read_bytes()
    shutil.rmtree(swept_copy.store.root)
    teach(swept_copy, folder)
    assert teacher_key(swept_copy) == key
    assert (folder / "weights.safetensors").read_bytes() == weights
    code, said = run_grid(swept_copy, pattern="none")
    assert (code, said[0]) == (0, "1 cells, 2 nodes: 1 stored, 1 to make, 1 to score")


def test_a_second_run_changes_nothing(swept_copy: Sweep, folder: Path) -> None:
    """No node and no score is made again; the folder holds the same."""
    teach(swept_copy, folder)
    stored = {path: path.stat().st_mtime_ns for path in swept_copy.store.root.rglob("manifest.json")}
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    teach(swept_copy, folder)
    assert {path: path.stat().st_mtime_ns for path in swept_copy.store.root.rglob("manifest.json")} == stored
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content


def test_an_older_teacher_is_replaced_whole(swept_copy: Sweep, folder: Path) -> None:
    """Files of another teacher do not stay among the new ones, and nothing unfinished stays beside."""
    folder.mkdir(parents=True)
    (folder / "old.onnx").write_text("old")
    teach(swept_copy, folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["teacher"]


def test_a_damaged_teacher_is_made_again(swept_copy: Sweep, folder: Path) -> None:
    """The store's entry is checked first: what is published is whole."""
    teach(swept_copy, folder)
    shutil.rmtree(folder)
    weights = swept_copy.store.folder(NODES, teacher_key(swept_copy)) / "weights.safetensors"
    weights.write_bytes(b"")
    teach(swept_copy, folder)
    assert (folder / "weights.safetensors").read_bytes() == weights.read_bytes() != b""


def test_nothing_prepared_writes_nothing(swept_copy: Sweep, folder: Path) -> None:
    """Refused before anything is trained, scored or laid out."""
    shutil.rmtree(swept_copy.prepared)
    shutil.rmtree(swept_copy.store.root / SCORES)
    with pytest.raises(InputError, match="Run `sixfold prepare` first"):
        teach(swept_copy, folder)
    assert not folder.exists()
    assert not (swept_copy.store.root / SCORES).exists()
