"""Work that depends on work, run one after another here or side by side on Ray."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compressors.contract import Each, Item, Result, in_turn
from flows.grid.nodes import Context, make_node
from flows.grid.ray_cluster import ClusterError, ray_cluster
from flows.grid.scoring import score
from flows.grid.tasks import Outcome, Task
from flows.records.formatting import describe_failure
from flows.records.store import Store, StoreError
from hardware_profiles.timing.environment import cores_here

Executor = Literal["ray", "inline"]
RUNNING = "running"
"""Folder of the store with a file per task that runs now."""
LOOK_EVERY_S = 1.0


Arrived = Callable[[Outcome], None]
Started = Callable[[str], None]


def run_tasks(tasks: tuple[Task, ...], context: Context, executor: Executor, arrived: Arrived, started: Started) -> None:
    """Run tasks, given in an order that respects `after`; the last two hear of each start, by name, and of each outcome."""
    if not tasks:
        return
    if executor == "inline":
        outcomes: dict[str, Outcome] = {}
        for task in tasks:
            started(task.name)
            outcomes[task.name] = perform(task, context, [outcomes[name] for name in task.after if name in outcomes])
            arrived(outcomes[task.name])
    else:
        _run_on_ray(tasks, context, arrived, started)


def perform(task: Task, context: Context, before: list[Outcome], each: Each = in_turn) -> Outcome:
    """Do one task, its output in its own log; skipped where something it needs is not there."""
    bad = [outcome for outcome in before if outcome.status != "ok"]
    if bad:
        broken = any(outcome.broken_store for outcome in bad)
        return Outcome(task=task.name, status="skipped", error=f"needs {bad[0].task}, which {bad[0].status}", broken_store=broken)
    started_s = time.perf_counter()
    store = Store(context.store)
    try:
        with _logged(store.log(task.node.key), append=task.runtime is not None):
            if task.runtime is None:
                make_node(task.node, task.context_of(context), each)
            else:
                result = score(task.node.key, task.runtime, context.prepared, store)
                shown = ", ".join(f"{split} mAP {accuracy.map_50_95:.4f}" for split, accuracy in result.accuracy.items())
                print(f"scored in {task.runtime}: {shown}", flush=True)
    except Exception as error:  # the one place where a task's failure becomes a record
        return Outcome(
            task=task.name,
            status="failed",
            error=f"{describe_failure(error)} (log: {store.root / 'logs' / (task.node.key + '.log')})",
            broken_store=isinstance(error, StoreError),
            took_s=time.perf_counter() - started_s,
        )
    return Outcome(task=task.name, status="ok", took_s=time.perf_counter() - started_s)


@contextlib.contextmanager
def _logged(path: Path, append: bool) -> Iterator[None]:
    """Python's stdout and stderr go to the file while the block runs, and its traceback where it fails."""
    with path.open("a" if append else "w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            yield
        except Exception:
            traceback.print_exc()
            raise


def _run_on_ray(tasks: tuple[Task, ...], context: Context, arrived: Arrived, started: Started) -> None:
    cores, wants_gpu = cores_here(), context.foundation.device == "cuda"
    running = RunningTasks(context.store, tasks)
    with ray_cluster(cores) as ray:
        is_shared = bool(os.environ.get("RAY_ADDRESS"))
        if is_shared:
            check_room(ray.nodes(), tasks, wants_gpu)
        worker = ray.remote(max_retries=3)(_remote_perform)
        shared = ray.put(context.model_dump_json(by_alias=True))
        references: dict[str, Any] = {}
        for task in tasks:
            before = [references[name] for name in task.after if name in references]
            gpus = 1 if wants_gpu and task.runtime is None else 0
            # On this machine alone more threads than cores take turns; in a cluster every task has the room it asks for.
            cpus = task.node.threads if is_shared else min(task.node.threads, cores)
            call = worker.options(name=task.name, num_cpus=cpus, num_gpus=gpus)
            references[task.name] = call.remote(task.model_dump_json(by_alias=True), shared, *before)
        waiting = list(references.values())
        names = {reference: name for name, reference in references.items()}
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=LOOK_EVERY_S)
            for name in running.new():
                started(name)
            for reference in done:
                arrived(_outcome(ray, reference, names[reference]))


