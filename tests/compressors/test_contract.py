"""One contract for every method and every pair: the cells of the default menu are made as a sweep makes them, only smaller.

Variants have their own suites: alone in each method's `test_<method>_contract`, as cells in `test_contract_<what>` beside this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressors.contract import Change, Workbench
from compressors.distillation import Distillation
from compressors.lightweight import Lightweight
from compressors.low_rank import LowRank
from compressors.nas import Nas
from compressors.planning.graph import Cell, Foundation, Graph, Menu, Node, cells_of, graph_of
from compressors.planning.names import METHODS
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection import checkpoint
from detection.checkpoint import Detector
from detection.compact.architecture import Architecture
from detection.costs import count_macs, count_params
from detection.data.dataset import Images
from detection.evaluation import as_input, as_planes
from detection.frozen import Digest
from detection.spec import Spec
from detection.training import Recipe
from flows.grid.nodes import NODES as SECTION
from flows.grid.nodes import TRANSFORMS, Context, Done, make_node, model_file, read_done
from flows.records.store import Store
from flows.sweep.context import library_versions
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.schema.library import load_profile

RUNTIMES = ("onnxruntime", "openvino")
DESIGN_PROFILE = "raspberry-pi-5"
MENU = Menu(
    lightweight=(Lightweight(),),
    nas=(Nas(supernet_epochs=1, evaluations=2, population=4, recalibration_pictures=8, val_pictures=4),),
    pruning=(Pruning(keep_macs=0.8, gradient_pictures=8),),
    low_rank=(LowRank(energy=0.4, round_to=4, only_if_faster=False),),
    distillation=(Distillation(),),
    quantization=(Quantization(pictures=8, calibrators=("minmax", "percentile")),),
)
CELLS = {cell.name: cell for cell in cells_of(MENU) if len(cell.configs) <= 2}
RECIPE = Recipe(epochs=1, batch_size=12)


def foundation(spec: Spec, train: Digest, val: Digest) -> Foundation:
    """What the nodes share, on 24 + 8 pictures."""
    return Foundation(
        teacher=spec,
        training=RECIPE,
        recovery=RECIPE,
        train_digest=train,
        val_digest=val,
        train_pictures=24,
        val_pictures=8,
        device="cpu",
        threads=1,
        teacher_threads=1,
        design_profile="0" * 64,
        libraries=library_versions(),
    )


def graph(base: Foundation, cells: tuple[Cell, ...] = tuple(CELLS.values())) -> Graph:
    """The nodes of all cells of at most two methods."""
    return graph_of(cells, base, RUNTIMES)


ANY_TEACHER = Spec(classes=("a",), input_size=(64, 96), settings=Architecture())
NODES = tuple(
    node.name
    for node in graph(foundation(ANY_TEACHER, "0" * 64, "1" * 64)).nodes.values()
    if node.kind != "quantized" and node.steps
)
"""Names of the nodes that transform a detector; names do not depend on data or teacher."""


@dataclass
class Sweep:
    """Nodes made when first asked for, as a worker makes them."""

    context: Context
    graph: Graph

    @property
    def store(self) -> Store:
        return Store(self.context.store)

    def made(self, key: Digest) -> Path:
        """The folder of a node, its ancestors made first."""
        for node in self.graph.lineage(key):
            if not self.store.has(SECTION, node.key):
                make_node(node, self.context)
        return self.store.open(SECTION, key)

    def detector(self, key: Digest) -> Detector:
        return checkpoint.load(self.made(key))

    def done(self, key: Digest) -> Done:
        self.made(key)
        return read_done(self.store, key)

    def named(self, name: str) -> Node:
        return next(node for node in self.graph.nodes.values() if node.name == name)


@pytest.fixture(scope="module")
def context(tiny_prepared: Path, tiny_train: Images, tiny_val: Images, tiny_detector: Detector, contract_store: Path) -> Context:
    """A worker's context over the tiny data and the store that all suites share."""
    base = foundation(tiny_detector.spec, tiny_train.digest, tiny_val.digest)
    return Context(prepared=tiny_prepared, store=contract_store, design_profile=load_profile(DESIGN_PROFILE), foundation=base)


