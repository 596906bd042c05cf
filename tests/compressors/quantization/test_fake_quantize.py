"""The network as int8 will see it: folding changes nothing, rounding is that of the runtimes, and all of it leads back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from compressors.contract import Workbench
from compressors.low_rank import LowRank, factor
from compressors.quantization.fake_quantize import FakeQuantizedNetwork, fake_quantized
from compressors.quantization.rounding import ROUNDED, FakeQuantizedConv, FakeQuantizedMap, FakeQuantizedWeight, FixedNorm
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture
from detection.data.dataset import Images
from detection.evaluation import as_planes
from tests.module_factory import module_detector

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


MODULES = ("own_points", "odd_layers")


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


def exact(graph: nn.Module) -> None:
    """Let every rounding pass on what it gets."""
    plain = {rounded: own for own, rounded in ROUNDED.items()}
    for module in graph.modules():
        if isinstance(module, FakeQuantizedMap | FakeQuantizedWeight):
            module.forward = lambda own: own  # type: ignore[method-assign]
        module.__class__ = plain.get(type(module), type(module))


def detector_of(kind: str, like: Detector) -> Detector:
    """One of our own by its shape, or a user's by its file."""
    return shaped(like, SHAPES[kind]) if kind in SHAPES else lively(module_detector(kind, like))


def said(network: nn.Module, pixels: torch.Tensor) -> list[torch.Tensor]:
    """All tensors of what the network says."""
    with torch.no_grad():
        return list(pytree.tree_leaves(network(pixels)))


@pytest.mark.parametrize("kind", [*SHAPES, *MODULES])
def test_without_its_rounding_it_is_the_network(kind: str, tiny_detector: Detector, tiny_train: Images) -> None:
    """Normalisations are folded into the convolutions: outputs agree to float32 rounding, for every kind of block."""
    detector = detector_of(kind, tiny_detector)
    rounded = rounded_of(detector)
    exact(rounded.graph)
    pixels = torch.from_numpy(as_planes(tiny_train.pixels[0]))
    for mine, theirs in zip(said(rounded.graph.eval(), pixels), said(detector.network(), pixels), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert not [module for module in rounded.graph.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("kind", [*SHAPES, *MODULES])
def test_the_way_back_gives_a_detector_that_says_the_same(kind: str, tiny_detector: Detector, tiny_train: Images) -> None:
    """Folded weights fit the same spec: normalisations multiply by one and add the bias."""
    detector = detector_of(kind, tiny_detector)
    back = rounded_of(detector).detector(detector)
    assert back.spec == detector.spec
    assert {name: tensor.shape for name, tensor in back.weights.items()} == {n: t.shape for n, t in detector.weights.items()}
    pixels = torch.from_numpy(as_planes(tiny_train.pixels[0]))
    for mine, theirs in zip(said(back.network(), pixels), said(detector.network(), pixels), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert back.digest != detector.digest


def test_only_predictions_keep_float_weights(tiny_detector: Detector) -> None:
    """Every convolution rounds its weights but the six that predict; the stem too where it is to stay float."""
    protected = tiny_detector.family.protected(tiny_detector.network())
    for float_stem in (False, True):
        graph = rounded_of(tiny_detector, float_stem).graph
        plain = {name for name, module in graph.named_modules() if type(module) is nn.Conv2d}
        assert plain == {*protected, *(["stem.0"] if float_stem else [])}


def test_a_factored_network_is_rounded_layer_by_layer(tiny_detector: Detector, workbench: Workbench) -> None:
    """Each thin convolution of a row rounds its weights and what it reads, though only the last of them has a normalisation; only
    the first of all reads the picture, which nobody rounds."""
    factored, _ = factor(lively(tiny_detector), LowRank(energy=0.4, round_to=4, only_if_faster=False), workbench)
    rounded = rounded_of(factored)
    convolutions = [module for module in factored.network().modules() if isinstance(module, nn.Conv2d)]
    assert sum(isinstance(module, FakeQuantizedConv) for module in rounded.graph.modules()) == len(convolutions) - 6
    layers = {name for name, module in rounded.graph.named_modules() if isinstance(module, nn.Conv2d)}
    read = [node.all_input_nodes[0] for node in rounded.graph.graph.nodes if node.target in layers]
    assert len(read) == len(convolutions)
    assert [node.target for node in read if node.target not in rounded.roundings.values()] == ["images"]


def test_layers_of_every_kind_are_rounded(tiny_detector: Detector) -> None:
    """Of the odd module: weights of all products but the last two, a convolution whose weight is computed included; a convolution
    that runs twice, one under two names, and norms before, behind a transposed one or of its own kind keep their statistics."""
    rounded = rounded_of(module_detector("odd_layers", tiny_detector))
    kinds = {name: type(module).__name__ for name, module in rounded.graph.named_modules()}
    rounding = {name.removeprefix("network."): kind for name, kind in kinds.items() if kind.startswith("FakeQuantized")}
    products = {name: kind for name, kind in rounding.items() if kind != FakeQuantizedMap.__name__}
    assert products == {
        "stem.0": "FakeQuantizedConv",
        "rounded_weight_conv2d": "FakeQuantizedWeight",
        "down": "FakeQuantizedConv",
        "deep.0": "FakeQuantizedConv",
        "shared": "FakeQuantizedConv",
        "enlarge": "FakeQuantizedTransposed",
        "gated.gate": "FakeQuantizedLinear",
        "twice.0": "FakeQuantizedConv",
    }
    fixed = {name.removeprefix("network.") for name, kind in kinds.items() if kind == FixedNorm.__name__}
    assert fixed == {"norm", "before", "norms.0", "norms.1", "enlarged", "twice.1"}
    assert rounded.folded == {"network.stem.1": "network.stem.0"}


def test_what_is_learned_reaches_all_names_of_a_layer(tiny_detector: Detector) -> None:
    """One layer under two names has one weight, and so has the detector; its fixed statistics stay."""
    detector = lively(module_detector("odd_layers", tiny_detector))
    rounded = rounded_of(detector)
    with torch.no_grad():
        for parameter in rounded.graph.parameters():
            parameter.add_(1)
    back = rounded.detector(detector)
    for part in ("0.weight", "0.bias", "1.weight"):
        before = detector.weights[f"network.again.{part}"]  # what is loaded last
        for name in ("twice", "again"):
            torch.testing.assert_close(back.weights[f"network.{name}.{part}"], before + 1)
    assert torch.equal(back.weights["network.norm.running_var"], detector.weights["network.norm.running_var"])
