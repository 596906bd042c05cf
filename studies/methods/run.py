"""The finished sweep that the study reads: its folder, its checked params, its records and its store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detection.frozen import InputError
from flows.records.schema import CellsFile, read_records
from flows.records.store import Store, open_store
from flows.sweep import workspace
from flows.sweep.params import Plan, load_plan

SEEDS, SIBLINGS = Path("results/seeds"), Path("results/siblings.json")
"""In the folder of the run: a file per method, and the float siblings."""


@dataclass(frozen=True)
class MethodsRun:
    """Where everything lies."""

    folder: Path
    plan: Plan
    cells: CellsFile
    store: Store

    @property
    def prepared(self) -> Path:
        """The pictures that it was made on."""
        return self.folder / workspace.PREPARED

    def seeds(self, method: str) -> Path:
        """Where the three seeds of a method's variant lie, or will."""
        return self.folder / SEEDS / f"{method}.json"


def open_methods_run(folder: Path, store: Path | None = None) -> MethodsRun:
    """The sweep whose stages ran in a folder; its store is the one its params name, unless given."""
    if not (folder / workspace.CELLS).is_file():
        raise InputError(
            f"{folder}: no {workspace.CELLS} there. Run `make methods`, which makes the sweep first, or name a finished sweep with "
            "--run."
        )
    plan = load_plan(folder / "params.yaml")
    found = open_store(plan.params.store.url, plan.base) if store is None else Store(store.resolve())
    return MethodsRun(folder, plan, read_records(folder / workspace.CELLS, CellsFile), found)
