"""Learned ranges find their tensors in the exported file, whatever exporters make of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compressors.quantization import float_parts
from compressors.quantization.calibrators import values_of
from compressors.quantization.fake_quantize import FakeQuantizedNetwork
from compressors.quantization.float_tail import PRODUCTS
from compressors.quantization.learned_ranges import tensor_ranges
from compressors.quantization.rounding import FakeQuantizedMap
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.evaluation import as_planes
from detection.export import INPUT_NAME, export_onnx
from detection.spec import Factored, KeptChannels, LayerWidth, Ranks, Separated, Skipped
from hardware_profiles.runtimes import writing
from tests.compressors.quantization.test_fake_quantize import SHAPES, exact, lively, rounded_of, shaped
from tests.module_factory import module_detector

NETWORK = "network."
KEPT = KeptChannels(
    layers={
        f"{NETWORK}{name}": LayerWidth(inputs=inputs, outputs=outputs)
        for name, inputs, outputs in [("deep.0", 16, 12), ("deep.1", 12, 12), ("block.0", 12, 12), ("block.1", 12, 12)]
    }
    | {f"{NETWORK}{name}": LayerWidth(inputs=12, outputs=outputs) for name, outputs in [("score", 10), ("sides", 4)]}
)
EDITS = {
    "pruned": KEPT,
    "factored": Factored(
        layers={f"{NETWORK}deep.0": Ranks(inputs=8, outputs=8), f"{NETWORK}block.0": Ranks(inputs=None, outputs=6)}
    ),
    "skipped": Skipped(blocks=(f"{NETWORK}block",)),
    "separated": Separated(layers=(f"{NETWORK}middle.0", f"{NETWORK}block.0")),
}


def detector_of(kind: str, like: Detector) -> Detector:
    """One of our own by its shape, or a user's by its file or by what was done to the plain one."""
    if kind in SHAPES:
        return shaped(like, SHAPES[kind])
    if kind == "odd_layers":
        return lively(module_detector(kind, like))
    plain = module_detector("own_points", like, width=8, repeats=2)
    edited = plain.spec.edited(EDITS[kind]) if kind in EDITS else plain.spec
    return lively(Detector(edited, plain.family.start(edited, 0)))


def watched(rounded: FakeQuantizedNetwork, pixels: np.ndarray) -> None:
    """Let ranges be learned from one picture while values pass untouched, so that they are those of the float file."""
    exact(rounded.graph)
    for module in rounded.graph.train().modules():
        if isinstance(module, FakeQuantizedMap):
            del module.forward
            module.register_forward_hook(lambda _module, given, _result: given[0])
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        rounded.graph(torch.from_numpy(as_planes(pixels)))


@pytest.mark.parametrize("kind", [*SHAPES, "own_points", "odd_layers", *EDITS])
def test_each_learned_range_belongs_to_the_right_tensor(
    kind: str, tiny_detector: Detector, tiny_train: Images, tmp_path: Path
) -> None:
    """Ranges learned from one picture are least and greatest value of the same tensors of the exported file, known by another
    picture; and every map that a product reads there has one, but for the picture, which is not rounded."""
    detector = detector_of(kind, tiny_detector)
    rounded = rounded_of(detector)
    watched(rounded, tiny_train.pixels[0])
    export_onnx(detector, tmp_path / "float.onnx", planes=True)
    model = onnx.load(tmp_path / "float.onnx")
    found = tensor_ranges(detector, tmp_path / "float.onnx", tiny_train.pixels[1], rounded.ranges())
    tail = set(float_parts.float_tail(model))
    products = [node for node in model.graph.node if node.op_type in PRODUCTS]
    read = {node.input[0] for node in products if node.name not in tail or float_parts.predicts(node)}
    assert read - {INPUT_NAME} <= found.keys()
    assert INPUT_NAME not in found
    assert set(rounded.ranges().values()) == set(found.values())
    seen = values_of(model, found, writing.as_planes(model, tiny_train.pixels[0]))
    picked = {name for node in model.graph.node if node.op_type in ("MaxPool", "Pad") for name in (node.input[0], node.output[0])}
    for name in found.keys() - picked:
        assert found[name] == pytest.approx((min(0.0, seen[name].min()), max(0.0, seen[name].max())), rel=1e-3, abs=1e-3), name
