"""Stage `grid`: every cell's nodes made and scored, side by side, and one record per cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from compressors.planning.graph import NODE_KINDS, Cell, Foundation, Graph, Node, Reference
from detection.data.dataset import load_prepared
from flows.grid.audit import audit
from flows.grid.budget import budget_of
from flows.grid.nodes import SECTION as NODES
from flows.grid.nodes import Context, Done, read_done
from flows.grid.progress import counting
from flows.grid.ray_executor import Executor, Outcome, Task, run_tasks
from flows.grid.scoring import SECTION as SCORES
from flows.grid.scoring import read_artifact, score_key
from flows.records.schema import CellRecord, CellsFile, DatasetRecord, Status, in_numbers, write_records
from flows.records.store import Store, StoreError
from flows.sweep.context import chosen_cells, chosen_references, lay_foundation, make_graph
from flows.sweep.design_profile import aims_elsewhere
from flows.sweep.params import Plan
from flows.tracking.mlflow_client import Tracking

Say = Callable[[str], None]
INCOMPLETE = 3
"""Exit code of a sweep with failed cells."""


def grid(
    plan: Plan, prepared: Path, store: Store, output: Path, *, pattern: str | None, executor: Executor, tracking: Tracking, say: Say
) -> int:
    """Make what is missing and write `cells.json`; 0, or 3 where cells failed and the params do not say `continue`."""
    base = lay_foundation(plan, prepared)  # before anything is written: this is where the input is looked at
    cells, references = chosen_cells(plan, pattern), chosen_references(plan, pattern)
    graph = make_graph(plan, base, (*cells, *references))
    run = _Run(plan, prepared, store, cells, references, graph, tracking)
    lock = FileLock(store.lock_path(plan.params.sweep))
    try:
        with lock.acquire(timeout=0):
            store.sweep_partial()
            start_bytes = store.journal_bytes()
            records = _make(run, base, executor, say)
            write_records(output, records)
            say(audit(records, graph, base, store, start_bytes))
            return run.conclude(records, output, say)
    except Timeout as error:
        raise StoreError(
            f"{lock.lock_file}: another grid of sweep {plan.params.sweep!r} is running on this store. Wait for it or end it."
        ) from error


def _make(run: _Run, base: Foundation, executor: Executor, say: Say) -> CellsFile:
    """Do what is left to do; the records of all cells and references."""
    context = Context(
        prepared=run.prepared.resolve(), store=run.store.root, design_profile=run.plan.params.grid.design_profile,
        profiles_folder=run.plan.profiles_folder, foundation=base,
    )  # fmt: skip
    tasks = tasks_of(run.graph, run.prepared, run.store)
    nodes, to_make = len(run.graph.nodes), _nodes_in(tasks)
    there = in_numbers(len(run.cells), len(run.references))
    say(f"{there}, {nodes} nodes: {nodes - to_make} stored, {to_make} to make, {len(tasks) - to_make} to score")
    if warning := aims_elsewhere(run.plan):
        say(warning)
    run.track_finished()
    with counting("grid", len(tasks)) as advance:

        def arrived(outcome: Outcome) -> None:
            advance(f"{outcome.task} {outcome.status}" + (f" in {outcome.took_s:.0f} s" if outcome.took_s else ""))
            run.arrived(outcome)

        run_tasks(tasks, context, executor, arrived)
    return run.records()


def tasks_of(graph: Graph, prepared: Path, store: Store, *, repair: bool = True) -> tuple[Task, ...]:
    """What is not in the store yet, each task after what it needs; searches first, since most waits for them.

    With repair, broken entries are moved aside on the way; without, they only count as missing.
    """
    missing = {key for key in graph.nodes if not _usable(store, NODES, key, repair)}
    tasks: list[Task] = []
    for node in sorted(graph.nodes.values(), key=lambda node: _rank(node, graph)):
        if node.key in missing:
            needed = [key for key in dict.fromkeys((node.parent, node.taught_by)) if key is not None and key in missing]
            after = tuple(task_name(graph.nodes[key]) for key in needed)
            tasks.append(Task(name=task_name(node), node=node, after=after))
    scored = {(key, runtime) for row in graph.artifacts.values() for runtime, key in row.items()}
    for key, runtime in sorted(scored, key=lambda pair: (_rank(graph.nodes[pair[0]], graph), pair[1])):
        if key in missing or not _usable(store, SCORES, score_key(key, runtime, prepared), repair):
            node = graph.nodes[key]
            after = (task_name(node),) if key in missing else ()
            tasks.append(Task(name=score_name(node, runtime), node=node, runtime=runtime, after=after))
    return tuple(tasks)


def task_name(node: Node) -> str:
    """The name of the task that makes a node."""
    return f"{node.name} {node.key[:8]}"


def score_name(node: Node, runtime: str) -> str:
    """The name of the task that scores a node's artifact."""
    return f"score {runtime} {task_name(node)}"


def _usable(store: Store, section: str, key: str, repair: bool) -> bool:
    """Whole and as its manifest says."""
    if not store.has(section, key):
        return False
    try:
        store.open(section, key)
    except StoreError:
        if repair:
            store.quarantine(section, key)
        return False
    return True


