"""One cell made as a sweep makes it, and what has to hold for it whatever its methods are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compressors.planning.graph import Cell, graph_of
from detection.checkpoint import Detector
from detection.compact.architecture import architecture_of
from detection.costs import count_macs, count_params
from detection.data.dataset import Images
from detection.evaluation import as_input
from detection.spec import Spec
from detection.training import Recipe
from flows.grid.nodes import Context, model_file
from hardware_profiles.runtimes.table import open_session
from hardware_profiles.schema.library import load_profile
from tests.compressors.test_contract import DESIGN_PROFILE, Sweep, foundation


def context_over(
    prepared: Path, train: Images, val: Images, detector: Detector, store: Path, recipe: Recipe | None = None
) -> Context:
    """A worker's context over the tiny data and a store that all cells of a suite share, so that each makes only what is its own.

    With a recipe, everything is trained by it.
    """
    base = foundation(detector.spec, train.digest, val.digest)
    if recipe is not None:
        base = base.model_copy(update={"training": recipe, "recovery": recipe})
    return Context(prepared=prepared, store=store, design_profile=load_profile(DESIGN_PROFILE), foundation=base)


def assert_composes(cell: Cell, context: Context, val: Images, runtime: str = "onnxruntime") -> Sweep:
    """The sweep that made the cell, once its file detects on pictures of its size, its spec rebuilds and its plan was kept."""
    sweep = Sweep(context, graph_of((cell,), context.foundation, (runtime,)))
    folder = sweep.made(sweep.graph.artifacts[cell.name][runtime])
    spec = sweep.detector(sweep.graph.recovered[cell.name]).spec
    assert Spec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec
    for node in sweep.graph.lineage(sweep.graph.recovered[cell.name]):
        done, own = sweep.done(node.key), sweep.detector(node.key).spec
        assert (done.params, done.macs, done.input_size) == (count_params(own), count_macs(own), own.input_size)
        assert (done.search_images, done.teacher_forwards) == (node.planned.search_images, node.planned.teacher_forwards)
    session = open_session(runtime, model_file(folder), 1)
    assert session.input_size == spec.input_size
    boxes, scores = session(as_input(val.at(spec.input_size).pixels[0]))
    height, width = spec.input_size
    assert boxes.shape == (1, sum((height // level) * (width // level) for level in architecture_of(spec).levels), 4)
    assert np.isfinite(boxes).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    return sweep
