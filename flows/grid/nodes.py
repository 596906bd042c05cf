"""The work of one node: its parent out of the store, its steps, its training, the result into the store. No Ray here."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from compressors import distillation, lightweight, low_rank, nas, pruning, quantization
from compressors.contract import Change, Each, Transform, Workbench, in_turn
from compressors.planning import references
from compressors.planning.graph import Foundation, Node
from compressors.quantization import QuantizationRecord, qat
from detection import checkpoint, export
from detection.checkpoint import Detector
from detection.costs import count_macs, count_params
from detection.data.dataset import Images, Split, load_split
from detection.frozen import Digest, Frozen, read_json
from detection.training import Recipe, TrainingRecord, fit
from flows.progress import SHORT_S, progress
from flows.records.store import GIVEN, Store
from hardware_profiles.runtimes import table
from hardware_profiles.schema.profile import HardwareProfile

NODES = "nodes"
DONE_FILE = "done.json"
SEEN: tuple[Split, Split] = ("train", "val")
"""What a node may look at."""
Pictures = Callable[[Split, tuple[int, int]], Images]
"""A split at a size (height, width); each is read once for all that a node does."""
Fields = dict[str, Any]
"""Of `Done`, those that tell how a node was made: its own, its time and its machine `make_node` knows itself."""

TRANSFORMS: dict[str, Transform] = {
    "lightweight": lightweight.rebuild,
    "nas": nas.search,
    "pruning": pruning.prune,
    "low_rank": low_rank.factor,
    "narrow": references.narrow,
    "smaller_input": references.see_smaller,
}


class Context(Frozen):
    """What a worker needs to find everything; paths mean the same on every machine of a cluster."""

    prepared: Path
    store: Path
    run: str = ""
    """Of a grid: the name under which its store counts what was made."""
    design_profile: HardwareProfile
    """As the driver read it: the keys of nodes hold its digest, so no worker may read another."""
    foundation: Foundation


class Done(Frozen):
    """What making a node took and gave; lies beside its files."""

    node: Node
    changes: tuple[Change, ...] = ()
    training: TrainingRecord | None = None
    search_images: int = 0
    teacher_forwards: int = 0
    quantization: QuantizationRecord | None = None
    """How the file of a quantized node was chosen; None for other nodes."""
    params: int
    macs: int
    input_size: tuple[int, int] | None = None
    """(height, width) in pixels; None in records from before networks of one sweep could differ in it."""
    made_s: float
    host: str


def make_node(node: Node, context: Context, each: Each = in_turn) -> Done:
    """Make one node and store it; everything it needs is already in the store. Progress goes to stdout, which is its log."""
    started_s = time.perf_counter()
    store = Store(context.store, context.run)
    torch.set_num_threads(node.threads)
    print(f"node {node.name} {node.key}", flush=True)
    with store.writing(NODES, node.key) as folder:

        @cache
        def pictures(split: Split, size: tuple[int, int]) -> Images:
            return load_split(context.prepared, split).at(size)

        if node.kind == "quantized":
            found = _quantize(node, context, pictures, store, folder)
        elif node.kind == "packed":
            found = _pack(node, store, folder)
        elif node.kind == "quantization_aware":
            found = _train_quantization_aware(node, context, pictures, store, folder)
        else:
            found = _make(node, context, pictures, store, folder, each)
        done = Done(node=node, made_s=time.perf_counter() - started_s, host=platform.node(), **found)
        (folder / DONE_FILE).write_text(done.model_dump_json(by_alias=True, indent=1) + "\n")
    shutil.rmtree(store.scratch(node.key), ignore_errors=True)
    print(f"made in {done.made_s:.1f} s: {done.params:,} parameters, {done.macs:,} multiply-adds", flush=True)
    return done


def read_done(store: Store, key: Digest) -> Done:
    """The record of a finished node."""
    return read_json(store.folder(NODES, key) / DONE_FILE, Done, "Run `sixfold grid` again: it replaces what is damaged.")


def model_file(folder: Path) -> Path:
    """The file that a runtime loads, in a node's folder."""
    found = table.model_file(folder)
    assert found is not None, f"{folder}: every node but a search writes a file"
    return found


def _make(node: Node, context: Context, pictures: Pictures, store: Store, folder: Path, each: Each) -> Fields:
    teacher, detector = _parents(node, context.foundation, store)
    changes: list[Change] = []
    for step in node.steps:
        detector, change = TRANSFORMS[step.method](detector, step, _workbench(context, pictures, teacher, detector, each))
        print(f"{change.method}: {change.summary}; multiply-adds {change.macs_before:,} -> {change.macs_after:,}", flush=True)
        changes.append(change)
    detector, record, forwards = _train(node, detector, context, pictures, store)
    checkpoint.save(detector, folder)
    if node.kind != "search":
        export.export_onnx(detector, folder / "model.onnx")
        export.write_interface(detector.spec, folder)
    return {
        "changes": tuple(changes),
        "training": record,
        "search_images": sum(change.spent.search_images for change in changes),
        "teacher_forwards": forwards,
        "params": count_params(detector.spec),
        "macs": count_macs(detector.spec),
        "input_size": detector.spec.input_size,
    }


def _parents(node: Node, base: Foundation, store: Store) -> tuple[Detector, Detector]:
    """The teacher (for its own node: a fresh detector) and the detector that this node starts from."""
    if node.parent is None:
        brought = base.given if node.spec is None else node.given
        start = checkpoint.load(store.open(GIVEN, brought)) if brought else checkpoint.fresh(node.spec or base.teacher, base.seed)
        return start, start
    parent = checkpoint.load(store.open(NODES, node.parent))
    ancestor = node.parent
    while (done := read_done(store, ancestor)).node.parent is not None:
        ancestor = done.node.parent
    teacher = parent if ancestor == node.parent else checkpoint.load(store.open(NODES, ancestor))
    return teacher, parent


