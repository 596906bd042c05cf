"""Ranges that a training with rounding has learned, as ranges by the tensors of an exported file.

A map is known in the file by its values: exporters rename, fuse and reorder, but what they write computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from compressors.quantization.calibrators import values_of
from compressors.quantization.fake_quantize import folded_graph
from compressors.quantization.float_parts import activations_of
from detection import evaluation
from detection.checkpoint import Detector
from hardware_profiles.runtimes.ranges import Ranges
from hardware_profiles.runtimes.writing import as_planes

SAME_SHARE = 1e-3
"""Of the greatest value of a map, by which one may differ that holds the same: sums are in another order, weights folded."""
SAME_VALUES = frozenset({"Resize", "Transpose", "Reshape", "Pad", "MaxPool"})
"""Operators that only repeat, turn or pick what they read, whose range they share; zeros around it lie within each range."""


def tensor_ranges(detector: Detector, planes_file: Path, picture: NDArray[np.uint8], learned: Ranges) -> Ranges:
    """Tensor of the exported file, which takes planes -> the range in which `fake_quantized` rounded the map that it holds.

    The picture is (height, width, 3). A map of one value everywhere is not told from another such, and has no range here.
    """
    model = onnx.load(planes_file)
    held = values_of(model, activations_of(model), as_planes(model, picture))
    found: Ranges = {}
    for place, own in _maps(detector.network(), learned, picture).items():
        found |= {name: learned[place] for name, value in held.items() if _same(value, own)}
    assert found or not learned, "the exported file holds none of the maps that the network makes"
    turning = [node for node in model.graph.node if node.op_type in SAME_VALUES]
    read_otherwise = {name for node in model.graph.node if node.op_type not in SAME_VALUES for name in node.input}
    for node in turning:
        if node.input[0] in found:
            found.setdefault(node.output[0], found[node.input[0]])
    for node in reversed(turning):
        if node.output[0] in found and node.input[0] not in read_otherwise:
            found.setdefault(node.input[0], found[node.output[0]])
    return found


def _maps(network: nn.Module, nodes: Collection[str], picture: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What these nodes of the network's graph hold for a picture, but for those that are equal everywhere."""
    graph, _ = folded_graph(network.eval())
    noted = _Noted(graph, nodes)
    with torch.no_grad():
        noted.run(torch.from_numpy(evaluation.as_planes(picture)))
    return {name: own for name, maps in noted.maps.items() if np.ptp(own := maps.numpy()) > 0}


class _Noted(fx.Interpreter):
    """Runs a graph and keeps what some of its nodes made."""

    def __init__(self, graph: fx.GraphModule, nodes: Collection[str]) -> None:
        super().__init__(graph.eval())
        self.nodes, self.maps = nodes, dict[str, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        """What the node makes."""
        made = super().run_node(n)
        if n.name in self.nodes and isinstance(made, Tensor):
            self.maps[n.name] = made
        return made


def _same(value: NDArray[Any], own: NDArray[Any]) -> bool:
    return value.shape == own.shape and bool(np.abs(value - own).max() <= SAME_SHARE * np.abs(own).max())
