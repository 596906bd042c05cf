"""One node: parent out of the store, steps, training, files and record into the store; never half, never from pickles."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import flows.grid.nodes
from compressors.planning.graph import Graph, Node
from detection import checkpoint
from detection.checkpoint import Detector
from detection.costs import count_macs, count_params
from detection.data.dataset import load_split
from detection.evaluation import as_input, as_planes
from flows.grid.nodes import NODES, Context, artifact_files, make_node, model_file, read_done
from flows.records.store import Store, StoreError
from flows.sweep.context import chosen_cells, lay_foundation, make_graph
from hardware_profiles.runtimes.table import open_session
from tests.flows.sweep_factory import Sweep


@pytest.fixture(scope="module")
def graph(swept: Sweep) -> Graph:
    """The nodes of the tiny sweep."""
    base = lay_foundation(swept.plan, swept.prepared)
    return make_graph(swept.plan, base, chosen_cells(swept.plan, None))


@pytest.fixture
def context(swept_copy: Sweep) -> Context:
    """What a worker gets."""
    base = lay_foundation(swept_copy.plan, swept_copy.prepared)
    return Context(
        prepared=swept_copy.prepared, store=swept_copy.store.root, design_profile=swept_copy.plan.design_profile,
        foundation=base,
    )  # fmt: skip


def named(graph: Graph, name: str) -> Node:
    """The one node of a name."""
    (node,) = [node for node in graph.nodes.values() if node.name == name]
    return node


def test_what_a_float_node_holds(swept: Sweep, graph: Graph) -> None:
    """A detector without pickles, its ONNX file, and the record; nothing else."""
    for node in graph.nodes.values():
        names = {path.name for path in swept.store.open(NODES, node.key).iterdir()}
        float_files = {"spec.json", "weights.safetensors", "model.onnx", "done.json", "manifest.json"}
        assert names == ({"model.onnx", "done.json", "manifest.json"} if node.kind == "quantized" else float_files)


def test_the_record_counts_what_is_stored(swept: Sweep, graph: Graph) -> None:
    """Parameters and multiply-adds are those of the stored spec; a quantized node has its parent's."""
    for node in graph.nodes.values():
        done = read_done(swept.store, node.key)
        float_key = node.parent if node.kind == "quantized" else node.key
        assert float_key is not None
        spec = checkpoint.load(swept.store.folder(NODES, float_key)).spec
        assert (done.params, done.macs) == (count_params(spec), count_macs(spec))
        assert done.node == node
        assert done.made_s > 0


def test_every_training_kept_to_its_plan(swept: Sweep, graph: Graph) -> None:
    """Epochs, pictures, search pictures and teacher forwards of each node are the planned ones."""
    for node in graph.nodes.values():
        done = read_done(swept.store, node.key)
        planned = node.planned
        epochs, images = (done.training.epochs, done.training.images) if done.training else (0, 0)
        assert (epochs, images) == (planned.train_epochs, planned.train_images), node.name
        assert (done.search_images, done.teacher_forwards) == (planned.search_images, planned.teacher_forwards), node.name


def test_changes_are_recorded_in_order(swept: Sweep, graph: Graph) -> None:
    """One change per step, with its sizes before and after."""
    (change,) = read_done(swept.store, named(graph, "recovered pruning").key).changes
    teacher = read_done(swept.store, named(graph, "teacher").key)
    assert change.method == "pruning"
    assert (change.macs_before, change.params_before) == (teacher.macs, teacher.params)
    assert change.macs_after < change.macs_before
    assert read_done(swept.store, named(graph, "recovered none").key).changes == ()


def test_the_exported_file_is_the_stored_detector(swept: Sweep, graph: Graph) -> None:
    """ONNX Runtime and torch say the same of a picture, to float32 rounding, for a pruned and an untouched network."""
    picture = load_split(swept.prepared, "val").pixels[0]
    for name in ("recovered none", "recovered pruning"):
        folder = swept.store.open(NODES, named(graph, name).key)
        boxes, scores = open_session("onnxruntime", model_file(folder), 1)(as_input(picture))
        network = checkpoint.load(folder).network().eval()
        with torch.no_grad():
            expected_boxes, expected_scores = network.decode(network(torch.from_numpy(as_planes(picture))))
        np.testing.assert_allclose(boxes, expected_boxes.numpy(), rtol=0, atol=1e-2)  # px of 96
        np.testing.assert_allclose(scores, expected_scores.numpy(), rtol=0, atol=1e-4)


