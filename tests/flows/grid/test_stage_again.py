"""A grid run again: what is stored is not made again, and what is lost or damaged is."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from flows.grid.nodes import NODES
from flows.grid.scoring import SCORES, artifact_digest, score_key
from flows.grid.tasks import tasks_of
from tests.flows.sweep_entries import forget, graph_in, named, spoil, times_in
from tests.flows.sweep_factory import Sweep, run_grid
from tests.places import ROOT


def test_a_second_run_makes_nothing(swept_copy: Sweep) -> None:
    """Every entry keeps its time, and the records come out the same."""
    before, records = times_in(swept_copy), swept_copy.cells_path.read_text()
    code, said = run_grid(swept_copy)
    assert (code, said[0]) == (0, "8 cells, 9 nodes: 9 stored, 0 to make, 0 to score")
    assert times_in(swept_copy) == before
    assert swept_copy.cells_path.read_text() == records


def test_a_second_run_does_not_import_ray(swept_copy: Sweep) -> None:
    """The command line's default executor is Ray, but where all is stored there is nothing to start it for."""
    code = (
        "import sys\nfrom flows.cli.main import main\nsys.argv = ['sixfold', 'grid', '--no-tracking']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "sys.exit(10 * ('ray' in sys.modules) + 20 * ('mlflow' in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], cwd=swept_copy.folder, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"0 to make, 0 to score" in ended.stdout


def test_a_lost_score_is_made_without_training(swept_copy: Sweep) -> None:
    """Only the score is new; no node is touched."""
    node = named(graph_in(swept_copy), "recovered pruning")
    key = score_key(node.key, "onnxruntime", swept_copy.data)
    before = times_in(swept_copy)
    forget(swept_copy, SCORES, key)
    code, said = run_grid(swept_copy)
    assert (code, said[0]) == (0, "8 cells, 9 nodes: 9 stored, 0 to make, 1 to score")
    after = times_in(swept_copy)
    assert {entry for entry in after if after[entry] != before[entry]} == {f"{SCORES}/{key[:2]}/{key}"}


@pytest.mark.parametrize("name", ["quantized onnxruntime quantization", "recovered distillation"])
def test_a_damaged_node_is_moved_aside_and_made_again(name: str, swept_copy: Sweep) -> None:
    """The damage is noticed before anything builds on it; what stands on the node keeps its name and its work."""
    graph = graph_in(swept_copy)
    node = named(graph, name)
    spoil(swept_copy.store.folder(NODES, node.key) / "model.onnx")
    tasks = tasks_of(graph, swept_copy.data, swept_copy.store)
    assert [(task.node.name, task.runtime, task.after) for task in tasks] == [
        (name, None, ()),
        (name, "onnxruntime", (tasks[0].name,)),
    ]
    assert [path.name.startswith(f"nodes-{node.key}-") for path in (swept_copy.store.root / "broken").iterdir()] == [True]
    before = times_in(swept_copy)
    assert run_grid(swept_copy)[0] == 0
    swept_copy.store.open(NODES, node.key)
    after = times_in(swept_copy)
    assert f"nodes/{node.key[:2]}/{node.key}" in set(after) - set(before)
    assert {entry: after[entry] for entry in before if entry.startswith("nodes/")} == {
        entry: time for entry, time in before.items() if entry.startswith("nodes/")
    }
    assert {cell.status for cell in swept_copy.cells.cells} == {"ok"}


def test_the_score_of_a_node_made_again_is_of_its_new_file(swept_copy: Sweep) -> None:
    """A file that comes out with other bytes (OpenVINO's does) is not described by the old one's digest and mAP."""
    node = named(graph_in(swept_copy), "quantized onnxruntime quantization")
    key = score_key(node.key, "onnxruntime", swept_copy.data)
    forget(swept_copy, NODES, node.key)
    score = swept_copy.store.folder(SCORES, key)
    content = (score / "score.json").read_text()
    with_other_bytes = json.loads(content) | {"artifact": "0" * 64}
    (score / "score.json").unlink()
    (score / "score.json").write_text(json.dumps(with_other_bytes))
    assert run_grid(swept_copy)[0] == 0
    (artifact,) = [cell.artifacts["onnxruntime"] for cell in swept_copy.cells.cells if cell.cell == "quantization"]
    assert artifact.digest == artifact_digest((swept_copy.store.root / artifact.url).parent)[0]


def test_a_damaged_score_is_made_again(swept_copy: Sweep) -> None:
    """As a damaged node is."""
    node = named(graph_in(swept_copy), "recovered distillation")
    spoil(swept_copy.store.folder(SCORES, score_key(node.key, "onnxruntime", swept_copy.data)) / "score.json")
    assert run_grid(swept_copy)[0] == 0


def test_what_a_killed_grid_left_is_removed(swept_copy: Sweep) -> None:
    """A folder that nobody fills any more; one that a grid of another sweep is filling in the same store stays."""
    partial = swept_copy.store.root / "partial"
    left = partial / f"0123456789abcdef.{platform.node()}.0a1b2c3d"
    left.mkdir(parents=True)
    (left / "weights.safetensors").write_text("half")
    with swept_copy.store.writing(NODES, "f" * 64) as folder:
        assert run_grid(swept_copy)[0] == 0
        assert list(partial.iterdir()) == [folder]
