"""Work that depends on work, run one after another here or side by side on Ray. The only module that imports ray."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from compressors.cells import Node
from detection.frozen import Frozen
from flows.nodes import Context, describe_failure, make_node
from flows.scoring import score
from flows.store import Store, StoreError

Executor = Literal["ray", "inline"]
CONNECT_TIMEOUT_S = 10.0


class Task(Frozen):
    """One thing to do: make a node, or score its artifact in a runtime."""

    name: str
    node: Node
    runtime: str | None = None
    """Set for a scoring."""
    after: tuple[str, ...] = ()
    """Names of the tasks that must be done first."""


class Outcome(Frozen):
    """How a task ended. A failure is told here and in its log, and is never stored as a result."""

    task: str
    status: Literal["ok", "failed", "skipped"]
    error: str | None = None
    broken_store: bool = False
    """The failure was the store's, so nothing else will succeed either."""
    took_s: float = 0.0


Arrived = Callable[[Outcome], None]


def run_tasks(tasks: tuple[Task, ...], context: Context, executor: Executor, arrived: Arrived) -> None:
    """Run tasks, given in an order that respects `after`; `arrived` hears of each outcome as it comes."""
    if not tasks:
        return
    if executor == "inline":
        outcomes: dict[str, Outcome] = {}
        for task in tasks:
            outcomes[task.name] = perform(task, context, [outcomes[name] for name in task.after if name in outcomes])
            arrived(outcomes[task.name])
    else:
        _run_on_ray(tasks, context, arrived)


def perform(task: Task, context: Context, before: list[Outcome]) -> Outcome:
    """Do one task, its output in its own log; skipped where something it needs is not there."""
    bad = [outcome for outcome in before if outcome.status != "ok"]
    if bad:
        broken = any(outcome.broken_store for outcome in bad)
        return Outcome(task=task.name, status="skipped", error=f"needs {bad[0].task}, which {bad[0].status}", broken_store=broken)
    started_s = time.perf_counter()
    store = Store(context.store)
    try:
        with _logged(store.log(task.node.key), append=task.runtime is not None):
            _do(task, context, store)
    except Exception as error:  # the one place where a task's failure becomes a record
        return Outcome(
            task=task.name,
            status="failed",
            error=f"{describe_failure(error)} (log: {store.root / 'logs' / (task.node.key + '.log')})",
            broken_store=isinstance(error, StoreError),
            took_s=time.perf_counter() - started_s,
        )
    return Outcome(task=task.name, status="ok", took_s=time.perf_counter() - started_s)


def _do(task: Task, context: Context, store: Store) -> None:
    try:
        if task.runtime is None:
            make_node(task.node, context)
        else:
            result = score(task.node.key, task.runtime, context.prepared, store)
            shown = ", ".join(f"{split} mAP {accuracy.map_50_95:.4f}" for split, accuracy in result.accuracy.items())
            print(f"scored in {task.runtime}: {shown}", flush=True)
    except Exception:
        traceback.print_exc()
        raise


@contextlib.contextmanager
def _logged(path: Path, append: bool) -> Iterator[None]:
    """Python's stdout and stderr go to the file while the block runs."""
    with path.open("a" if append else "w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


def _run_on_ray(tasks: tuple[Task, ...], context: Context, arrived: Arrived) -> None:
    cpus = os.cpu_count() or 1
    with ray_cluster(cpus) as ray:
        worker = ray.remote(max_retries=3)(_remote_perform)
        shared = ray.put(context.model_dump_json(by_alias=True))
        references: dict[str, Any] = {}
        for task in tasks:
            before = [references[name] for name in task.after if name in references]
            gpus = 1 if context.foundation.device == "cuda" and task.runtime is None else 0
            call = worker.options(name=task.name, num_cpus=min(task.node.threads, cpus), num_gpus=gpus)
            references[task.name] = call.remote(task.model_dump_json(by_alias=True), shared, *before)
        waiting = list(references.values())
        names = {reference: name for name, reference in references.items()}
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            for reference in done:
                arrived(_outcome(ray, reference, names[reference]))


def _outcome(ray: Any, reference: Any, name: str) -> Outcome:
    try:
        return Outcome.model_validate_json(ray.get(reference))
    except ray.exceptions.RayError as error:  # the worker or its machine died, more often than Ray retries
        return Outcome(task=name, status="failed", error=f"lost by Ray: {describe_failure(error)}")


def _remote_perform(task: str, context: str, *before: str) -> str:
    """`perform` with JSON in and out, so that workers need no shared class definitions."""
    outcomes = [Outcome.model_validate_json(outcome) for outcome in before]
    found = perform(Task.model_validate_json(task), TypeAdapter(Context).validate_json(context), outcomes)
    return found.model_dump_json()


@contextlib.contextmanager
def ray_cluster(cpus: int) -> Iterator[Any]:
    """Ray, connected: to the cluster at RAY_ADDRESS where that is set, otherwise to a private one that ends with the block."""
    # Ray 2.59+ writes a token on a local start that later turns authentication on behind one's back: say what is meant.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let any other process of the machine starve a training
    import ray

    address = os.environ.get("RAY_ADDRESS")
    paths = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}}
    if address:
        _knock(address)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="error", runtime_env=paths)
        else:
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
            ray.init(address="local", num_cpus=cpus, runtime_env=paths, **quiet)
    except ConnectionError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({describe_failure(error)}). If one runs, compare RAY_AUTH_MODE "
            f"here ({os.environ['RAY_AUTH_MODE']}) with the cluster's; to run on this machine alone, unset RAY_ADDRESS."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """ClusterError unless something listens there; ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto" and the like: only ray knows where that is
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({describe_failure(error)}). Start one, correct the address, or "
            f"unset RAY_ADDRESS to run on this machine alone."
        ) from error


class ClusterError(RuntimeError):
    """The cluster cannot be used: infrastructure (exit 3)."""