def _workbench(context: Context, pictures: Pictures, teacher: Detector, detector: Detector, each: Each) -> Workbench:
    base = context.foundation
    return Workbench(
        teacher=teacher,
        train=pictures("train", detector.spec.input_size),
        val=pictures("val", detector.spec.input_size),
        device=torch.device(base.device),
        seed=base.seed,
        design_profile=context.design_profile,
        recipe=base.training,
        recovery=base.recovery,
        each=each,
    )


def _train(
    node: Node, detector: Detector, context: Context, pictures: Pictures, store: Store
) -> tuple[Detector, TrainingRecord | None, int]:
    """The trained detector, what that took, and the teacher's forward passes; nothing happens where no epochs are planned."""
    if not node.planned.train_epochs:
        return detector, None, 0
    base = context.foundation
    recipe = base.recovery if node.kind == "recovered" else base.training
    train = pictures("train", detector.spec.input_size)
    objective = _objective(node, detector, train, recipe, context, store)
    with _epochs(node, recipe) as told:
        trained, record = fit(
            detector,
            train,
            recipe,
            seed=base.seed,
            device=torch.device(base.device),
            objective=objective,
            # A distilled training trains adapters too and is short enough to start over.
            resume=store.scratch(node.key) if objective is None else None,
            on_epoch=told,
        )
    return trained, record, objective.teacher_forwards if objective else 0


@contextmanager
def _epochs(node: Node, recipe: Recipe) -> Iterator[Callable[[int, float], None]]:
    """What a training calls after each epoch: a line with the loss for the log, and the time left."""
    with progress(f"train {node.name}", recipe.epochs, "epochs", first_after_s=SHORT_S) as work:

        def told(epoch: int, loss: float) -> None:
            print(f"epoch {epoch}/{recipe.epochs}: loss {loss:.4f}", flush=True)
            work.advance(epoch - work.done)

        yield told


def _objective(
    node: Node, detector: Detector, train: Images, recipe: Recipe, context: Context, store: Store
) -> distillation.DistillationLoss | distillation.SoftLabelLoss | None:
    """What the node's training lowers where it learns from a teacher; None where labels alone teach."""
    if node.objective is None:
        return None
    assert node.taught_by is not None
    teacher, base = checkpoint.load(store.open(NODES, node.taught_by)), context.foundation
    device = torch.device(base.device)
    return distillation.teach(node.objective, teacher, detector, device, seed=base.seed, train=train, recipe=recipe)


def _train_quantization_aware(node: Node, context: Context, pictures: Pictures, store: Store, folder: Path) -> Fields:
    """The recovered detector after a quantization-aware training, and the ranges it was rounded in."""
    assert node.parent is not None
    (config,) = node.steps
    assert isinstance(config, quantization.Quantization)
    base, recipe = context.foundation, config.qat_recipe(context.foundation.recovery)
    detector, before = checkpoint.load(store.open(NODES, node.parent)), read_done(store, node.parent)
    train = pictures("train", detector.spec.input_size)
    objective = _objective(node, detector, train, recipe, context, store)
    with _epochs(node, recipe) as told:
        trained = qat.train_quantization_aware(
            detector,
            train,
            recipe,
            seed=base.seed,
            device=torch.device(base.device),
            float_stem=bool(config.float_stem),
            objective=objective,
            on_epoch=told,
        )
    checkpoint.save(trained.detector, folder)
    qat.save_ranges(trained.ranges, folder)
    forwards = objective.teacher_forwards if objective else 0
    return _same_network(before) | {"training": trained.record, "teacher_forwards": forwards}


def _quantize(node: Node, context: Context, pictures: Pictures, store: Store, folder: Path) -> Fields:
    assert node.parent is not None
    assert node.runtime is not None
    (config,) = node.steps
    assert isinstance(config, quantization.Quantization)
    parent = store.open(NODES, node.parent)
    detector, before = checkpoint.load(parent), read_done(store, node.parent)
    train, val = (pictures(split, detector.spec.input_size) for split in SEEN)
    learned = qat.load_ranges(parent)
    packed = quantization.quantize(detector, config, node.runtime, train, val, context.foundation.seed, folder, learned)
    export.write_interface(detector.spec, folder)
    print(f"quantization: {packed.record.summary()}", flush=True)
    return _same_network(before) | {"quantization": packed.record}


def _pack(node: Node, store: Store, folder: Path) -> Fields:
    """The float file of the recovered detector in the format of a runtime that opens no ONNX."""
    assert node.parent is not None
    assert node.runtime is not None
    pack = table.RUNTIMES[node.runtime].pack
    assert pack is not None, f"{node.runtime} opens no ONNX, so its entry says how to pack"
    parent = store.open(NODES, node.parent)
    pack(model_file(parent), folder)
    export.write_interface(checkpoint.load_spec(parent), folder)
    return _same_network(read_done(store, node.parent))


def _same_network(before: Done) -> Fields:
    """What is known of a network that goes on as it was, in other numbers or in another file."""
    return {"params": before.params, "macs": before.macs, "input_size": before.input_size}


def artifact_files(folder: Path) -> tuple[Path, ...]:
    """The files that make up a node's artifact: an ONNX file, or an OpenVINO pair."""
    return table.file_parts(model_file(folder))
