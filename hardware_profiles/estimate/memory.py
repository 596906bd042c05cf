"""What a network needs to hold: its parameters, and the tensors that live at once while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware_profiles.estimate.graph.graph import Graph, Step
from hardware_profiles.estimate.graph.read import read_graph
from hardware_profiles.schema.profile import HardwareProfile


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes, in the types of the file. The runtime's own code and scratch space come on top: a process needs more."""

    parameter_bytes: int
    peak_activation_bytes: int
    """Most that lives between operators at any time; an operator's inputs and outputs exist at once."""

    @property
    def total_bytes(self) -> int:
        """Parameters and activations together."""
        return self.parameter_bytes + self.peak_activation_bytes


@dataclass(frozen=True)
class Fit:
    """Whether a network can run on a device at all; None where nobody set a limit."""

    fits: bool | None
    why: str | None = None
    """Why not."""


def needs(source: Path | Graph) -> MemoryNeed:
    """What the network of an exported file, or of a graph read from one, needs."""
    graph = source if isinstance(source, Graph) else read_graph(source)
    return MemoryNeed(graph.parameter_bytes, _peak_bytes(graph))


def fits(need: MemoryNeed, profile: HardwareProfile) -> Fit:
    """Whether parameters and activations keep within the profile's budget; None where it has none."""
    budget_bytes = profile.memory.budget_bytes
    if budget_bytes is None:
        return Fit(None)
    if need.total_bytes <= budget_bytes:
        return Fit(True)
    return Fit(
        False,
        f"needs {need.parameter_bytes} bytes for parameters and {need.peak_activation_bytes} for activations, "
        f"{profile.id} allows {budget_bytes}",
    )


def _peak_bytes(graph: Graph) -> int:
    """Walk through the steps: a tensor lives from the step that writes it, or from the start, to the last that reads it."""
    last = _last_use(graph.steps, graph.outputs)
    alive = {name: graph.tensor_bytes[name] for name in graph.inputs}
    peak = sum(alive.values())
    for index, step in enumerate(graph.steps):
        alive |= {name: graph.tensor_bytes[name] for name in step.writes}
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > index}
    return peak


def _last_use(steps: Sequence[Step], outputs: Sequence[str]) -> dict[str, int]:
    """Tensor -> index of the last step that reads it; outputs live on after the last."""
    last = {name: index for index, step in enumerate(steps) for name in step.reads}
    return last | dict.fromkeys(outputs, len(steps))
