"""An A/A test without extra timing: cells trained with and without distillation, equal but for the values of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from flows.records.schema import CellRecord, LatencyFile, LatencyRow
from hardware_profiles.estimate.graph.graph import read_graph
from hardware_profiles.estimate.model import Operator
from studies.finished_run import FinishedRun

METHOD = "distillation"
"""It changes the targets of training, and of some cells nothing else."""
FilePair = tuple[LatencyRow, LatencyRow]
Wiring = tuple[tuple[Operator, tuple[int, ...], tuple[int, ...]], ...]
"""Every operator in order of execution, with the tensors it reads and writes, numbered as they are first met."""


def same_graph_rows(run: FinishedRun, latency: LatencyFile) -> Iterator[FilePair]:
    """Measured rows of one profile and the same rounds: a cell and the same with distillation, where their graphs are equal."""
    for first, second in _pairs(run):
        for profile in latency.profiles():
            rows = (latency.row(first.cell, profile), latency.row(second.cell, profile))
            if rows[0] is None or rows[1] is None or not (rows[0].rounds_s and rows[1].rounds_s):
                continue
            runtime = rows[0].runtime.split(maxsplit=1)[0]
            own, other = first.artifacts[runtime], second.artifacts[runtime]
            same = wiring(run.store.file(own.url), runtime) == wiring(run.store.file(other.url), runtime)
            if same and own.digest != other.digest:
                yield rows[0], rows[1]


@lru_cache(maxsize=256)
def wiring(path: Path, runtime: str) -> Wiring:
    """What the network in a file computes but for the values of its weights, as the runtime executes it; names do not count."""
    number: dict[str, int] = {}

    def numbered(tensors: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(number.setdefault(tensor, len(number)) for tensor in tensors)

    return tuple((step.operator, numbered(step.reads), numbered(step.writes)) for step in read_graph(path, runtime).steps)


def _pairs(run: FinishedRun) -> Iterator[tuple[CellRecord, CellRecord]]:
    for first in run.cells.cells:
        for second in run.cells.cells:
            same = {method: config for method, config in second.variant.items() if method != METHOD} == first.variant
            if same and METHOD in second.methods and METHOD not in first.methods and first.status == second.status == "ok":
                yield first, second
