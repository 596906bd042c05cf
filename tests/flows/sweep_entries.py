"""What tests do to a sweep: find its nodes by name, forget or damage entries of its store, lend its data to other params."""

from __future__ import annotations

import shutil
from pathlib import Path

from compressors.planning.graph import Graph, Node
from detection.data.dataset import load_prepared
from detection.data.sources import provenance
from flows.records.store import JOURNAL, MANIFEST
from flows.sweep.context import chosen_cells, lay_foundation, make_graph
from flows.sweep.params import Plan
from tests.flows.sweep_factory import Sweep

CELLS = (
    "none",
    "pruning",
    "distillation",
    "quantization",
    "pruning+distillation",
    "pruning+quantization",
    "distillation+quantization",
    "pruning+distillation+quantization",
)
"""Fewest methods first, then in the order in which methods are named."""


def graph_in(sweep: Sweep) -> Graph:
    """The whole graph of a sweep."""
    base = lay_foundation(sweep.plan, sweep.prepared)
    return make_graph(sweep.plan, base, chosen_cells(sweep.plan, None))


def times_in(sweep: Sweep) -> dict[str, int]:
    """Entry -> when its manifest was written."""
    return {str(path.parent.relative_to(sweep.store.root)): path.stat().st_mtime_ns for path in sweep.store.root.rglob(MANIFEST)}


def forget(sweep: Sweep, section: str, key: str) -> None:
    """Take an entry out of the store and its journal, as if it had never been made."""
    shutil.rmtree(sweep.store.folder(section, key))
    journal = sweep.store.root / JOURNAL
    journal.write_text("".join(line for line in journal.read_text().splitlines(keepends=True) if key not in line))


def spoil(path: Path) -> None:
    """Cut a stored file in half, in this copy of the store only."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def lend(prepared: Path, plan: Plan, folder: Path) -> Path:
    """A prepared folder with the same pixels and boxes that says it was made for the plan."""
    shutil.copytree(prepared, folder)
    made_from = provenance(plan.params.data, plan.base, plan.params.seed)
    lent = load_prepared(folder).model_copy(update={"made_from": made_from})
    (folder / "prepared.json").write_text(lent.model_dump_json(by_alias=True))
    return folder


def named(graph: Graph, name: str) -> Node:
    """The one node of a name."""
    (node,) = [node for node in graph.nodes.values() if node.name == name]
    return node
