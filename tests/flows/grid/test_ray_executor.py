"""Tasks run in order here: a failure becomes an outcome with its log, takes its dependants along, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compressors.contract import Each
from compressors.planning.graph import Node
from flows.grid import ray_executor
from flows.grid.nodes import Context
from flows.grid.ray_cluster import ClusterError
from flows.grid.ray_executor import RunningTasks, check_room, marked, perform, run_tasks
from flows.grid.tasks import Outcome, Task
from flows.records.store import Store, StoreError
from flows.sweep.context import lay_foundation
from flows.sweep.plan_checks import load_plan
from hardware_profiles.schema.library import load_profile
from tests.flows.sweep_factory import write_params
from tests.places import ROOT


@pytest.fixture
def context(tmp_path: Path, sweep_prepared: Path) -> Context:
    """What the tasks of the tiny sweep get, with an empty store."""
    plan = load_plan(write_params(tmp_path))
    base = lay_foundation(plan, sweep_prepared)
    return Context(
        prepared=sweep_prepared, store=tmp_path / "store", design_profile=load_profile("x86-openvino-1t"), foundation=base
    )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the nodes that were worked on: the work prints, and fails where the name says so."""
    names: list[str] = []

    def work(node: Node, context: Context, each: Each) -> None:
        del context, each
        names.append(node.name)
        print(f"working on {node.name}")
        if "bad" in node.name:
            raise ValueError(f"{node.name} cannot be made\nsecond line")
        if "no room" in node.name:
            raise StoreError("the store is full")

    monkeypatch.setattr(ray_executor, "make_node", work)
    return names


def task(name: str, *after: str, digit: str = "0") -> Task:
    """A task that makes a node of this name."""
    return Task(name=name, node=Node(key=digit * 64, name=name, kind="recovered", parent=None), after=after)


def outcomes(tasks: tuple[Task, ...], context: Context) -> dict[str, Outcome]:
    """How each task ended, in the order of their ends."""
    found: list[Outcome] = []
    run_tasks(tasks, context, "inline", found.append, lambda _: None)
    return {outcome.task: outcome for outcome in found}


def test_a_failure_takes_its_dependants_along_and_nothing_else(context: Context, made: list[str]) -> None:
    """Of five tasks, the bad one failed, child and grandchild are skipped unworked, and the other two are ok."""
    tasks = (task("root"), task("bad", "root", digit="1"), task("child", "bad"), task("grandchild", "child"), task("rest", "root"))
    found = outcomes(tasks, context)
    assert [(name, outcome.status) for name, outcome in found.items()] == [
        ("root", "ok"), ("bad", "failed"), ("child", "skipped"), ("grandchild", "skipped"), ("rest", "ok"),
    ]  # fmt: skip
    assert made == ["root", "bad", "rest"]
    assert found["child"].error == "needs bad, which failed"
    assert found["grandchild"].error == "needs child, which skipped"


def test_a_failure_is_told_in_one_line_with_its_log(context: Context, made: list[str]) -> None:
    """Kind and first line of the error, and where the rest lies; ok outcomes have no error and took their time."""
    found = outcomes((task("bad", digit="1"), task("good", digit="2")), context)
    log = context.store / "logs" / f"{'1' * 64}.log"
    assert found["bad"].error == f"ValueError: bad cannot be made (log: {log})"
    assert not found["bad"].broken_store
    assert (found["good"].error, found["good"].took_s > 0) == (None, True)
    assert len(made) == 2


