"""The graph of an exported file as its runtime executes it: fused operators, and the tensors that pass between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hardware_profiles.estimate.model import Operator


class GraphError(ValueError):
    """An exported file cannot be read as a graph of fixed sizes; the message says which file and what to do."""


@dataclass(frozen=True)
class Step:
    """One operator with the tensors it reads and writes; weights are not among them."""

    operator: Operator
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Steps in the order of execution."""

    steps: tuple[Step, ...]
    tensor_bytes: Mapping[str, int]
    """Size of every tensor that a step reads or writes, in the type it has between the operators."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameter_bytes: int
    """Weights and other constants, in the type they are stored in."""

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What the latency model wants."""
        return tuple(step.operator for step in self.steps)