def test_a_node_made_twice_has_the_same_weights(swept: Sweep, graph: Graph, context: Context) -> None:
    """Same key, same content: on one thread the second making is equal to the last bit."""
    for name in ("recovered pruning", "recovered distillation"):
        node = named(graph, name)
        shutil.rmtree(Store(context.store).folder(NODES, node.key))
        make_node(node, context)
        ours, first = (
            hashlib.sha256((store.folder(NODES, node.key) / "weights.safetensors").read_bytes()).hexdigest()
            for store in (Store(context.store), swept.store)
        )
        assert ours == first, name


def test_a_node_says_what_it_does(graph: Graph, context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    """Its output is its log: name and key, what each step changed, each epoch, and what came out."""
    node = named(graph, "recovered pruning")
    shutil.rmtree(Store(context.store).folder(NODES, node.key))
    make_node(node, context)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"node recovered pruning {node.key}"
    assert [line.split(":")[0] for line in lines[1:3]] == ["pruning", "epoch 1/1"]
    assert lines[-1].startswith("made in ")


def test_a_missing_parent_is_the_store_s_failure(graph: Graph, context: Context) -> None:
    """A child asked for without its parent says which command makes that, and stores nothing."""
    store, node = Store(context.store), named(graph, "quantized onnxruntime quantization")
    assert node.parent is not None
    for key in (node.key, node.parent):
        shutil.rmtree(store.folder(NODES, key))
    with pytest.raises(StoreError, match=r"no such entry. `sixfold grid` makes it"):
        make_node(node, context)
    assert not store.has(NODES, node.key)


def test_a_damaged_parent_is_not_built_upon(graph: Graph, context: Context) -> None:
    """Weights that changed on the disk are noticed before they are trained further."""
    store, node = Store(context.store), named(graph, "recovered none")
    assert node.parent is not None
    shutil.rmtree(store.folder(NODES, node.key))
    weights = store.folder(NODES, node.parent) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x00")
    with pytest.raises(StoreError, match="differs from its manifest"):
        make_node(node, context)


def test_a_node_that_fails_stores_nothing(graph: Graph, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export is the last step; when it raises, the trained weights before it are no entry."""
    store, node = Store(context.store), named(graph, "recovered none")
    shutil.rmtree(store.folder(NODES, node.key))

    def fails(_detector: Detector, _path: Path) -> None:
        raise RuntimeError("an operator without a name")

    monkeypatch.setattr(flows.grid.nodes.export, "export_onnx", fails)
    with pytest.raises(RuntimeError, match="without a name"):
        make_node(node, context)
    assert not store.has(NODES, node.key)
    assert list((store.root / "partial").iterdir()) == []


def test_a_finished_training_leaves_no_scratch(graph: Graph, context: Context) -> None:
    """What an interrupted training kept to go on with is removed when its node is stored."""
    store, node = Store(context.store), named(graph, "recovered none")
    shutil.rmtree(store.folder(NODES, node.key))
    store.scratch(node.key).mkdir(parents=True)
    assert store.scratch(node.key).is_dir()
    make_node(node, context)
    assert not store.scratch(node.key).exists()


def test_the_files_of_an_artifact(tmp_path: Path) -> None:
    """An ONNX file alone; an OpenVINO model with its weights beside it, the .xml being what is loaded."""
    onnx, openvino = tmp_path / "onnx", tmp_path / "openvino"
    for folder, names in ((onnx, ["model.onnx", "done.json"]), (openvino, ["model.xml", "model.bin", "done.json"])):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    assert artifact_files(onnx) == (onnx / "model.onnx",)
    assert artifact_files(openvino) == (openvino / "model.xml", openvino / "model.bin")
    assert model_file(openvino) == openvino / "model.xml"
