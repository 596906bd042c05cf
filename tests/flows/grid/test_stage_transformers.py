"""Detectors of the transformers library through the grid: the methods that they take, one upon another, into files that detect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.grid.forecast import forecast
from flows.records.store import Store
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_factory import Sweep, expect_effects, menu_of, run_grid, tiny_tree, write_params
from tests.transformers_factory import NEEDS_TRANSFORMERS, SMALL, copied

pytestmark = NEEDS_TRANSFORMERS

MENU = menu_of("pruning", "low_rank", "distillation", "quantization") | {
    "low_rank": [{"energy": 0.4, "only_if_faster": False}],
    "quantization": [{"pictures": 8, "calibrator": "minmax"}],
}


@pytest.fixture(scope="module", params=SMALL)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path) -> Sweep:
    """The 16 cells of four methods for each of the small ones, trained here."""
    folder = tmp_path_factory.mktemp(request.param)
    copied(request.param, folder)
    detector, training = {"transformers": request.param, "train": True}, tiny_tree()["teacher"]["training"]
    params = write_params(
        folder, detector=detector, teacher={"training": training}, grid__methods=MENU, grid__runtimes=["onnxruntime"]
    )
    plan = load_plan(params)
    store = Store(folder / "store")
    before = Sweep(folder, plan, sweep_prepared, store, forecast(plan, sweep_prepared, store, None), -1, ())
    code, said = run_grid(before)
    return replace(before, code=code, said=tuple(said))


def test_every_cell_is_made_and_every_method_changes_something(made: Sweep) -> None:
    """All 16 cells; pruned and factored ones have fewer multiply-adds, int8 files fewer bytes."""
    expect_effects(made, 16, ("pruning", "low_rank"))
