"""Every variant of the reduction methods keeps the contract as a cell, beside other methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressors.low_rank import LowRank
from compressors.planning.graph import Cell, MethodName, cells_of
from compressors.pruning import Pruning
from detection.checkpoint import Detector
from detection.data.dataset import Images
from flows.grid.nodes import Context
from tests.compressors.contract_factory import assert_composes, context_over
from tests.compressors.test_contract import MENU

VARIANTS: tuple[Pruning | LowRank, ...] = (
    Pruning(importance="random", keep_macs=0.8),
    Pruning(importance="l2", keep_macs=0.8, grouping="isomorphic"),
    Pruning(importance="bn_scale", keep_latency=0.9),
    Pruning(importance="lamp", keep_latency=0.9, grouping="isomorphic"),
    Pruning(importance="fpgm", keep_macs=0.8, round_to=2),
    Pruning(importance="taylor", keep_latency=0.9, grouping="isomorphic", gradient_pictures=8),
    LowRank(form="spatial_svd", energy=0.4, round_to=4, only_if_faster=False),
    LowRank(form="spatial_svd", evbmf=True, round_to=2, least_saving=0.05, only_if_faster=False),
    LowRank(form="spatial_svd", keep_macs=0.8, round_to=4),
    LowRank(evbmf=True, round_to=2, least_saving=0.05, only_if_faster=False),
    LowRank(keep_macs=0.8, round_to=4, only_if_faster=False),
    LowRank(energy=0.4, round_to=4, latency_in="int8"),
)
PARTNERS: tuple[MethodName, ...] = ("lightweight", "nas", "distillation", "quantization")


def beside(variant: Pruning | LowRank, turn: int) -> tuple[Cell, ...]:
    """The variant beside the other reduction, and beside one of the other methods, which take turns."""
    menu = MENU.model_copy(update={variant.method: (variant,)})
    other = "low_rank" if variant.method == "pruning" else "pruning"
    wanted = [{variant.method, other}, {variant.method, PARTNERS[turn % len(PARTNERS)]}]
    return tuple(cell for cell in cells_of(menu) if {config.method for config in cell.configs} in wanted)


CASES = [(variant, cell) for turn, variant in enumerate(VARIANTS) for cell in beside(variant, turn)]


@pytest.fixture(scope="module")
def context(tiny_prepared: Path, tiny_train: Images, tiny_val: Images, tiny_detector: Detector, contract_store: Path) -> Context:
    """A worker's context over the tiny data and the store that all suites share: each makes only what is its own."""
    return context_over(tiny_prepared, tiny_train, tiny_val, tiny_detector, contract_store)


def test_every_variant_has_partners_and_every_method_is_one() -> None:
    """Six variants of either method, each in two pairs; each method meets all five others; no two variants have the same label."""
    assert len(CASES) == 2 * len(VARIANTS) == 2 * (6 + 6)
    for method in ("pruning", "low_rank"):
        own = [(variant, cell) for variant, cell in CASES if variant.method == method]
        assert len({variant.label() for variant, _ in own}) == 6
        assert len({config.method for _, cell in own for config in cell.configs}) == 1 + 5


@pytest.mark.parametrize(
    ("variant", "cell"), CASES, ids=[f"{variant.method} {variant.label()} in {cell.name}" for variant, cell in CASES]
)
def test_a_variant_composes(variant: Pruning | LowRank, cell: Cell, context: Context, tiny_val: Images) -> None:
    """Made as a worker makes it, the file detects, the spec rebuilds, the plan was kept, and what it saved is recorded."""
    sweep = assert_composes(cell, context, tiny_val)
    done = sweep.done(sweep.graph.recovered[cell.name])
    (change,) = [own for own in done.changes if own.method == variant.method]
    assert change.summary.startswith(variant.label())
    edit = {"pruning": "kept_channels", "low_rank": "factored"}[variant.method]
    edits = [own.edit for own in sweep.detector(sweep.graph.recovered[cell.name]).spec.edits]
    assert edit in edits
    assert change.macs_after < change.macs_before