def test_the_log_has_the_output_and_the_traceback(context: Context, made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What the work printed goes to the log, not to the terminal, and the traceback after it, with the raising line."""
    outcomes((task("bad", digit="1"),), context)
    text = (context.store / "logs" / f"{'1' * 64}.log").read_text()
    assert text.startswith("working on bad\nTraceback (most recent call last):")
    assert "raise ValueError(" in text
    assert text.endswith("ValueError: bad cannot be made\nsecond line\n")
    assert capsys.readouterr() == ("", "")
    assert made == ["bad"]


def test_a_second_try_starts_a_new_log_and_a_score_goes_on_with_it(
    context: Context, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One log per node tells its last making and the scorings after it."""

    def refuse(*_args: Any) -> None:
        raise RuntimeError("no such runtime")

    monkeypatch.setattr(ray_executor, "score", refuse)
    own = task("bad", digit="1")
    for _ in range(2):
        perform(own, context, [])
    scored = perform(own.model_copy(update={"name": "score", "runtime": "onnxruntime"}), context, [])
    text = (context.store / "logs" / f"{'1' * 64}.log").read_text()
    assert text.count("working on bad") == 1
    assert text.endswith("RuntimeError: no such runtime\n")
    assert scored.status == "failed"
    assert made == ["bad", "bad"]


def test_a_failure_of_the_store_is_told_apart(context: Context, made: list[str]) -> None:
    """Nothing else would succeed either: the mark goes on to the dependants."""
    found = outcomes((task("no room", digit="1"), task("child", "no room")), context)
    assert [outcome.broken_store for outcome in found.values()] == [True, True]
    assert made == ["no room"]


def test_a_failure_is_never_an_entry(context: Context, made: list[str]) -> None:
    """After a failed and a skipped task the store holds a log and no entry."""
    outcomes((task("bad", digit="1"), task("child", "bad", digit="2")), context)
    store = Store(context.store)
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == [f"{'1' * 64}.log"]
    assert made == ["bad"]


def test_what_is_asked_for_and_stored_already_needs_no_task(context: Context, made: list[str]) -> None:
    """`after` may name a task that is not in the list, because its work is in the store."""
    assert outcomes((task("late", "stored long ago"),), context)["late"].status == "ok"
    assert made == ["late"]


def test_an_interruption_is_no_failure(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the run instead of marking a cell."""

    def interrupted(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_executor, "make_node", interrupted)
    with pytest.raises(KeyboardInterrupt):
        outcomes((task("any"),), context)


def test_tasks_and_outcomes_survive_json() -> None:
    """Workers get and give JSON, so that no class has to be the same on both sides."""
    own = task("any", "other").model_copy(update={"runtime": "onnxruntime"})
    assert Task.model_validate_json(own.model_dump_json(by_alias=True)) == own
    outcome = Outcome(task="any", status="failed", error="why", broken_store=True, took_s=1.5)
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome


def test_nothing_to_do_starts_nothing(context: Context) -> None:
    """Without tasks neither Ray nor a log comes into being, whatever the executor."""
    run_tasks((), context, "ray", lambda _: None, lambda _: None)
    assert not context.store.exists()


def node(cpus: float, gpus: float = 0.0, alive: bool = True) -> dict[str, Any]:
    """A node as `ray.nodes()` tells of it; Ray leaves out what a node has none of."""
    amounts = {"CPU": cpus, "GPU": gpus, "memory": 1e9}
    return {"Alive": alive, "Resources": {name: amount for name, amount in amounts.items() if amount}}


def threaded(threads: int, kind: str = "recovered", runtime: str | None = None) -> Task:
    """A task that asks for so many CPUs."""
    made = Node.model_validate({"key": "0" * 64, "name": "any", "kind": kind, "parent": None, "threads": threads})
    return Task(name="any 00000000", node=made, runtime=runtime)


@pytest.mark.parametrize(
    ("nodes", "task", "wants_gpu"),
    [
        ([node(1), node(4)], threaded(4), False),
        ([node(0), node(2)], threaded(2), False),
        ([node(8), node(2, gpus=1)], threaded(2), True),
        ([node(8), node(2, gpus=1)], threaded(4, runtime="openvino"), True),
    ],
)
def test_a_task_that_one_node_can_hold_has_room(nodes: list[dict[str, Any]], task: Task, wants_gpu: bool) -> None:
    """It need not fit on every node; a score asks for no GPU."""
    check_room(nodes, (task,), wants_gpu)


@pytest.mark.parametrize(
    ("nodes", "task", "wants_gpu", "words"),
    [
        ([node(1), node(2)], threaded(4), False, "asks for 4 CPUs and 0 GPUs (nodes: 1 CPUs and 0 GPUs, 2 CPUs and 0 GPUs)"),
        ([node(1)], threaded(2), False, "Lower `threads` in the params, or add a node"),
        ([node(1)], threaded(2, kind="teacher"), False, "Lower `teacher.threads` in the params, or add a node"),
        ([node(8, alive=False), node(1)], threaded(2), False, "(nodes: 1 CPUs and 0 GPUs)"),
        ([node(0)], threaded(1), False, "(nodes: 0 CPUs and 0 GPUs)"),
        ([], threaded(1), False, "(nodes: none is alive)"),
        ([node(8), node(1, gpus=1)], threaded(2), True, "set `device: cpu`, or add a node"),
    ],
)
def test_a_task_that_no_node_can_hold_is_refused(
    nodes: list[dict[str, Any]], task: Task, wants_gpu: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would let it wait for ever: what was asked for, what there is, and what to do."""
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(ClusterError) as caught:
        check_room(nodes, (task,), wants_gpu)
    assert str(caught.value).startswith("RAY_ADDRESS=head:6379: no node of the cluster can hold 'any 00000000'")
    assert words in str(caught.value)


def test_importing_the_module_does_not_import_ray() -> None:
    """Ray takes seconds to load; only a run with work pays for it."""
    code = "import sys, flows.grid.ray_executor; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_start_is_told_before_its_outcome(context: Context, made: list[str]) -> None:
    """So that whoever watches knows what runs; a task that is skipped is told as well, and ends at once."""
    told: list[str] = []
    run_tasks(
        (task("bad", digit="1"), task("child", "bad")), context, "inline",
        lambda outcome: told.append(f"{outcome.task} {outcome.status}"), lambda name: told.append(f"{name} starts"),
    )  # fmt: skip
    assert told == ["bad starts", "bad failed", "child starts", "child skipped"]
    assert made == ["bad"]


def test_what_runs_is_seen_in_the_store(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker keeps a file while its task runs, seen once; what a killed one left does not count."""
    own, other = task("own", digit="1"), task("other", digit="2")
    (context.store / "running").mkdir(parents=True)
    (context.store / "running" / f"{'2' * 64}.node").touch()
    running = RunningTasks(context.store, (own, other))
    assert running.new() == []
    seen: list[list[str]] = []
    monkeypatch.setattr(ray_executor, "make_node", lambda *_args: seen.append(running.new() + running.new()))
    with marked(context.store, own):
        perform(own, context, [])
    assert seen == [["own"]]
    assert list((context.store / "running").iterdir()) == []
