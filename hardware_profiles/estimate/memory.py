"""What a network needs to hold besides its parameters: the tensors that live at once while it runs."""

from __future__ import annotations

from hardware_profiles.estimate.graph.graph import Graph
from hardware_profiles.schema.profile import HardwareProfile


def peak_activation_bytes(graph: Graph) -> int:
    """The most that lives between operators at any time; an operator's inputs and outputs exist at once.

    A tensor lives from the step that writes it, or from the start, to the last that reads it, outputs to the end. In the types of
    the file; the runtime's own code and scratch space come on top.
    """
    last = {name: index for index, step in enumerate(graph.steps) for name in step.reads}
    last |= dict.fromkeys(graph.outputs, len(graph.steps))
    alive = {name: graph.tensor_bytes[name] for name in graph.inputs}
    peak = sum(alive.values())
    for index, step in enumerate(graph.steps):
        alive |= {name: graph.tensor_bytes[name] for name in step.writes}
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > index}
    return peak


def fits(parameter_bytes: int, activation_bytes: int, profile: HardwareProfile) -> tuple[bool | None, str | None]:
    """Whether both keep within the profile's budget, None where it has none; and why not."""
    budget_bytes = profile.memory.budget_bytes
    if budget_bytes is None or parameter_bytes + activation_bytes <= budget_bytes:
        return (None if budget_bytes is None else True), None
    needed = f"needs {parameter_bytes} bytes for parameters and {activation_bytes} for activations"
    return False, f"{needed}, {profile.id} allows {budget_bytes}"
