"""Memory needs, worked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware_profiles.estimate.graph.graph import Graph, Step
from hardware_profiles.estimate.graph.reading import read_graph
from hardware_profiles.estimate.memory import fits, peak_activation_bytes
from hardware_profiles.estimate.model import Operator
from hardware_profiles.schema.profile import HardwareProfile
from tests.hardware_profiles.profile_factory import tree
from tests.hardware_profiles.tiny_model import write_model

OPERATOR = Operator("other", 0, 1, 1, 0, 1, 1, "Add")
BYTES = {"x": 100, "a": 40, "b": 30, "c": 20, "y": 10}


def residual(outputs: tuple[str, ...] = ("y",)) -> Graph:
    """x -> a -> b -> c, and y = a + c: a waits until the end."""
    steps = tuple(
        Step(OPERATOR, reads, writes)
        for reads, writes in ((("x",), ("a",)), (("a",), ("b",)), (("b",), ("c",)), (("a", "c"), ("y",)))
    )
    return Graph(steps, BYTES, ("x",), outputs, 1_000)


def profile(budget_bytes: int | None) -> HardwareProfile:
    """A board with so much memory."""
    return HardwareProfile.model_validate(tree(memory={"budget_bytes": budget_bytes}))


def test_a_tensor_lives_until_its_last_reader() -> None:
    """The steps hold 100 + 40, 40 + 30, 40 + 30 + 20 (a waits) and 40 + 20 + 10 bytes: at most 140."""
    assert peak_activation_bytes(residual()) == 140


def test_what_waits_is_counted() -> None:
    """With a small picture the third step is the highest: a waits while b becomes c, 90 bytes."""
    graph = Graph(residual().steps, BYTES | {"x": 10}, ("x",), ("y",), 0)
    assert peak_activation_bytes(graph) == 40 + 30 + 20


def test_outputs_live_to_the_end() -> None:
    """Were b an output too, the last step would hold a, b, c and y: 100 bytes, 30 more than without."""
    graph = Graph(residual().steps, BYTES | {"x": 10}, ("x",), ("y", "b"), 0)
    assert peak_activation_bytes(graph) == 40 + 30 + 20 + 10


@pytest.mark.parametrize(("budget_bytes", "fitting"), [(None, None), (1_139, False), (1_140, True)])
def test_the_budget_is_met_or_not(budget_bytes: int | None, fitting: bool | None) -> None:
    """1,000 bytes of parameters and 140 of activations need 1,140; without a budget nobody can say."""
    found, why = fits(1_000, 140, profile(budget_bytes))
    assert found is fitting
    assert why == ("needs 1000 bytes for parameters and 140 for activations, board allows 1139" if fitting is False else None)


def test_a_file_is_read(tmp_path: Path) -> None:
    """The tiny model: 18 weights, 6 biases and five 8-byte sizes; six maps of 96 pixels and their transposition at once."""
    graph = read_graph(write_model(tmp_path / "model.onnx"))
    assert graph.parameter_bytes == 4 * (18 + 6) + 8 * (3 + 2)
    assert peak_activation_bytes(graph) == 4 * 96 * (6 + 6)
