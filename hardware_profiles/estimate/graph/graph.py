"""The graph of an exported file as its runtime executes it: fused operators, and the tensors that pass between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

OperatorKind = Literal["conv3x3s1", "conv1x1", "conv_other", "depthwise", "other"]


class GraphError(ValueError):
    """An exported file cannot be read as a graph of fixed sizes; the message says which file and what to do."""


@dataclass(frozen=True)
class Operator:
    """One operator of the graph as it is exported: after pruning, factoring and folding, for one picture."""

    kind: OperatorKind
    macs: int
    """Multiply-adds; 0 for operators that only move or add."""
    input_elements: int
    output_elements: int
    weight_elements: int
    input_channels: int
    output_channels: int
    op_type: str = "Conv"
    """As ONNX calls it."""
    quantized: bool = False
    """Computed in int8 where the device has it."""
    zero_point: bool = False
    """An int8 convolution over more than one position whose input stores the real value 0 as another number, as a signed range
    without symmetry does. For 1x1 its share of the sums is the same everywhere, a bias."""


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