class RunningTasks:
    """Which tasks run now, by a file that each keeps in the store meanwhile: Ray tells this only with its dashboard on."""

    def __init__(self, store: Path, tasks: tuple[Task, ...]) -> None:
        self._folder = store / RUNNING
        self._waiting = {_mark(store, task).name: task.name for task in tasks}
        for name in self._waiting:  # left by workers that were killed
            (self._folder / name).unlink(missing_ok=True)

    def new(self) -> list[str]:
        """Names of the tasks that were seen to run for the first time."""
        there = {path.name for path in self._folder.glob("*")} & self._waiting.keys()
        return [self._waiting.pop(name) for name in sorted(there)]


@contextlib.contextmanager
def marked(store: Path, task: Task) -> Iterator[None]:
    """The file of a task is there while the block runs; a store that cannot be written is told by the task itself."""
    mark = _mark(store, task)
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


def _mark(store: Path, task: Task) -> Path:
    return store / RUNNING / f"{task.node.key}.{task.runtime or 'node'}"


def check_room(nodes: list[dict[str, Any]], tasks: tuple[Task, ...], wants_gpu: bool) -> None:
    """ClusterError where a task asks for more than any node of the cluster has: Ray would let it wait for ever without a word."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    for task in tasks:
        wanted = {"CPU": task.node.threads, "GPU": int(wants_gpu and task.runtime is None)}
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in alive):
            sizes = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in alive) or "none is alive"
            threads = "teacher.threads" if task.node.kind == "teacher" else "threads"
            raise ClusterError(
                f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}: no node of the cluster can hold {task.name!r}, which asks for "
                f"{wanted['CPU']} CPUs and {wanted['GPU']} GPUs (nodes: {sizes}). Lower `{threads}` in the params, "
                f"{'set `device: cpu`, ' if wanted['GPU'] else ''}or add a node that is large enough."
            )


def _outcome(ray: Any, reference: Any, name: str) -> Outcome:
    try:
        return Outcome.model_validate_json(ray.get(reference))
    except ray.exceptions.RayError as error:  # the worker or its machine died, more often than Ray retries
        return Outcome(task=name, status="failed", error=f"lost by Ray: {describe_failure(error)}")


def _remote_perform(task: str, context: str, *before: str) -> str:
    """`perform` with JSON in and out, so that workers need no shared class definitions."""
    outcomes = [Outcome.model_validate_json(outcome) for outcome in before]
    own, where = Task.model_validate_json(task), Context.model_validate_json(context)
    import ray

    # An accelerator is held by the task that asked for it; what it does many times it does there, in turn.
    each = in_turn if where.foundation.device == "cuda" else Spread(ray, own.node.threads)
    with marked(where.store, own):
        return perform(own, where, outcomes, each).model_dump_json()


@dataclass(frozen=True)
class Spread:
    """`Each` inside a Ray task: the task does its share itself, and as many more tasks as there are idle CPUs do theirs.

    It keeps its CPUs while it works, and Ray takes them back while it waits for the others: tasks that wait for tasks do not hold
    each other up. Where no CPU is idle it does everything itself, instead of waiting behind trainings.
    """

    ray: Any
    """The module, connected."""
    threads: int
    """Of the task, and of each that helps: with another number the same sums would end in other bits."""

    def __call__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """work(item) of each, in the order of the items; what the work raises is raised here."""
        idle = int(self.ray.available_resources().get("CPU", 0) // self.threads)
        workers = 1 + max(0, min(idle, len(items) - 1))
        if workers == 1:
            return in_turn(work, items)
        call = self.ray.remote(_share).options(num_cpus=self.threads, max_retries=3)
        sent = self.ray.put(work)  # once, however many help
        shares = [call.remote(sent, list(items[worker::workers]), self.threads) for worker in range(1, workers)]
        done: list[Sequence[Result]] = [in_turn(work, items[::workers])]
        for share in shares:
            try:
                done.append(self.ray.get(share))
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from error
        return [done[position % workers][position // workers] for position in range(len(items))]


def _share(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """One helper's part."""
    import torch

    torch.set_num_threads(threads)
    return in_turn(work, items)
