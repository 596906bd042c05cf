"""Work that depends on work, run one after another here or side by side on Ray. The only module that imports ray."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from compressors.contract import Each, in_turn
from compressors.planning.graph import Node
from detection.frozen import Frozen
from flows.grid.nodes import Context, describe_failure, make_node
from flows.grid.parallel_map import Spread
from flows.grid.scoring import score
from flows.records.store import Store, StoreError

Executor = Literal["ray", "inline"]
CONNECT_TIMEOUT_S = 10.0
DEVICE_LABEL, BENCH_SLOT = "device", "bench_slot"
"""What a machine joins with that is there to be measured: a label with the name of its profile, and one slot."""
SENT_TO_DEVICES = ("hardware_profiles", "detection", "flows")
"""Packages that travel to a device, so that it runs the same code as the machine at home."""


class Task(Frozen):
    """One thing to do: make a node, or score its artifact in a runtime."""

    name: str
    node: Node
    runtime: str | None = None
    """Set for a scoring."""
    after: tuple[str, ...] = ()
    """Names of the tasks that must be done first."""
    seed: int | None = None
    """Of its node, where that is another than the foundation's: `retrain` makes nodes of several seeds at once."""

    def context_of(self, shared: Context) -> Context:
        """What all tasks share, with the seed of this one's node."""
        if self.seed is None:
            return shared
        return shared.model_copy(update={"foundation": shared.foundation.model_copy(update={"seed": self.seed})})


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
            _do(task, context, store, each)
    except Exception as error:  # the one place where a task's failure becomes a record
        return Outcome(
            task=task.name,
            status="failed",
            error=f"{describe_failure(error)} (log: {store.root / 'logs' / (task.node.key + '.log')})",
            broken_store=isinstance(error, StoreError),
            took_s=time.perf_counter() - started_s,
        )
    return Outcome(task=task.name, status="ok", took_s=time.perf_counter() - started_s)


def _do(task: Task, context: Context, store: Store, each: Each) -> None:
    try:
        if task.runtime is None:
            make_node(task.node, task.context_of(context), each)
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
    cores, wants_gpu = os.cpu_count() or 1, context.foundation.device == "cuda"
    with ray_cluster(cores) as ray:
        is_shared = bool(os.environ.get("RAY_ADDRESS"))
        if is_shared:
            _check_room(ray.nodes(), tasks, wants_gpu)
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
            done, waiting = ray.wait(waiting, num_returns=1)
            for reference in done:
                arrived(_outcome(ray, reference, names[reference]))


def _check_room(nodes: list[dict[str, Any]], tasks: tuple[Task, ...], wants_gpu: bool) -> None:
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
    own, where = Task.model_validate_json(task), TypeAdapter(Context).validate_json(context)
    import ray

    # An accelerator is held by the task that asked for it; what it does many times it does there, in turn.
    each = in_turn if where.foundation.device == "cuda" else Spread(ray, own.node.threads)
    return perform(own, where, outcomes, each).model_dump_json()


@contextlib.contextmanager
def ray_cluster(cpus: int, packages: Sequence[str] = ()) -> Iterator[Any]:
    """Ray, connected: to the cluster at RAY_ADDRESS where that is set, otherwise to a private one that ends with the block.

    `packages` of ours are sent along, for machines that have no checkout.
    """
    # Ray 2.59+ writes a token on a local start that later turns authentication on behind one's back: say what is meant.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let any other process of the machine starve a training
    import ray

    address = os.environ.get("RAY_ADDRESS")
    root = Path(__file__).parents[2]
    paths: dict[str, Any] = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}}
    if packages:
        paths |= {"py_modules": [str(root / package) for package in packages], "excludes": ["__pycache__"]}
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


@dataclass(frozen=True)
class DeviceNode:
    """A machine that joined the cluster to be measured: it does one piece of our work at a time."""

    name: str
    """Of its profile, from its label."""
    node_id: str
    ray: Any

    def send(self, content: object) -> Any:
        """A handle to something large; `run` takes it as an argument, and the content travels once."""
        return self.ray.put(content)

    def run(self, work: Callable[..., str], *arguments: Any, timeout_s: float) -> str:
        """What work(*arguments) returned on the device; ClusterError where it failed, took too long, or the device was lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.node_id, soft=False)
        options = {"num_cpus": 0, "resources": {BENCH_SLOT: 1}, "scheduling_strategy": here, "max_retries": 0}
        reference = self.ray.remote(work).options(**options).remote(*arguments)
        try:
            return str(self.ray.get(reference, timeout=timeout_s))
        except self.ray.exceptions.GetTimeoutError as error:
            self.ray.cancel(reference, force=True)
            raise ClusterError(f"the device {self.name} gave no answer within {timeout_s:g} s") from error
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error  # what the work raised, without Ray's account of where
            raise ClusterError(f"the device {self.name}: {describe_failure(cause)}") from error


@contextlib.contextmanager
def joined_devices() -> Iterator[dict[str, DeviceNode]]:
    """Profile name -> the machine that joined the cluster at RAY_ADDRESS with that label and a slot; empty without RAY_ADDRESS."""
    if not os.environ.get("RAY_ADDRESS"):
        yield {}  # a private cluster has no other machines, and starting one takes seconds
        return
    with ray_cluster(0, SENT_TO_DEVICES) as ray:
        yield {
            node["Labels"][DEVICE_LABEL]: DeviceNode(node["Labels"][DEVICE_LABEL], node["NodeID"], ray)
            for node in ray.nodes()
            if node["Alive"] and DEVICE_LABEL in node["Labels"] and node["Resources"].get(BENCH_SLOT, 0) >= 1
        }


def join_command(name: str) -> str:
    """What to type on the device so that it joins as `name`."""
    address, mode = os.environ.get("RAY_ADDRESS", "HEAD_ADDRESS:6379"), os.environ.get("RAY_AUTH_MODE", "disabled")
    slot = f"--resources='{{\"{BENCH_SLOT}\": 1}}'"
    normal = "RAY_worker_niceness=0"  # Ray's 15 would let every other process of the device go first
    return f"RAY_AUTH_MODE={mode} {normal} ray start --address={address} --num-cpus=0 {slot} --labels={DEVICE_LABEL}={name}"


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
