"""`sixfold plan`: the graph, what of it is stored, what would run, and a forecast of the time it takes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from compressors.latency import operators
from compressors.planning.graph import NODE_KINDS, Foundation, Graph, Node
from detection.compact.blueprint import Blueprint
from detection.frozen import Frozen
from flows.grid.nodes import SECTION as NODES
from flows.grid.nodes import read_done
from flows.grid.stage import tasks_of
from flows.records.store import Store
from flows.sweep.context import chosen_cells, chosen_references, lay_foundation, make_graph
from flows.sweep.params import Plan

SECONDS_PER_GIGA_MAC = 0.025
"""Of one training picture on one thread of a server core (bfloat16), beside a fixed cost; measured on the 2.66 M teacher."""
SECONDS_PER_PICTURE = 0.006
"""The fixed part: augmentation, assignment, optimizer."""
SECONDS_PER_PACK, SECONDS_PER_SCORE = 5.0, 3.0
LIGHTER = {"search": 0.6, "architecture": 0.4, "recovered": 0.5, "quantization_aware": 1.0}
"""Cost of a picture relative to the teacher's, on average over the cells, while nothing better is known."""


class Forecast(Frozen):
    """What a grid would do."""

    cells: int
    references: int
    """Beside the cells, never counted among them."""
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
    base = lay_foundation(plan, prepared)
    cells, references = chosen_cells(plan, pattern), chosen_references(plan, pattern)
    graph = make_graph(plan, base, (*cells, *references))
    tasks = tasks_of(graph, prepared, store, repair=False)
    missing = [task.node for task in tasks if task.runtime is None]
    to_score = len(tasks) - len(missing)
    rates, known = _rates(graph, store, base)
    cpu_s = sum(_node_s(node, base, rates) for node in missing) + to_score * SECONDS_PER_SCORE
    return Forecast(
        cells=len(cells),
        references=len(references),
        nodes=dict(Counter(node.kind for node in graph.nodes.values())),
        stored=dict(Counter(node.kind for node in graph.nodes.values() if node not in missing)),
        to_score=to_score,
        train_images=sum(node.planned.train_images for node in missing),
        search_images=sum(node.planned.search_images for node in missing),
        teacher_forwards=sum(node.planned.teacher_forwards for node in missing),
        train_images_whole=sum(node.planned.train_images for node in graph.nodes.values()),
        cpu_s=cpu_s,
        wall_s=cpu_s / max(1, (os.cpu_count() or 1) // base.threads),
        measured_on=known,
    )


def table_rows(found: Forecast) -> list[tuple[str, int, int]]:
    """(kind, nodes, stored), in the order in which they are made."""
    return [(kind, found.nodes.get(kind, 0), found.stored.get(kind, 0)) for kind in NODE_KINDS if kind in found.nodes]


def _rates(graph: Graph, store: Store, base: Foundation) -> tuple[dict[str, float], int]:
    """Kind -> seconds per picture (per node for quantized), from stored nodes of this graph where there are any."""
    seen: dict[str, list[tuple[float, float]]] = {}
    for node in graph.nodes.values():
        if store.has(NODES, node.key):
            seen.setdefault(node.kind, []).append((read_done(store, node.key).made_s, _pictures(node)))
    rates = {kind: sum(s for s, _ in own) / max(1.0, sum(n for _, n in own)) for kind, own in seen.items()}
    return _guessed(base.teacher) | rates, sum(len(own) for own in seen.values())


def _guessed(teacher: Blueprint) -> dict[str, float]:
    giga_macs = sum(operator.macs for operator in operators(teacher)) / 1e9
    whole = SECONDS_PER_PICTURE + giga_macs * SECONDS_PER_GIGA_MAC * 2
    guesses: dict[str, Any] = {kind: SECONDS_PER_PICTURE + (whole - SECONDS_PER_PICTURE) * share for kind, share in LIGHTER.items()}
    return guesses | {"teacher": whole, "quantized": SECONDS_PER_PACK}


def _pictures(node: Node) -> float:
    """What a node's time is proportional to: pictures, each teacher forward for a third of one; a quantization counts as one."""
    if node.kind == "quantized":
        return 1.0
    return node.planned.train_images + node.planned.search_images + node.planned.teacher_forwards / 3


def _node_s(node: Node, base: Foundation, rates: dict[str, float]) -> float:
    rate = rates[node.kind]
    if node.architecture is not None:  # a teacher of its own size; the rate is that of the sweep's
        rate *= _guessed(base.teacher_of(node.architecture))["teacher"] / _guessed(base.teacher)["teacher"]
    return _pictures(node) * rate
