"""The finished sweep that a study reads: its folder, its records, its store and its params."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detection.frozen import Digest, InputError
from flows.records.schema import CellsFile, read_records
from flows.records.store import Store, open_store
from flows.sweep import workspace
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan


@dataclass(frozen=True)
class Model:
    """One exported file of a cell."""

    cell: str
    runtime: str
    path: Path
    digest: Digest


@dataclass(frozen=True)
class FinishedRun:
    """Where everything lies."""

    folder: Path
    plan: Plan
    cells: CellsFile
    store: Store

    @property
    def prepared(self) -> Path:
        """The pictures that it was made on."""
        return self.folder / workspace.PREPARED

    def model(self, cell: str, runtime: str) -> Model:
        """The cell's file for a runtime; InputError where the run has none."""
        record = self.cells.cell(cell)
        if record is None:
            raise InputError(f"{self.folder}: no cell {cell!r}; have {', '.join(own.cell for own in self.cells.cells)}")
        if runtime not in record.artifacts:
            raise InputError(
                f"{self.folder}: cell {cell!r} has no file for {runtime!r}; have {', '.join(record.artifacts) or 'none'}"
            )
        artifact = record.artifacts[runtime]
        return Model(cell, runtime, self.store.file(artifact.url), artifact.digest)


def open_run(folder: Path, maker: str = "make repro PLAN=plans/bccd.yaml") -> FinishedRun:
    """The sweep whose stages ran in a folder."""
    if not (folder / workspace.CELLS).is_file():
        raise InputError(f"{folder}: no {workspace.CELLS} there. Run `{maker}`, or name a finished run with --run.")
    plan = load_plan(folder / "params.yaml")
    store = open_store(plan.params.store.url, plan.base)
    return FinishedRun(folder, plan, read_records(folder / workspace.CELLS, CellsFile), store)
