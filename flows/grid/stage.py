"""Stage `grid`: every cell's nodes made and scored, side by side, and one record per cell."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from compressors.planning.graph import Cell, Foundation, Graph, Node, Reference
from detection.data.dataset import load_prepared
from detection.frozen import Digest
from flows.grid.audit import audit, budget_of
from flows.grid.forecast import TimeLeft
from flows.grid.nodes import NODES, Context, Done, read_done
from flows.grid.ray_executor import Executor, run_tasks
from flows.grid.scoring import SCORES, read_artifact, score_key
from flows.grid.tasks import Outcome, Task, rank, score_name, task_name, tasks_of
from flows.progress import Say, progress
from flows.records.schema import CellRecord, CellsFile, DatasetRecord, Status, in_numbers, write_records
from flows.records.store import Store, StoreError
from flows.sweep.context import chosen_cells, chosen_references, lay_foundation, make_graph, store_brought
from flows.sweep.given_teachers import what_labels_alone_teach
from flows.sweep.machine_warnings import machine_warnings
from flows.sweep.params import Plan
from flows.tracking.mlflow_client import Tracker

INCOMPLETE = 3
"""Exit code of a sweep with failed cells."""


def grid(
    plan: Plan,
    prepared: Path,
    store: Store,
    output: Path,
    *,
    pattern: str | None,
    executor: Executor,
    open_tracking: Callable[[], Tracker] = Tracker,
    say: Say,
) -> int:
    """Make what is missing and write `cells.json`; 0, or 3 where cells failed and the params do not say `continue`.

    `open_tracking` is called once the input was looked at: nothing is written before.
    """
    base = lay_foundation(plan, prepared)
    cells, references = chosen_cells(plan, pattern), chosen_references(plan, pattern)
    graph = make_graph(plan, base, (*cells, *references))
    store = Store(store.root, run=uuid.uuid4().hex)
    with store.one_driver(plan.params.sweep, "another grid"):
        run = _Run(plan, prepared, store, cells, references, graph)
        store_brought(plan, run.data, store)
        records = _make(run, base, executor, open_tracking, say)
        write_records(output, records)
        say(audit(records, graph, base, store))
        return run.conclude(records, output, say)


def _make(run: _Run, base: Foundation, executor: Executor, open_tracking: Callable[[], Tracker], say: Say) -> CellsFile:
    """Do what is left to do; the records of all cells and references."""
    tasks = tasks_of(run.graph, run.data, run.store)
    nodes, to_make = len(run.graph.nodes), sum(task.runtime is None for task in tasks)
    there = in_numbers(len(run.cells), len(run.references))
    say(f"{there}, {nodes} nodes: {nodes - to_make} stored, {to_make} to make, {len(tasks) - to_make} to score")
    for warning in (*machine_warnings(run.plan), *what_labels_alone_teach(run.plan, run.data.classes)):
        say(warning)
    run.tracking = open_tracking()
    run.tracking.log_not_applicable({str(method): why for method, why in run.plan.not_applicable.items()})
    try:
        run.track((*run.cells, *run.references))
        if tasks:
            _perform(run, base, tasks, executor)
        records = run.records()
        run.track_all(records)
    finally:
        run.tracking.close()
    return records


def _perform(run: _Run, base: Foundation, tasks: tuple[Task, ...], executor: Executor) -> None:
    context = Context(
        prepared=run.prepared.resolve(),
        store=run.store.root,
        run=run.store.run,
        design_profile=run.plan.design_profile,
        foundation=base,
    )
    left = TimeLeft(tasks, run.graph, run.store, base)
    with progress("grid", len(tasks), left_s=left) as work:

        def arrived(outcome: Outcome) -> None:
            left.finished(outcome.task, outcome.took_s)
            work.finish(outcome.task, outcome.in_words(), failed=outcome.status != "ok")
            run.arrived(outcome)

        run_tasks(tasks, context, executor, arrived, work.start)


class _Run:
    """What is known of a sweep while it runs."""

    def __init__(
        self, plan: Plan, prepared: Path, store: Store, cells: tuple[Cell, ...], references: tuple[Reference, ...], graph: Graph
    ) -> None:
        self.plan, self.prepared, self.store, self.data = plan, prepared, store, load_prepared(prepared)
        self.cells, self.references, self.graph = cells, references, graph
        self.tracking = Tracker()
        self.failures: dict[str, Outcome] = {}
        self.tracked: set[str] = set()
        self._missing = {cell.name: self._entries(cell) for cell in (*cells, *references)}
        self._waiting: dict[str, list[Cell]] = {}
        for cell in (*cells, *references):
            for name in self._tasks_on_the_way(cell):
                self._waiting.setdefault(name, []).append(cell)

    def arrived(self, outcome: Outcome) -> None:
        if outcome.status != "ok":
            self.failures[outcome.task] = outcome
        self.track(self._waiting.get(outcome.task, ()))

    def track(self, cells: Iterable[Cell]) -> None:
        """Show those of the cells and references that have become whole since the last look."""
        for cell in cells:
            if cell.name not in self.tracked and self._is_whole(cell):
                self._track(self._record(cell))

    def track_all(self, records: CellsFile) -> None:
        """Show the rest, which failed."""
        for record in (*records.cells, *records.references):
            if record.cell not in self.tracked:
                self._track(record)

    def records(self) -> CellsFile:
        return CellsFile(
            sweep=self.plan.params.sweep,
            dataset=DatasetRecord.of(self.data),
            runtimes=self.plan.params.grid.runtimes,
            cells=tuple(self._record(cell) for cell in self.cells),
            references=tuple(self._record(reference) for reference in self.references),
            not_applicable=dict(self.plan.not_applicable),
        )

    def conclude(self, records: CellsFile, output: Path, say: Say) -> int:
        """Say how it ended; the exit code."""
        bad = [record for record in (*records.cells, *records.references) if record.status != "ok"]
        failed = [record for record in bad if record.status == "failed"]
        ended = f" ({len(failed)} failed, {len(bad) - len(failed)} skipped: they share work with a failed one)" if bad else ""
        say(f"{records.in_numbers()} ok{ended}: {output}")
        for record in failed[:5]:
            say(f"  {record.cell}: {record.error}")
        if any(outcome.broken_store for outcome in self.failures.values()):
            raise StoreError(next(o.error or "" for o in self.failures.values() if o.broken_store))
        if bad:
            say("Run the same command again: what is done is kept, only the rest is tried.")
            return 0 if self.plan.params.grid.on_failure == "continue" else INCOMPLETE
        say(f"Next: {self.plan.command('measure')}.")
        return 0

    def _track(self, record: CellRecord) -> None:
        self.tracked.add(record.cell)
        self.tracking.log_cell(record)

    def _entries(self, cell: Cell) -> set[tuple[str, str]]:
        """(section, key) of all that the store must have for a cell."""
        return {
            entry
            for runtime, key in self.graph.artifacts[cell.name].items()
            for entry in (*((NODES, node.key) for node in self._way(key)), (SCORES, score_key(key, runtime, self.data)))
        }

    def _is_whole(self, cell: Cell) -> bool:
        missing = {entry for entry in self._missing[cell.name] if not self.store.has(*entry)}
        self._missing[cell.name] = missing
        return not missing

    def _way(self, key: Digest) -> tuple[Node, ...]:
        """The nodes that an artifact's own is made from, with itself and with the teachers that its lineage names."""
        return (*self.graph.named_teachers(key), *self.graph.lineage(key))

    def _record(self, cell: Cell) -> CellRecord:
        node = self.graph.recovered[cell.name]
        whole = self._is_whole(cell)
        lineage = self._done(self.graph.own_work(node)) if whole else []
        # A reference learns from labels, whoever taught the cell that it waits for.
        teachers = () if isinstance(cell, Reference) else self.graph.named_teachers(node)
        behind = (own for key in self.graph.artifacts[cell.name].values() for own in self.graph.lineage(key))
        aware = {own.key: own for own in behind if own.kind == "quantization_aware"}
        status, error = ("ok", None) if whole else self._why(cell)
        return CellRecord(
            cell=cell.name,
            methods=tuple(config.method for config in cell.configs),
            variant=_variant(cell),
            labels={config.method: config.label() for config in cell.configs},
            seed=self.plan.params.seed,
            status=status,
            error=error,
            node=node,
            params=lineage[-1].params if whole else None,
            macs=lineage[-1].macs if whole else None,
            input_size=lineage[-1].input_size if whole else None,
            from_scratch=self.plan.given is not None and self.graph.is_from_scratch(node),
            no_effect=tuple(change.method for done in lineage for change in done.changes if change.no_effect),
            missed=tuple(
                change.target for done in lineage for change in done.changes if change.target is not None and change.target.missed
            ),
            ranking=next((change.ranking for done in lineage for change in done.changes if change.ranking is not None), None),
            artifacts={
                runtime: read_artifact(key, runtime, self.data, self.store)
                for runtime, key in self.graph.artifacts[cell.name].items()
            }
            if whole
            else {},
            budget=budget_of(lineage, self._done(teachers), self._done(aware.values())) if whole else None,
        )

    def _done(self, nodes: Iterable[Node]) -> list[Done]:
        return [read_done(self.store, node.key) for node in nodes]

    def _why(self, cell: Cell) -> tuple[Status, str]:
        """The first failure on the way to a cell. It is the failure of the first cell that needs the work, the one with the fewest
        methods; the others were never tried and are skipped."""
        for name in self._tasks_on_the_way(cell):
            failure = self.failures.get(name)
            if failure is None or failure.status != "failed":
                continue
            error = failure.error or "no reason recorded"
            first = next(own for own in (*self.cells, *self.references) if name in self._tasks_on_the_way(own))
            return ("failed", error) if first is cell else ("skipped", f"needs {name}, which failed: {error}")
        return "failed", "not made: the run ended before"

    def _tasks_on_the_way(self, cell: Cell) -> list[str]:
        """Names of all that has to be made and scored for a cell, the teacher first."""
        artifacts = self.graph.artifacts[cell.name]
        lineage = {node.key: node for artifact in artifacts.values() for node in self._way(artifact)}
        scores = [score_name(self.graph.nodes[key], runtime) for runtime, key in artifacts.items()]
        return [task_name(node) for node in sorted(lineage.values(), key=lambda node: rank(node, self.graph))] + scores


def _variant(cell: Cell) -> dict[str, dict[str, Any]]:
    """Method -> its configuration; of a reference also its kind -> its setting, but for what `quantization` tells already."""
    methods = {str(config.method): config.model_dump(mode="json") for config in cell.configs}
    if not isinstance(cell, Reference):
        return methods
    return {cell.setting.kind: cell.setting.model_dump(mode="json", exclude={"quantization"})} | methods
