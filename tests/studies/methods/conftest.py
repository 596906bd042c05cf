"""A small sweep in which every variant stands alone, made once, with hand-made latencies."""

from __future__ import annotations

import pytest

from flows.grid.stage import grid
from flows.prepare.stage import prepare
from flows.records.schema import CellsFile, read_records, write_records
from flows.records.store import Store
from flows.sweep.plan_checks import load_plan
from flows.sweep.workspace import CELLS, LATENCY, PREPARED
from studies.finished_run import FinishedRun, open_run
from tests.flows.records_factory import latency_file
from tests.flows.sweep_factory import write_params
from tests.studies.methods.methods_factory import row

SEARCH = {"supernet_epochs": 1, "evaluations": 4, "population": 4, "recalibration_pictures": 8, "val_pictures": 8}
METHODS = {
    "lightweight": [],
    "nas": [SEARCH],
    "pruning": [{"gradient_pictures": 8, "round_to": 4}, {"importance": "l2", "round_to": 4}],
    "low_rank": [],
    "distillation": [{"features_by": "none"}, {"scores": 0, "boxes": 0, "features_by": "none"}],
    "quantization": [{"calibrator": "minmax"}, {"calibrator": "mse"}, {"calibrator": "minmax", "qat_epochs": 2}],
}


@pytest.fixture(scope="session")
def methods_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Nine cells and two references, made by the inline executor; every file takes 5 ms, the control 10. Read it only."""
    folder = tmp_path_factory.mktemp("methods") / "runs/methods"
    references = [{"kind": "narrow", "width_share": 0.5}, {"kind": "random_pruning"}]
    path = write_params(folder, grid__methods=METHODS, grid__combinations="alone", grid__references=references)
    plan, store = load_plan(path), Store(folder / ".sixfold/store")
    prepare(plan.params.data, plan.base, folder / PREPARED, plan.params.seed, lambda _: None)
    code = grid(
        plan, folder / PREPARED, store, folder / CELLS, pattern=None, executor="inline", say=lambda _: None
    )  # fmt: skip
    assert code == 0
    cells = read_records(folder / CELLS, CellsFile)
    records = (*cells.cells, *cells.references)
    write_records(folder / LATENCY, latency_file([row(record, 0.010 if record.cell == "none" else 0.005) for record in records]))
    return open_run(folder)
