"""What is left to do of a graph: a task per node to make and per artifact to score, each after what it needs."""

from __future__ import annotations

from typing import Literal

from compressors.planning.graph import NODE_KINDS, Graph, Node
from detection.data.dataset import Prepared
from detection.frozen import Frozen
from flows.grid.nodes import NODES, Context
from flows.grid.scoring import SCORES, score_key
from flows.progress import duration, steps
from flows.records.store import Store, StoreError


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

    def in_words(self) -> str:
        """For instance "ok in 12 s"."""
        return f"{self.status} in {duration(self.took_s)}" if self.took_s else self.status


def tasks_of(graph: Graph, data: Prepared, store: Store, *, repair: bool = True) -> tuple[Task, ...]:
    """What is not in the store yet, each task after what it needs; searches first, since most waits for them.

    With repair, broken entries are moved aside on the way; without, they only count as missing.
    """
    every = steps(graph.nodes, len(graph.nodes), "compare stored nodes with their digests", "nodes")
    missing = {key for key in every if not usable(store, NODES, key, repair=repair)}
    tasks: list[Task] = []
    for node in sorted(graph.nodes.values(), key=lambda node: rank(node, graph)):
        if node.key in missing:
            needed = [key for key in dict.fromkeys((node.parent, node.taught_by)) if key is not None and key in missing]
            after = tuple(task_name(graph.nodes[key]) for key in needed)
            tasks.append(Task(name=task_name(node), node=node, after=after))
    scored = {(key, runtime) for row in graph.artifacts.values() for runtime, key in row.items()}
    for key, runtime in sorted(scored, key=lambda pair: (rank(graph.nodes[pair[0]], graph), pair[1])):
        if key in missing or not usable(store, SCORES, score_key(key, runtime, data), repair=repair):
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


def usable(store: Store, section: str, key: str, *, repair: bool) -> bool:
    """Whether an entry is whole and as its manifest says; with repair, one that is not is moved aside."""
    if not store.has(section, key):
        return False
    try:
        store.open(section, key)
    except StoreError:
        if repair:
            store.quarantine(section, key)
        return False
    return True


def rank(node: Node, graph: Graph) -> tuple[int, int, str]:
    """In which order nodes are made. A reference that waits for a cell trains an architecture after that cell's recovery."""
    return graph.generation(node.key), NODE_KINDS.index(node.kind), node.name
