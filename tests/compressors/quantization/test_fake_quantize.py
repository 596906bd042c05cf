"""The network as int8 will see it: folding changes nothing, rounding is that of the runtimes, and all of it leads back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compressors.contract import Workbench
from compressors.low_rank import LowRank, factor
from compressors.quantization import float_parts
from compressors.quantization.fake_quantize import (
    FakeQuantizedConv,
    FakeQuantizedMap,
    FakeQuantizedNetwork,
    fake_quantized,
    place,
    tensor_ranges,
)
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture
from detection.data.dataset import Images
from detection.evaluation import as_planes
from detection.export import INPUT_NAME, export_onnx
from hardware_profiles.runtimes import writing
from hardware_profiles.runtimes.ranges import Range

SHAPES: dict[str, dict[str, object]] = {
    "plain": {},
    "depthwise": {"backbone_block": "depthwise", "neck_block": "depthwise", "head_block": "depthwise"},
    "ghost": {"backbone_block": "ghost", "neck_block": "ghost", "head_block": "ghost"},
    "short": {
        "levels": (8, 16),
        "stem_stride": 4,
        "stage_widths": (8, 16, 24),
        "stage_depths": (1, 1, 1),
        "head_branches": "shared",
    },
}


def lively(detector: Detector, seed: int = 1) -> Detector:
    """The detector with normalisations as a training leaves them: none of their numbers is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = dict(detector.weights)
    for name, tensor in weights.items():
        if name.endswith((".running_mean", ".bias")):
            weights[name] = torch.randn(tensor.shape, generator=generator) * 0.1
        if name.endswith(".running_var") or (name.endswith(".weight") and tensor.ndim == 1):
            weights[name] = torch.rand(tensor.shape, generator=generator) + 0.5
    return Detector(detector.spec, weights)


def shaped(detector: Detector, shape: dict[str, object]) -> Detector:
    """A detector like the tiny one with other blocks or levels."""
    architecture = Architecture.model_validate(detector.spec.settings.model_dump() | shape)
    return lively(fresh(detector.spec.having(architecture), seed=0))


def rounded_of(detector: Detector, float_stem: bool = False) -> FakeQuantizedNetwork:
    """The detector's network with rounding; its last predictions are protected."""
    network = detector.network()
    return fake_quantized(network, detector.family.protected(network), float_stem=float_stem)


def without_rounding(graph: nn.Module) -> None:
    """Let every rounding pass on what it gets."""
    for module in graph.modules():
        if isinstance(module, FakeQuantizedMap):
            module.forward = lambda maps: maps  # type: ignore[method-assign]
        if isinstance(module, FakeQuantizedConv):
            module.__class__ = nn.Conv2d


