"""`sixfold retrain`: one cell and the control made from the root with several seeds, and what the cell loses on average."""

from __future__ import annotations

import difflib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from compressors.planning.graph import Cell, Graph
from detection.data.dataset import Prepared, load_prepared, load_split
from detection.frozen import InputError, read_json
from flows.compare.retrain_text import RuntimeSeeds, SeedRun, SeedsFile, Trained
from flows.grid.nodes import Context, read_done
from flows.grid.ray_executor import Executor, run_tasks
from flows.grid.scoring import read_artifact
from flows.grid.tasks import Outcome, Task, tasks_of
from flows.progress import Say, progress
from flows.records.schema import CONTROL, DatasetRecord, in_numbers, write_records
from flows.records.store import Store, StoreError, read_detections
from flows.report.recommendation import RecommendationFile
from flows.stats.map_bootstrap import map_difference
from flows.sweep.context import chosen_cells, chosen_references, lay_foundation, make_graph, store_brought
from flows.sweep.params import Plan

INCOMPLETE = 3
"""Exit code where a node could not be made."""
NAMED = 4
"""Cells, or failures, that a message names."""


def retrain(
    plan: Plan,
    prepared: Path,
    store: Store,
    recommendation: Path,
    output: Path,
    *,
    cell: str | None,
    seeds: int,
    executor: Executor,
    say: Say,
) -> int:
    """0 once `seeds.json` is written, 3 where a node failed; what is stored is not re-run.

    Without a cell the recommended one is taken. Seeds count up from the sweep's own, whose nodes a finished grid has made.
    """
    base, data = lay_foundation(plan, prepared), load_prepared(prepared)
    name, recommended_on = (cell, None) if cell is not None else recommended(recommendation, data, say)
    pair = _pair(plan, name, recommended_on)
    graphs = {seed: make_graph(plan, base.model_copy(update={"seed": seed}), pair) for seed in range(base.seed, base.seed + seeds)}
    context = Context(
        prepared=prepared.resolve(), store=store.root, design_profile=plan.design_profile, foundation=base,
    )  # fmt: skip
    work = _Work(plan, prepared, data, store, recommended_on, pair[1], graphs)
    with store.one_driver(plan.params.sweep, "a grid or a retrain"):
        store_brought(plan, data, store)
        failures = work.run(context, executor, say)
        if failures:
            return _conclude_failed(failures, output, say)
        write_records(output, work.summary())
    return 0


def recommended(path: Path, data: Prepared, say: Say) -> tuple[str, str]:
    """The cell that the report recommends and its profile: the first measured one that has one, else the first estimated one."""
    if not path.is_file():
        raise InputError(f"{path}: no recommendation yet. Run `sixfold report` first, or name a cell with --cell.")
    found = read_json(path, RecommendationFile, "Run `sixfold report` again.")
    if found.dataset_digest != data.digest:
        raise InputError(
            f"{path}: made on data {found.dataset!r} ({found.dataset_digest[:12]}...), but prepared is {data.name!r} "
            f"({data.digest[:12]}...). Run `sixfold grid`, `measure` and `report` again, or name a cell with --cell."
        )
    usable = [own for own in found.profiles if own.verdict == "recommended" and not own.control_below_threshold]
    usable.sort(key=lambda own: own.source != "measured")
    chosen = [(own.chosen.cell, own.profile, own.source) for own in usable if own.chosen is not None]
    if not chosen:
        raise InputError(f"{path}: recommends no cell but the control, or by speed alone. Name one with --cell.")
    name, profile, source = chosen[0]
    for other in dict.fromkeys(cell for cell, _, its_source in chosen if its_source == source and cell != name):
        say(f"`{name}` is recommended on {profile}; `{other}` is on another profile: `--cell {other}` makes that one again.")
    return name, profile


def in_turns(rows: Sequence[Sequence[Task]]) -> Iterator[Task]:
    """The first of each row, then the second of each: every seed's teacher starts before any of its students waits for a core."""
    for column in zip_longest(*rows):
        yield from (task for task in column if task is not None)


def _pair(plan: Plan, name: str, recommended_on: str | None) -> tuple[Cell, Cell]:
    """The control, and the wanted cell or reference."""
    cells, references = chosen_cells(plan, None), chosen_references(plan, None)
    by_name = {cell.name: cell for cell in (*cells, *references)}
    if name == CONTROL:
        raise InputError(f"--cell {CONTROL}: the control is re-run with every cell. Name the cell to compare with it.")
    if name not in by_name:
        origin = f"--cell {name!r}" if recommended_on is None else f"the recommended cell {name!r}"
        some = ", ".join(map(repr, difflib.get_close_matches(name, by_name, n=NAMED) or list(by_name)[1 : NAMED + 1]))
        there = in_numbers(len(cells), len(references))
        raise InputError(f"{origin}: none of the {there} of the params, such as {some}. Name one with --cell.")
    return by_name[CONTROL], by_name[name]


