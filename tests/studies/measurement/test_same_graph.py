"""Graphs are equal where only the values of weights differ."""

from __future__ import annotations

from pathlib import Path

from studies.measurement.same_graph import wiring
from tests.hardware_profiles.tiny_model import write_model


def test_other_weights_are_the_same_graph(tmp_path: Path) -> None:
    """Two seeds of one network are wired alike; another input size, and so other shapes, is another graph."""
    first, second = (write_model(tmp_path / f"{seed}.onnx", seed) for seed in (0, 1))
    larger = write_model(tmp_path / "larger.onnx", size=(16, 12))
    assert first.read_bytes() != second.read_bytes()
    assert wiring(first, "onnxruntime") == wiring(second, "onnxruntime")
    assert wiring(first, "onnxruntime") != wiring(larger, "onnxruntime")