def _rank(node: Node, graph: Graph) -> tuple[int, int, str]:
    """In which order nodes are made. A reference that waits for a cell trains an architecture after that cell's recovery."""
    return graph.generation(node.key), NODE_KINDS.index(node.kind), node.name


def _nodes_in(tasks: tuple[Task, ...]) -> int:
    return sum(task.runtime is None for task in tasks)


class _Run:
    """What is known of a sweep while it runs."""

    def __init__(
        self, plan: Plan, prepared: Path, store: Store, cells: tuple[Cell, ...], references: tuple[Reference, ...], graph: Graph,
        tracking: Tracking,
    ) -> None:  # fmt: skip
        self.plan, self.prepared, self.store = plan, prepared, store
        self.cells, self.references, self.graph, self.tracking = cells, references, graph, tracking
        self.failures: dict[str, Outcome] = {}
        self.tracked: set[str] = set()

    def arrived(self, outcome: Outcome) -> None:
        if outcome.status != "ok":
            self.failures[outcome.task] = outcome
        self.track_finished()

    def track_finished(self) -> None:
        """Show every cell and reference that has become whole since the last look."""
        for cell in (*self.cells, *self.references):
            if cell.name not in self.tracked and self._is_whole(cell):
                self._track(self._record(cell), cell)

    def records(self) -> CellsFile:
        return CellsFile(
            sweep=self.plan.params.sweep,
            dataset=DatasetRecord.of(load_prepared(self.prepared)),
            runtimes=self.plan.params.grid.runtimes,
            cells=tuple(self._record(cell) for cell in self.cells),
            references=tuple(self._record(reference) for reference in self.references),
        )

    def conclude(self, records: CellsFile, output: Path, say: Say) -> int:
        """Say how it ended; the exit code."""
        every = (*records.cells, *records.references)
        for record, cell in zip(every, (*self.cells, *self.references), strict=True):
            if cell.name not in self.tracked:
                self._track(record, cell)
        bad = [record for record in every if record.status != "ok"]
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
        say("Next: `sixfold measure`.")
        return 0

    def _track(self, record: CellRecord, cell: Cell) -> None:
        self.tracked.add(cell.name)
        self.tracking.log_cell(record, {config.method: config.label() for config in cell.configs})

    def _is_whole(self, cell: Cell) -> bool:
        return all(
            all(self.store.has(NODES, node.key) for node in (*self.graph.named_teachers(key), *self.graph.lineage(key)))
            and self.store.has(SCORES, score_key(key, runtime, self.prepared))
            for runtime, key in self.graph.artifacts[cell.name].items()
        )

    def _record(self, cell: Cell) -> CellRecord:
        node = self.graph.recovered[cell.name]
        whole = self._is_whole(cell)
        lineage = self._done(self.graph.own_work(node)) if whole else []
        status, error = ("ok", None) if whole else self._why(cell)
        return CellRecord(
            cell=cell.name,
            methods=tuple(config.method for config in cell.configs),
            variant=_variant(cell),
            seed=self.plan.params.seed,
            status=status,
            error=error,
            node=node,
            params=lineage[-1].params if whole else None,
            macs=lineage[-1].macs if whole else None,
            input_size=lineage[-1].input_size if whole else None,
            no_effect=tuple(change.method for done in lineage for change in done.changes if change.no_effect),
            missed=tuple(
                change.target for done in lineage for change in done.changes if change.target is not None and change.target.missed
            ),
            artifacts={
                runtime: read_artifact(key, runtime, self.prepared, self.store)
                for runtime, key in self.graph.artifacts[cell.name].items()
            }
            if whole
            else {},
            budget=budget_of(lineage, self._done(self._named_teachers(cell)), self._done(self._aware(cell))) if whole else None,
        )

    def _done(self, nodes: Iterable[Node]) -> list[Done]:
        return [read_done(self.store, node.key) for node in nodes]

    def _named_teachers(self, cell: Cell) -> tuple[Node, ...]:
        """Teachers that the cell learns from; a reference learns from labels, whoever taught the cell that it waits for."""
        return () if isinstance(cell, Reference) else self.graph.named_teachers(self.graph.recovered[cell.name])

    def _aware(self, cell: Cell) -> list[Node]:
        """The training with rounding that the cell's files come from, where there is one."""
        lineages = [self.graph.lineage(key) for key in self.graph.artifacts[cell.name].values()]
        return list({node.key: node for lineage in lineages for node in lineage if node.kind == "quantization_aware"}.values())

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
        lineage = {
            node.key: node
            for artifact in artifacts.values()
            for node in (*self.graph.named_teachers(artifact), *self.graph.lineage(artifact))
        }
        scores = [score_name(self.graph.nodes[key], runtime) for runtime, key in artifacts.items()]
        return [task_name(node) for node in sorted(lineage.values(), key=lambda node: _rank(node, self.graph))] + scores


def _variant(cell: Cell) -> dict[str, dict[str, Any]]:
    """Method -> its configuration; of a reference also its kind -> its setting, but for what `quantization` tells already."""
    methods = {str(config.method): config.model_dump(mode="json") for config in cell.configs}
    if not isinstance(cell, Reference):
        return methods
    return {cell.setting.kind: cell.setting.model_dump(mode="json", exclude={"quantization"})} | methods
