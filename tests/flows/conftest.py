"""What the tests of the flows share: one small sweep, its data prepared and its grid run once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.params import load_plan
from flows.plan import forecast
from flows.prepare import prepare
from flows.store import Store
from tests.flows.sweep_factory import Sweep, run_grid, write_params


@pytest.fixture(scope="session")
def sweep_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder that the tiny params ask for: 24 + 8 + 8 pictures of 64 x 96 pixels. Read it only."""
    folder = tmp_path_factory.mktemp("sweep-data")
    plan = load_plan(write_params(folder))
    prepare(plan.params.data, plan.base, folder / "prepared", plan.params.seed, lambda _: None)
    return folder / "prepared"


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, sweep_prepared: Path) -> Sweep:
    """The tiny sweep, made once by the inline executor. Read it only; `swept_copy` is there to be spoiled."""
    folder = tmp_path_factory.mktemp("swept")
    plan = load_plan(write_params(folder))
    prepared, store = folder / "data/prepared", Store(folder / ".sixfold/store")
    shutil.copytree(sweep_prepared, prepared)
    before = Sweep(folder, plan, prepared, store, forecast(plan, prepared, store, None), -1, ())
    code, said = run_grid(before)
    return Sweep(folder, plan, prepared, store, before.forecast, code, tuple(said))


@pytest.fixture
def swept_copy(swept: Sweep, tmp_path: Path) -> Sweep:
    """A copy of the tiny sweep."""
    return swept.copied_to(tmp_path / "copy")
