"""What ONNX Runtime executes of a file."""

from __future__ import annotations

from pathlib import Path

from hardware_profiles.estimate.graph.fusion import fused
from hardware_profiles.estimate.graph.graph import Graph
from hardware_profiles.estimate.graph.layers import Fusions
from hardware_profiles.estimate.graph.onnx_file import read_onnx

FUSIONS = Fusions(activations=frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid"}))
"""Swish is a kernel of its own."""


def read_graph(path: Path) -> Graph:
    """The graph of a float file, or of an int8 file (QDQ)."""
    return fused(read_onnx(path), FUSIONS)
