"""Every variant of quantization keeps the contract, alone and beside each other method, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.planning.graph import Cell, cells_of
from compressors.quantization import Quantization
from detection.checkpoint import Detector
from detection.data.dataset import Images
from flows.grid.nodes import Context
from tests.compressors.contract_factory import assert_composes, context_over
from tests.compressors.test_contract import MENU, RUNTIMES

DEFAULT = "all calibrators, chosen on val"
VARIANTS: dict[str, Quantization] = {
    "minmax": Quantization(pictures=8, calibrator="minmax", float_stem=False),
    "entropy": Quantization(pictures=8, calibrator="entropy"),
    "percentile": Quantization(pictures=8, calibrator="percentile"),
    "mse": Quantization(pictures=8, calibrator="mse", float_stem=True),
    "chosen on val, layers returned": Quantization(pictures=8, calibrators=("minmax", "mse"), max_drop=1e-6, most_float_layers=1),
    "trained quantization-aware": Quantization(pictures=8, calibrator="minmax", qat_epochs=1),
    "float16": Quantization(precision="float16"),
    "trained quantization-aware, chosen on val": Quantization(pictures=8, calibrators=("mse",), qat_epochs=1, float_stem=True),
    DEFAULT: Quantization(pictures=8),
}


def cells(variant: Quantization) -> tuple[Cell, ...]:
    """The variant alone and in all pairs."""
    menu = MENU.model_copy(update={"quantization": (variant,)})
    return tuple(cell for cell in cells_of(menu) if len(cell.configs) <= 2 and cell.config("quantization") is not None)


IN_OPENVINO = (DEFAULT, "chosen on val, layers returned", "trained quantization-aware", "float16")
"""Calibrators differ before a runtime's tool begins: one of them stands for the others where the tool is slow."""
CASES = [
    (name, cell, runtime)
    for row, (name, variant) in enumerate(VARIANTS.items())
    for place, cell in enumerate(cells(variant))
    for runtime in RUNTIMES
    if (runtime != "openvino" or name in IN_OPENVINO) and (place == 0 or (place % 3 == row % 3 and name != DEFAULT))
]
"""Every variant alone and with some of the other methods, which take turns; the default, which costs most, alone."""


@pytest.fixture(scope="module")
def context(tiny_prepared: Path, tiny_train: Images, tiny_val: Images, tiny_detector: Detector, contract_store: Path) -> Context:
    """A worker's context over the tiny data and the store that all suites share: float detectors are made once."""
    return context_over(tiny_prepared, tiny_train, tiny_val, tiny_detector, contract_store)


def test_every_variant_and_every_other_method_is_here() -> None:
    """Nine variants, four of them in both runtimes, each alone and, but for the default, in pairs; every other method in both."""
    others = {"lightweight", "nas", "pruning", "low_rank", "distillation"}
    for runtime, names in (("onnxruntime", VARIANTS.keys()), ("openvino", set(IN_OPENVINO))):
        alone = {name for name, cell, its in CASES if its == runtime and len(cell.configs) == 1}
        paired = {name for name, cell, its in CASES if its == runtime and len(cell.configs) == 2}
        assert alone == names == paired | {DEFAULT}
        assert {config.method for _, cell, its in CASES if its == runtime for config in cell.configs} >= others
    assert len({variant.label() for variant in VARIANTS.values()}) == len(VARIANTS)


@pytest.mark.parametrize(
    ("name", "cell", "runtime"), CASES, ids=[f"{name}: {cell.name}: {runtime}" for name, cell, runtime in CASES]
)
def test_a_variant_composes(name: str, cell: Cell, runtime: str, context: Context, tiny_val: Images) -> None:
    """The contract holds; sizes are the float detector's; a quantization-aware training kept to its plan.

    The record says where the ranges come from: one calibrator, the quantization-aware training, or the best of several on val.
    """
    sweep = assert_composes(cell, context, tiny_val, runtime)
    key = sweep.graph.artifacts[cell.name][runtime]
    done, before = sweep.done(key), sweep.done(sweep.graph.recovered[cell.name])
    assert (done.params, done.macs, done.input_size) == (before.params, before.macs, before.input_size)
    assert done.quantization is not None
    assert len(done.quantization.float_layers) <= 1
    lineage = sweep.graph.lineage(key)
    aware = [node for node in lineage if node.kind == "quantization_aware"]
    config = VARIANTS[name]
    assert len(aware) == bool(config.qat_epochs)
    for node in aware:
        training = sweep.done(node.key).training
        assert training is not None
        assert (training.epochs, training.images) == (node.planned.train_epochs, node.planned.train_images)
        assert sweep.done(node.key).teacher_forwards == node.planned.teacher_forwards
    tried = {"learned"} if config.qat_epochs else set[str]()
    if config.precision == "int8" and (config.calibrator == "val" or not config.qat_epochs):
        tried |= set(config.candidates)
    assert done.quantization.ranges in (tried or {None})
    assert done.quantization.val_map.keys() == (tried if config.looks_at_val else set())
