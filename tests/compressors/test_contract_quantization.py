"""Every variant of quantization keeps the contract, alone and beside each other method, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressors.cells import Cell, cells_of, graph_of
from compressors.quantization import Quantization
from detection.checkpoint import Detector
from detection.dataset import Images
from detection.evaluation import as_input
from flows.nodes import Context, model_file
from hardware_profiles.runtimes import open_session
from tests.compressors.test_contract import DESIGN_PROFILE, MENU, RUNTIMES, Sweep, foundation

VARIANTS: dict[str, Quantization] = {
    "entropy": Quantization(pictures=8, calibrator="entropy"),
    "percentile": Quantization(pictures=8, calibrator="percentile"),
    "mse": Quantization(pictures=8, calibrator="mse", float_stem=True),
    "chosen on val, layers returned": Quantization(pictures=8, calibrators=("minmax", "mse"), max_drop=1e-6, most_float_layers=2),
    "trained with rounding": Quantization(pictures=8, calibrator="minmax", qat_epochs=1),
    "float16": Quantization(precision="float16"),
}


def cells(variant: Quantization) -> tuple[Cell, ...]:
    """The variant alone and in all pairs."""
    menu = MENU.model_copy(update={"quantization": (variant,)})
    return tuple(cell for cell in cells_of(menu) if len(cell.configs) <= 2 and cell.config("quantization") is not None)


IN_OPENVINO = ("chosen on val, layers returned", "trained with rounding", "float16")
"""Calibrators differ before a runtime's tool begins: one of them stands for the others where the tool is slow."""
CASES = [
    (name, cell, runtime)
    for name, variant in VARIANTS.items()
    for cell in cells(variant)
    for runtime in RUNTIMES
    if runtime != "openvino" or name in IN_OPENVINO
]


@pytest.fixture(scope="module")
def context(
    tiny_prepared: Path, tiny_train: Images, tiny_val: Images, tiny_detector: Detector, tmp_path_factory: pytest.TempPathFactory
) -> Context:
    """A worker's context over the tiny data and a store that all variants share: float detectors are made once."""
    base = foundation(tiny_detector.blueprint, tiny_train.digest, tiny_val.digest)
    return Context(prepared=tiny_prepared, store=tmp_path_factory.mktemp("store"), design_profile=DESIGN_PROFILE, foundation=base)


def test_every_pair_of_every_variant_is_here() -> None:
    """Six variants, three of them in both runtimes, each alone and beside the five other methods; no two have the same label."""
    assert len(CASES) == (6 + 3) * 6
    assert len({variant.label() for variant in VARIANTS.values()}) == len(VARIANTS)


@pytest.mark.parametrize(
    ("name", "cell", "runtime"), CASES, ids=[f"{name}: {cell.name}: {runtime}" for name, cell, runtime in CASES]
)
def test_a_variant_composes(name: str, cell: Cell, runtime: str, context: Context, tiny_val: Images) -> None:
    """Made as a worker makes it, the file detects; sizes are the float detector's; a training with rounding kept to its plan."""
    sweep = Sweep(context, graph_of((cell,), context.foundation, RUNTIMES))
    key = sweep.graph.artifacts[cell.name][runtime]
    done, before = sweep.done(key), sweep.done(sweep.graph.recovered[cell.name])
    boxes, scores = open_session(runtime, model_file(sweep.made(key)), 1)(as_input(tiny_val.pixels[0]))
    assert np.isfinite(boxes).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (done.params, done.macs, done.input_size) == (before.params, before.macs, before.input_size)
    assert done.quantization is not None
    assert len(done.quantization.float_layers) <= 2
    lineage = sweep.graph.lineage(key)
    aware = [node for node in lineage if node.kind == "quantization_aware"]
    assert len(aware) == (name == "trained with rounding")
    for node in aware:
        training = sweep.done(node.key).training
        assert training is not None
        assert (training.epochs, training.images) == (node.planned.train_epochs, node.planned.train_images)
        assert sweep.done(node.key).teacher_forwards == node.planned.teacher_forwards
        assert done.quantization.ranges == "learned"