@pytest.fixture(scope="module")
def sweep(context: Context) -> Sweep:
    """All cells of at most two methods."""
    return Sweep(context, graph(context.foundation))


@pytest.fixture
def bench(sweep: Sweep, tiny_train: Images, tiny_val: Images) -> Workbench:
    """What the nodes of the sweep give to their methods."""
    return Workbench(
        teacher=sweep.detector(sweep.named("teacher").key),
        train=tiny_train,
        val=tiny_val,
        device=torch.device("cpu"),
        seed=0,
        design_profile=load_profile(DESIGN_PROFILE),
        recipe=RECIPE,
    )


def protected_outputs(detector: Detector) -> dict[str, int]:
    """Name of each last prediction convolution -> its outputs."""
    return {name: len(detector.weights[f"{name}.bias"]) for name in detector.family.protected(detector.network())}


def test_the_suite_covers_every_method_and_pair() -> None:
    """The control, each method and each pair; the four transforms are nodes."""
    assert len(CELLS) == 1 + len(METHODS) + math.comb(len(METHODS), 2)
    assert len(NODES) == 4 + 9, "two architectures and two searches; nine of the sixteen recoveries reduce first"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_detects_in_every_runtime(name: str, runtime: str, sweep: Sweep, tiny_val: Images) -> None:
    """The exported file opens, and says finite boxes and scores in [0, 1] for every point and class; float files as torch does."""
    key = sweep.graph.artifacts[name][runtime]
    session = open_session(runtime, model_file(sweep.made(key)), 1)
    pixels = tiny_val.pixels[0]
    boxes, scores = session(as_input(pixels))
    points = sum((64 // stride) * (96 // stride) for stride in (8, 16, 32))
    assert boxes.shape == (1, points, 4)
    assert scores.shape == (1, points, len(tiny_val.classes))
    assert np.isfinite(boxes).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    if CELLS[name].config("quantization") is None:
        network = sweep.detector(key).network()
        with torch.no_grad():
            torch_boxes, torch_scores = network.decode(network(torch.from_numpy(as_planes(pixels))))
        np.testing.assert_allclose(boxes, torch_boxes, atol=0.05)
        np.testing.assert_allclose(scores, torch_scores, atol=1e-3)


@pytest.mark.parametrize("name", CELLS)
def test_the_spec_rebuilds_the_weights(name: str, sweep: Sweep) -> None:
    """Through JSON and back every cell's spec builds exactly the shapes of its weights; classes and size are the teacher's."""
    detector = sweep.detector(sweep.graph.recovered[name])
    spec = Spec.model_validate_json(detector.spec.model_dump_json(by_alias=True))
    assert spec == detector.spec
    shapes = {key: tensor.shape for key, tensor in detector.family.build(spec).state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in detector.weights.items()}
    teacher = sweep.context.foundation.teacher
    assert (spec.classes, spec.input_size) == (teacher.classes, teacher.input_size)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_spends_what_was_planned(name: str, sweep: Sweep) -> None:
    """Epochs, pictures, search pictures and teacher forwards are those of the plan, node by node, and sizes are the spec's."""
    for node in sweep.graph.lineage(sweep.graph.recovered[name]):
        done, planned, spec = sweep.done(node.key), node.planned, sweep.detector(node.key).spec
        assert done.node == node
        assert (done.training.epochs if done.training else 0) == planned.train_epochs
        assert (done.training.images if done.training else 0) == planned.train_images
        assert done.search_images == planned.search_images
        assert done.teacher_forwards == planned.teacher_forwards
        assert (done.params, done.macs) == (count_params(spec), count_macs(spec))


@pytest.fixture(scope="module")
def proven() -> Proven:
    """(teacher, detector given, step) -> what came back, for steps that several nodes share."""
    return {}


Proven = dict[tuple[Digest, Digest, str], tuple[Detector, Change]]


@pytest.mark.parametrize("name", NODES)
def test_transforms_keep_their_contract(name: str, sweep: Sweep, bench: Workbench, proven: Proven) -> None:
    """Step by step: what is given stays as it was, what comes back is the same twice, and the change is counted truly."""
    prove_node(sweep.named(name), sweep, bench, proven)


def prove_node(node: Node, sweep: Sweep, bench: Workbench, proven: Proven) -> None:
    """Every claim about the steps of one node, made again from the detector that it started from."""
    assert node.parent is not None
    given, changes = sweep.detector(node.parent), []
    for step in node.steps:
        known = bench.teacher.digest, given.digest, step.model_dump_json()
        if known not in proven:
            proven[known] = prove(step, given, bench)
        given, change = proven[known]
        changes.append(as_recorded(change))
    done = sweep.done(node.key)
    assert changes == [as_recorded(change) for change in done.changes]
    assert given.spec == sweep.detector(node.key).spec
    if node.kind == "search":
        assert given.digest == sweep.detector(node.key).digest


def prove(step: Any, given: Detector, bench: Workbench) -> tuple[Detector, Change]:
    """What the step makes of the detector, after every claim about one step has held."""
    before, teacher = given.digest, bench.teacher.digest
    (result, change), (again, change_again) = (TRANSFORMS[step.method](given, step, bench) for _ in range(2))
    assert (given.digest, bench.teacher.digest) == (before, teacher)
    assert (result.digest, change) == (again.digest, change_again)
    assert change.method == step.method
    assert (change.macs_before, change.params_before) == (count_macs(given.spec), count_params(given.spec))
    assert (change.macs_after, change.params_after) == (count_macs(result.spec), count_params(result.spec))
    assert change.macs_after <= change.macs_before
    protected = protected_outputs(given)
    assert protected_outputs(result) == {name: protected[name] for name in result.family.protected(result.network())}
    assert result.spec.classes == given.spec.classes
    share = step.input_share if isinstance(step, Nas) else 1
    assert result.spec.input_size == tuple(share * side for side in given.spec.input_size)
    with torch.no_grad():
        network = result.network()
        picture = bench.val.at(result.spec.input_size).pixels[0]
        family = result.family
        boxes, scores = family.decode(network, family.raw(network, torch.from_numpy(as_planes(picture))))
    assert torch.isfinite(boxes).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    return result, change


def as_recorded(change: Change) -> Any:
    """The change as JSON keeps it: tuples are lists there."""
    return change.model_dump(mode="json")


@pytest.mark.parametrize("name", ["lightweight", "pruning", "low_rank"])
def test_methods_that_change_the_network_have_an_effect_here(name: str, sweep: Sweep) -> None:
    """Or the contract would be about nothing: alone, each leaves fewer multiply-adds than the control has."""
    own, control = (sweep.done(sweep.graph.recovered[cell]) for cell in (name, "none"))
    assert own.macs < control.macs


def test_distillation_trains_the_same_network_to_other_weights(sweep: Sweep) -> None:
    """Taught by itself the control keeps its spec and ends with other weights than without a teacher."""
    taught, control = (sweep.detector(sweep.graph.recovered[cell]) for cell in ("distillation", "none"))
    assert taught.spec == control.spec
    assert taught.digest != control.digest


def test_reductions_can_be_swapped(context: Context) -> None:
    """With low_rank first the pair is made in that order, from the same teacher, and detects."""
    swapped = context.foundation.model_copy(update={"reduction": ("low_rank", "pruning")})
    other = Sweep(context.model_copy(update={"foundation": swapped}), graph(swapped, (CELLS["pruning+low_rank"],)))
    key = other.graph.recovered["pruning+low_rank"]
    assert [edit.edit for edit in other.detector(key).spec.edits] == ["factored", "kept_channels"]
    assert [change.method for change in other.done(key).changes] == ["low_rank", "pruning"]


def test_a_node_made_elsewhere_is_the_same(sweep: Sweep, context: Context, tmp_path: Path) -> None:
    """Another store, the same plan: teacher and a distilled, pruned detector come out with the same weights, bit for bit."""
    elsewhere = Sweep(context.model_copy(update={"store": tmp_path / "store"}), sweep.graph)
    key = sweep.graph.recovered["pruning+distillation"]
    assert elsewhere.detector(key).digest == sweep.detector(key).digest
