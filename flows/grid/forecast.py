"""`sixfold plan`: the graph, what of it is stored, what would run, and a forecast of the time it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressors.latency import operators
from compressors.planning.graph import NODE_KINDS, Foundation, Graph, Node
from detection.data.dataset import load_prepared
from detection.frozen import Frozen
from detection.spec import Spec
from flows.grid.nodes import read_done
from flows.grid.tasks import Task, tasks_of
from flows.records.store import Store
from flows.sweep.context import chosen_cells, chosen_references, lay_foundation, make_graph
from flows.sweep.params import Plan
from hardware_profiles.timing.environment import cores_here

SECONDS_PER_GIGA_MAC = 0.025
"""Of one training picture on one thread of a server core (bfloat16), on top of a fixed cost; measured on the 2.66 M teacher."""
SECONDS_PER_PICTURE = 0.006
"""The fixed part: augmentation, assignment, optimizer."""
SECONDS_PER_PACK, SECONDS_PER_SCORE = 5.0, 3.0
LIGHTER = {"search": 0.6, "architecture": 0.4, "recovered": 0.5, "quantization_aware": 1.0}
"""Cost of a picture relative to the teacher's, on average over the cells, while nothing better is known."""


class Forecast(Frozen):
    """What a grid would do."""

    cells: int
    references: int
    """Made in addition to the cells, never counted among them."""
    nodes: dict[str, int]
    """Kind -> nodes."""
    stored: dict[str, int]
    to_score: int
    train_images: int
    """Of the nodes still to make."""
    search_images: int
    teacher_forwards: int
    train_images_whole: int
    """Of the whole graph, stored or not."""
    cpu_s: float
    wall_s: float
    measured_on: int
    """Stored nodes whose times the forecast rests on; 0: rests on constants."""


def forecast(plan: Plan, prepared: Path, store: Store, pattern: str | None) -> Forecast:
    """Counted, not run: images are exact, times are not."""
    base, data = lay_foundation(plan, prepared), load_prepared(prepared)
    cells, references = chosen_cells(plan, pattern), chosen_references(plan, pattern)
    graph = make_graph(plan, base, (*cells, *references))
    tasks = tasks_of(graph, data, store, repair=False)
    missing = [task.node for task in tasks if task.runtime is None]
    stored = _stored(graph, tasks)
    to_score = len(tasks) - len(missing)
    rates = _rates(stored, store, base)
    cpu_s = sum(_node_s(node, base, rates) for node in missing) + to_score * SECONDS_PER_SCORE
    return Forecast(
        cells=len(cells),
        references=len(references),
        nodes=dict(Counter(node.kind for node in graph.nodes.values())),
        stored=dict(Counter(node.kind for node in stored)),
        to_score=to_score,
        train_images=sum(node.planned.train_images for node in missing),
        search_images=sum(node.planned.search_images for node in missing),
        teacher_forwards=sum(node.planned.teacher_forwards for node in missing),
        train_images_whole=sum(node.planned.train_images for node in graph.nodes.values()),
        cpu_s=cpu_s,
        wall_s=cpu_s / _slots(base),
        measured_on=len(stored),
    )


class TimeLeft:
    """Seconds that tasks will still take: the forecast of each, by how long those that are done took against theirs."""

    def __init__(self, tasks: Sequence[Task], graph: Graph, store: Store, base: Foundation) -> None:
        rates = _rates(_stored(graph, tasks), store, base)
        self._left = {task.name: SECONDS_PER_SCORE if task.runtime else _node_s(task.node, base, rates) for task in tasks}
        self._slots = _slots(base)
        self._forecast_s = self._took_s = 0.0

    def finished(self, name: str, took_s: float) -> None:
        """Take note of a task that ended; one that was skipped took no time."""
        expected_s = self._left.pop(name)
        if took_s:
            self._forecast_s, self._took_s = self._forecast_s + expected_s, self._took_s + took_s

    def __call__(self, running: Mapping[str, float]) -> float:
        """Of the tasks that have not ended, of which `running` says how long each runs already."""
        # Called by the thread that says a line a minute as well, so that the names are copied first.
        pace = self._took_s / self._forecast_s if self._forecast_s else 1.0
        rest = {name: max(0.0, pace * expected_s - running.get(name, 0.0)) for name, expected_s in list(self._left.items())}
        at_once = max(self._slots, len(running))  # a cluster has more slots than this machine
        return max(sum(rest.values()) / at_once, *(rest[name] for name in running), 0.0)


def table_rows(found: Forecast) -> list[tuple[str, int, int]]:
    """(kind, nodes, stored), in the order in which they are made."""
    return [(kind, found.nodes.get(kind, 0), found.stored.get(kind, 0)) for kind in NODE_KINDS if kind in found.nodes]


def _slots(base: Foundation) -> int:
    """How many training tasks run side by side here."""
    return max(1, cores_here() // base.threads)


def _stored(graph: Graph, tasks: Sequence[Task]) -> tuple[Node, ...]:
    """The nodes that these tasks do not make."""
    missing = {task.node.key for task in tasks if task.runtime is None}
    return tuple(node for node in graph.nodes.values() if node.key not in missing)


def _rates(stored: Sequence[Node], store: Store, base: Foundation) -> dict[str, float]:
    """Kind -> seconds per picture (per node for quantized), from stored nodes where there are any of the kind."""
    seen: dict[str, list[tuple[float, float]]] = {}
    for node in stored:
        if pictures := _pictures(node):  # what was brought was not trained, and says nothing of what is
            seen.setdefault(node.kind, []).append((read_done(store, node.key).made_s, pictures))
    rates = {kind: sum(s for s, _ in own) / max(1.0, sum(n for _, n in own)) for kind, own in seen.items()}
    return _guessed(base.teacher) | rates


def _guessed(teacher: Spec) -> dict[str, float]:
    giga_macs = sum(operator.macs for operator in operators(teacher)) / 1e9
    whole = SECONDS_PER_PICTURE + giga_macs * SECONDS_PER_GIGA_MAC * 2
    guesses: dict[str, Any] = {kind: SECONDS_PER_PICTURE + (whole - SECONDS_PER_PICTURE) * share for kind, share in LIGHTER.items()}
    return guesses | {"teacher": whole, "packed": SECONDS_PER_PACK, "quantized": SECONDS_PER_PACK}


def _pictures(node: Node) -> float:
    """What a node's time is proportional to: pictures, each teacher forward for a third of one; writing a file counts as one."""
    if node.kind in ("packed", "quantized"):
        return 1.0
    return node.planned.train_images + node.planned.search_images + node.planned.teacher_forwards / 3


def _node_s(node: Node, base: Foundation, rates: dict[str, float]) -> float:
    rate = rates[node.kind]
    if node.spec is not None:  # a teacher of its own size; the rate is that of the sweep's
        rate *= _guessed(node.spec)["teacher"] / _guessed(base.teacher)["teacher"]
    return _pictures(node) * rate