@pytest.mark.parametrize("shape", SHAPES)
def test_without_its_rounding_it_is_the_network(shape: str, tiny_detector: Detector, tiny_train: Images) -> None:
    """Normalisations are folded into the convolutions: outputs agree to float32 rounding, for every kind of block."""
    detector = shaped(tiny_detector, SHAPES[shape])
    rounded = rounded_of(detector)
    without_rounding(rounded.graph)
    pixels = torch.from_numpy(as_planes(tiny_train.pixels[0]))
    with torch.no_grad():
        own, expected = rounded.graph.eval()(pixels), detector.network()(pixels)
    for mine, theirs in zip((*own[:2], *own[2]), (*expected[:2], *expected[2]), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert not [module for module in rounded.graph.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_way_back_gives_a_detector_that_says_the_same(shape: str, tiny_detector: Detector, tiny_train: Images) -> None:
    """Folded weights fit the same spec: normalisations multiply by one and add the bias."""
    detector = shaped(tiny_detector, SHAPES[shape])
    back = rounded_of(detector).detector(detector)
    assert back.spec == detector.spec
    assert {name: tensor.shape for name, tensor in back.weights.items()} == {n: t.shape for n, t in detector.weights.items()}
    pixels = torch.from_numpy(as_planes(tiny_train.pixels[0]))
    with torch.no_grad():
        own, expected = back.network()(pixels), detector.network()(pixels)
    torch.testing.assert_close(own.score_logits, expected.score_logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(own.box_logits, expected.box_logits, rtol=1e-3, atol=1e-4)
    assert back.digest != detector.digest


def test_only_predictions_keep_float_weights(tiny_detector: Detector) -> None:
    """Every convolution rounds its weights but the six that predict; the stem too where it is to stay float."""
    protected = tiny_detector.family.protected(tiny_detector.network())
    for float_stem in (False, True):
        graph = rounded_of(tiny_detector, float_stem).graph
        plain = {name for name, module in graph.named_modules() if type(module) is nn.Conv2d}
        assert plain == {*protected, *(["stem.0"] if float_stem else [])}


def test_weights_are_rounded_per_output_channel() -> None:
    """Weights 1.27 and 0.634 of one channel: scale 0.01, so 1.27 and 0.63. Another channel a thousandth of it: its own scale."""
    conv = FakeQuantizedConv(2, 2, 1, bias=False)
    conv.weight.data = torch.tensor([[[[1.27]], [[0.634]]], [[[0.00127]], [[0.000634]]]])
    seen = conv(torch.eye(2).reshape(2, 2, 1, 1)).flatten(1)
    torch.testing.assert_close(seen, torch.tensor([[1.27, 0.00127], [0.63, 0.00063]]))
    seen.sum().backward()
    assert conv.weight.grad is not None
    assert (conv.weight.grad == 1).all(), "the gradient passes as if nothing had been rounded"


def test_ranges_follow_what_occurs_and_stand_still_in_evaluation() -> None:
    """The first batch sets the ends, each later one moves them by a hundredth; nothing moves while evaluating."""
    own = FakeQuantizedMap().train()
    own(torch.tensor([[-1.0, 3.0]]))
    assert own.ends() == Range(-1.0, 3.0)
    own(torch.tensor([[-2.0, 1.0]]))
    assert own.ends() == pytest.approx((-1.01, 2.98))
    own.eval()(torch.tensor([[100.0]]))
    assert own.ends() == pytest.approx((-1.01, 2.98))


def test_maps_are_rounded_to_256_levels_and_cut() -> None:
    """0..25.5 has levels 0.1 apart: 1.23 becomes 1.2 and 99 becomes 25.5; where it was cut no gradient passes."""
    own = FakeQuantizedMap().train()
    own(torch.tensor([0.0, 25.5]))
    maps = torch.tensor([1.23, 99.0], requires_grad=True)
    seen = own.eval()(maps)
    torch.testing.assert_close(seen, torch.tensor([1.2, 25.5]))
    seen.sum().backward()
    assert maps.grad is not None
    assert maps.grad.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_learned_range_belongs_to_the_right_tensor(
    shape: str, tiny_detector: Detector, tiny_train: Images, tmp_path: Path
) -> None:
    """Ranges learned from one picture are least and greatest value of the same tensors of the exported file, and every map that
    a rounded convolution reads there has one, but for the picture, which is not rounded."""
    detector = shaped(tiny_detector, SHAPES[shape])
    rounded = rounded_of(detector)
    without_rounding_of_values(rounded.graph)
    picture = as_planes(tiny_train.pixels[0])
    with torch.no_grad():
        rounded.graph.train()(torch.from_numpy(picture))
    export_onnx(detector, tmp_path / "float.onnx", planes=True)
    model = onnx.load(tmp_path / "float.onnx")
    found = tensor_ranges(model, rounded.ranges())
    tail = set(float_parts.float_tail(model))
    read = {node.input[0] for node in model.graph.node if node.op_type == "Conv" and node.name not in tail}
    read |= {node.input[0] for node in model.graph.node if float_parts.predicts(node)}
    assert read - {INPUT_NAME} <= found.keys()
    assert INPUT_NAME not in found
    seen = values(tmp_path / "float.onnx", list(found), writing.as_planes(model, tiny_train.pixels[0]))
    for name, own in found.items():
        assert own == pytest.approx((min(0.0, seen[name].min()), max(0.0, seen[name].max())), rel=1e-3, abs=1e-3), name


def without_rounding_of_values(graph: nn.Module) -> None:
    """Let ranges be learned while values pass untouched, so that they are those of the float file."""
    for module in graph.modules():
        if isinstance(module, FakeQuantizedMap):
            module.register_forward_hook(lambda _module, given, _result: given[0])
        if isinstance(module, FakeQuantizedConv):
            module.__class__ = nn.Conv2d


def values(file: Path, names: list[str], picture: np.ndarray) -> dict[str, np.ndarray]:
    """What the named tensors of an ONNX file hold for a picture, by the reference implementation of ONNX Runtime."""
    import onnxruntime

    model = onnx.load(file)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {INPUT_NAME: picture}), strict=True))


def test_a_factored_network_is_rounded_layer_by_layer(tiny_detector: Detector, workbench: Workbench) -> None:
    """Each thin convolution of a row rounds its weights and what it reads, though only the last of them has a normalisation; only
    the first of all reads the picture, which nobody rounds."""
    factored, _ = factor(lively(tiny_detector), LowRank(energy=0.4, round_to=4, only_if_faster=False), workbench)
    rounded = rounded_of(factored)
    convolutions = [module for module in factored.network().modules() if isinstance(module, nn.Conv2d)]
    assert sum(isinstance(module, FakeQuantizedConv) for module in rounded.graph.modules()) == len(convolutions) - 6
    assert {place("Conv", number, 0) for number in range(1, len(convolutions) - 6)} <= rounded.reads.keys()
    assert place("Conv", 0, 0) not in rounded.reads
