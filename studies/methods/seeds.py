"""Three seeds of one variant of each method: `sixfold retrain` for every method in turn, a file each."""

from __future__ import annotations

from pathlib import Path

from detection.frozen import InputError
from flows.compare.retrain import retrain
from flows.compare.retrain_text import read_seeds
from flows.grid.ray_executor import Executor
from flows.sweep import workspace
from studies.finished_run import FinishedRun
from studies.methods.subjects import SUBJECTS, cell_of

SEEDS = Path("results/seeds")
"""In the folder of the run: a file per method."""


def seeds_file(run: FinishedRun, method: str) -> Path:
    """Where the three seeds of a method's variant lie, or will."""
    return run.folder / SEEDS / f"{method}.json"


def retrain_variants(run: FinishedRun, seeds: int, executor: Executor) -> int:
    """0 once every file is there and of this sweep's networks, 3 where a node failed; what is there is reused."""
    worst = 0
    for subject in SUBJECTS:
        name, output = cell_of(subject.method, subject.three_seeds), seeds_file(run, subject.method)
        if run.cells.cell(name) is None:
            print(f"{subject.method}: `{name}` is not in sweep {run.cells.sweep!r}; no seeds of it")
        elif _is_current(run, subject.method, name, seeds):
            print(f"{subject.method}: {output} is there")
        else:
            code = retrain(
                run.plan, run.prepared, run.store, run.folder / workspace.REPORT / "recommendation.json", output,
                cell=name, seeds=seeds, executor=executor, say=print,
            )  # fmt: skip
            worst = max(worst, code)
    return worst


def _is_current(run: FinishedRun, method: str, name: str, seeds: int) -> bool:
    """Whether the method's file is of this many seeds of this cell of these records."""
    settings = run.plan.params.report
    try:
        found = read_seeds(seeds_file(run, method))
    except InputError:
        return False
    made = (found.cell, len(found.seeds), found.bootstrap_draws, found.bootstrap_seed)
    return made == (name, seeds, settings.bootstrap_draws, settings.seed) and found.is_of(run.cells)