def _conclude_failed(failures: list[Outcome], output: Path, say: Say) -> int:
    """Say what is missing; the exit code."""
    for outcome in failures:
        if outcome.broken_store:
            raise StoreError(outcome.error or "the store cannot be used")
    first = [outcome for outcome in failures if outcome.status == "failed"]
    say(f"{len(first)} failed, {len(failures) - len(first)} skipped that need them: {output} is not written.")
    for outcome in first[:NAMED]:
        say(f"  {outcome.task}: {outcome.error}")
    say("Run the same command again: what is done is kept, only the rest is tried.")
    return INCOMPLETE


@dataclass(frozen=True)
class _Work:
    """One cell, the control, and the graph of both for each seed."""

    plan: Plan
    prepared: Path
    data: Prepared
    store: Store
    recommended_on: str | None
    """The profile whose recommendation the cell is; None where somebody named it."""
    cell: Cell
    graphs: dict[int, Graph]
    """Seed -> nodes."""

    def run(self, context: Context, executor: Executor, say: Say) -> list[Outcome]:
        """Do what is left of all seeds side by side; the outcomes that are not ok."""
        rows = [
            [task.model_copy(update={"seed": seed}) for task in tasks_of(graph, self.data, self.store)]
            for seed, graph in self.graphs.items()
        ]
        tasks = tuple(in_turns(rows))
        nodes, to_make = sum(len(graph.nodes) for graph in self.graphs.values()), sum(task.runtime is None for task in tasks)
        say(
            f"`{self.cell.name}` and the control, seeds {', '.join(map(str, self.graphs))}: {nodes} nodes, "
            f"{nodes - to_make} stored, {to_make} to make, {len(tasks) - to_make} to score"
        )
        bad: list[Outcome] = []
        with progress("retrain", len(tasks)) as work:

            def arrived(outcome: Outcome) -> None:
                work.finish(outcome.task, outcome.in_words(), failed=outcome.status != "ok")
                if outcome.status != "ok":
                    bad.append(outcome)

            run_tasks(tasks, context, executor, arrived, work.start)
        return bad

    def summary(self) -> SeedsFile:
        """What all seeds reached; every node and score is in the store."""
        data, report = self.data, self.plan.params.report
        truth = load_split(self.prepared, "test").ground_truth
        return SeedsFile(
            sweep=self.plan.params.sweep,
            dataset=DatasetRecord.of(data),
            cell=self.cell.name,
            methods=tuple(config.method for config in self.cell.configs),
            recommended_on=self.recommended_on,
            bootstrap_draws=report.bootstrap_draws,
            bootstrap_seed=report.seed,
            runtimes=tuple(self._runtime(runtime, truth) for runtime in self.plan.params.grid.runtimes),
        )

    def _runtime(self, runtime: str, truth: dict[str, Any]) -> RuntimeSeeds:
        report = self.plan.params.report
        runs, pairs = [], []
        for seed, graph in self.graphs.items():
            (control, of_control), (cell, of_cell) = (self._made(graph, name, runtime) for name in (CONTROL, self.cell.name))
            runs.append(SeedRun(seed=seed, control=control, cell=cell))
            pairs.append((of_cell, of_control))  # from the cell's detections to the control's: above 0 is what the cell loses
        return RuntimeSeeds(
            runtime=runtime,
            seeds=tuple(runs),
            val_drop=statistics.fmean(run.val_drop for run in runs),
            val_drop_sd=_spread([run.val_drop for run in runs]),
            test_drop=map_difference(truth, pairs, seed=report.seed, draws=report.bootstrap_draws),
            test_drop_sd=_spread([run.test_drop for run in runs]),
        )

    def _made(self, graph: Graph, name: str, runtime: str) -> tuple[Trained, list[dict[str, Any]]]:
        """A network of one seed, and its detections on test."""
        artifact = read_artifact(graph.artifacts[name][runtime], runtime, self.data, self.store)
        done = read_done(self.store, graph.recovered[name])
        trained = Trained(
            node=graph.recovered[name],
            artifact_digest=artifact.digest,
            params=done.params,
            macs=done.macs,
            size_bytes=artifact.size_bytes,
            val_map_50_95=artifact.val.map_50_95,
            test_map_50_95=artifact.test.map_50_95,
        )
        return trained, read_detections(self.store.file(artifact.test.detections))


def _spread(values: Sequence[float]) -> float | None:
    """The standard deviation with divisor n - 1; None of one value."""
    return statistics.stdev(values) if len(values) > 1 else None
