"""Every variant of distillation keeps the contract, alone and beside each other method, as a worker makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressors.distillation import Distillation
from compressors.planning.graph import Cell, cells_of, graph_of
from compressors.quantization import Quantization
from detection.checkpoint import Detector
from detection.data.augmentation import Augmentation
from detection.data.dataset import Images
from detection.training import Recipe
from flows.grid.nodes import Context
from tests.compressors.contract_factory import assert_composes, context_over
from tests.compressors.test_contract import MENU, Sweep
from tests.conftest import TINY

RUNTIME = "onnxruntime"
FLIPPED = Augmentation(flip_horizontal=1.0, scale=0, brightness=0, contrast=0, colour=0)
RECIPE = Recipe(epochs=2, batch_size=12, augmentation=FLIPPED)
"""Every picture flipped, so that the second epoch sees what the first did and the cache has something to remember."""
LARGER = TINY.model_copy(update={"stage_widths": (16, 24, 32, 48), "neck_width": 24})
VARIANTS: dict[str, Distillation] = {
    "cwd": Distillation(features_by="cwd"),
    "mgd": Distillation(features_by="mgd"),
    "no features": Distillation(features_by="none"),
    "features alone": Distillation(scores=0, boxes=0),
    "named teacher": Distillation(teacher=LARGER),
    "cache": Distillation(cache=True),
    "all at once": Distillation(features_by="mgd", teacher=LARGER, cache=True, temperature=4.0),
}
PARTNERS = MENU.model_copy(update={"quantization": (Quantization(pictures=8, calibrator="minmax", qat_epochs=2),)})
"""Quantization trains with rounding here: the one way in which it meets an objective."""


def cells(variant: Distillation) -> tuple[Cell, ...]:
    """The variant alone and in all pairs."""
    menu = PARTNERS.model_copy(update={"distillation": (variant,)})
    return tuple(cell for cell in cells_of(menu) if len(cell.configs) <= 2 and cell.config("distillation") is not None)


CASES = [
    (name, cell)
    for row, (name, variant) in enumerate(VARIANTS.items())
    for place, cell in enumerate(cells(variant))
    if place == 0 or place % 3 == row % 3 or name == "all at once"
]
"""Every variant alone and with some of the other methods, which take turns; with all of them the one that has every option."""


@pytest.fixture(scope="module")
def context(tiny_prepared: Path, tiny_train: Images, tiny_val: Images, tiny_detector: Detector, contract_store: Path) -> Context:
    """A worker's context over the tiny data and the store that all suites share: what learns from nobody is made once."""
    return context_over(tiny_prepared, tiny_train, tiny_val, tiny_detector, contract_store, RECIPE)


def test_every_variant_and_every_other_method_is_here() -> None:
    """Seven variants, each alone and in pairs; each other method with three of them; no two have the same label."""
    partners = [config.method for _, cell in CASES for config in cell.configs if config.method != "distillation"]
    assert {name for name, cell in CASES if len(cell.configs) == 1} == set(VARIANTS)
    assert {name for name, cell in CASES if len(cell.configs) == 2} == set(VARIANTS)
    assert all(partners.count(method) >= 3 for method in ("lightweight", "nas", "pruning", "low_rank", "quantization"))
    assert len({variant.label() for variant in VARIANTS.values()}) == len(VARIANTS)


@pytest.mark.parametrize(("name", "cell"), CASES, ids=[f"{name}: {cell.name}" for name, cell in CASES])
def test_a_variant_composes(name: str, cell: Cell, context: Context, tiny_val: Images) -> None:
    """The contract holds; every training of the cell asked its teacher exactly as often as was planned, and had its own epochs.

    A remembering one asked once about each of 24 pictures, any other once in every epoch.
    """
    sweep = Sweep(context, graph_of((cell,), context.foundation, (RUNTIME,)))
    key = sweep.graph.artifacts[cell.name][RUNTIME]
    teachers = sweep.graph.named_teachers(key)
    assert [teacher.spec and teacher.spec.settings for teacher in teachers] == ([LARGER] if VARIANTS[name].teacher else [])
    for teacher in teachers:
        sweep.made(teacher.key)
    assert_composes(cell, context, tiny_val)
    taught = [node for node in sweep.graph.lineage(key) if node.objective]
    both = any(cell.config(method) is not None for method in ("lightweight", "nas", "quantization"))
    assert len(taught) == 1 + both, "the recovery, and the training of an architecture or with rounding"
    for node in taught:
        done, views = sweep.done(node.key), 1 if VARIANTS[name].cache else RECIPE.epochs
        assert done.teacher_forwards == node.planned.teacher_forwards == views * 24
        assert done.training is not None
        assert done.training.images == node.planned.train_images == 2 * 24
        assert np.isfinite(done.training.loss_per_epoch).all()


def test_each_variant_ends_elsewhere(context: Context) -> None:
    """Alone, no two variants hand on the same weights."""
    digests = {}
    for name, variant in VARIANTS.items():
        (cell,) = (cell for cell in cells(variant) if len(cell.configs) == 1)
        sweep = Sweep(context, graph_of((cell,), context.foundation, (RUNTIME,)))
        for teacher in sweep.graph.named_teachers(sweep.graph.recovered[cell.name]):
            sweep.made(teacher.key)
        digests[name] = sweep.detector(sweep.graph.recovered[cell.name]).digest
    assert len(set(digests.values())) == len(VARIANTS)
