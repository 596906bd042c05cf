"""Counts of parameters and multiply-adds, against hand numbers, torch's own counter, and the exported file."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detection.compact.architecture import Architecture, architecture_of
from detection.compact.costs import DECODING, _through
from detection.compact.network import Network
from detection.costs import count_macs, count_params, operator_costs
from detection.export import PREDICTIONS
from detection.spec import Factored, Ranks, Spec
from tests.detection.variants import PLAIN, VARIANTS


def test_one_convolution_by_hand() -> None:
    """The stem: 3x3, 3 -> 8 channels, 64 x 96 pixels to 32 x 48; its normalisation folds into 8 biases."""
    stem = operator_costs(PLAIN)[0]
    assert (stem.name, stem.kind) == ("stem.0", "conv_other")
    assert stem.macs == 3 * 3 * 3 * 8 * 32 * 48 == 331_776
    assert stem.weight_elements == 3 * 3 * 3 * 8 + 8 == 224
    assert (stem.input_elements, stem.output_elements) == (3 * 64 * 96, 8 * 32 * 48)
    assert (stem.input_channels, stem.output_channels) == (3, 8)


@pytest.mark.parametrize(
    ("variant", "name", "kind", "macs", "weights"),
    [
        ("dense", "stages.0.1.reduce.0", "conv3x3s1", 9 * 16 * 8 * 16 * 24, 9 * 16 * 8 + 8),
        ("dense", "stages.1.0.0", "conv_other", 9 * 16 * 16 * 8 * 12, 9 * 16 * 16 + 16),  # stride 2
        ("dense", "neck.laterals.2.0", "conv1x1", 32 * 16 * 2 * 3, 32 * 16 + 16),
        ("dense", "heads.0.score:matmul", "conv1x1", 16 * 3 * 8 * 12, 16 * 3 + 3),  # a bias of its own, no normalisation
        ("short", "heads.1.score+box:matmul", "conv1x1", 16 * 19 * 4 * 6, 16 * 19 + 19),  # both from one branch
        ("depthwise", "stages.0.1.reduce.0", "depthwise", 9 * 16 * 16 * 24, 9 * 16),  # the normalisation is behind the 1x1
        ("depthwise", "stages.0.1.reduce.1.0", "conv1x1", 16 * 8 * 16 * 24, 16 * 8 + 8),
        ("short", "stem.0", "conv_other", 4 * 4 * 3 * 8 * 16 * 24, 4 * 4 * 3 * 8 + 8),  # 4x4 at stride 4: each pixel once
        ("ghost", "stages.0.1.reduce.cheap.0", "depthwise", 9 * 4 * 16 * 24, 9 * 4 + 4),
        ("pruned", "stages.2.1.reduce.0", "conv3x3s1", 9 * 24 * 5 * 4 * 6, 9 * 24 * 5 + 5),
        ("factored", "stages.3.0.0.0", "conv1x1", 24 * 6 * 4 * 6, 24 * 6),  # no normalisation behind it: no bias
        ("factored", "stages.3.0.0.1", "conv_other", 9 * 6 * 7 * 2 * 3, 9 * 6 * 7),  # the stride is here
        ("factored", "stages.3.0.0.2", "conv1x1", 7 * 32 * 2 * 3, 7 * 32 + 32),
    ],
)
def test_convolutions_of_every_kind_by_hand(variant: str, name: str, kind: str, macs: int, weights: int) -> None:
    """Kernel area times channels in (per group) and out times places; weights, and a bias where one is folded or owned."""
    found = next(cost for cost in operator_costs(VARIANTS[variant]) if cost.name == name)
    assert (found.kind, found.macs, found.weight_elements) == (kind, macs, weights)


def test_an_unknown_layer_does_not_count_as_nothing() -> None:
    """Whoever adds a kind of module to the network is told that its cost is missing."""
    with pytest.raises(AssertionError, match="what a Linear costs is not known"):
        _through([], "heads.0.score", nn.Linear(2, 2), (2, 1, 1))


@pytest.mark.parametrize("name", VARIANTS)
def test_multiply_adds_are_half_of_torchs_flops(name: str) -> None:
    """torch.utils.flop_counter counts two operations for each multiply-add of each convolution."""
    network = Network(VARIANTS[name]).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 96))
    assert 2 * count_macs(VARIANTS[name]) == counter.get_total_flops()


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_those_of_the_exported_file(name: str, exported: dict[str, Path]) -> None:
    """Kernels and biases of all convolutions and predictions in the ONNX file, where normalisations are folded, add up to the
    count."""
    graph = onnx.load(exported[name]).graph
    sizes = {tensor.name: int(torch.Size(tensor.dims).numel()) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "Conv" or node.name.startswith(PREDICTIONS)]
    assert count_params(VARIANTS[name]) == sum(sizes.get(parameter, 0) for node in layers for parameter in node.input)
    counted = [cost for cost in operator_costs(VARIANTS[name]) if not cost.name.startswith(DECODING)]
    assert sum(node.op_type != "Add" for node in layers) == sum(cost.kind != "other" for cost in counted)


def test_operators_that_add_do_not_multiply() -> None:
    """One addition per residual block and fusion of two levels, a resize on the way down, a turn before each of six predictions; no
    multiply-adds, no weights."""
    moving = {cost.name: cost for cost in operator_costs(PLAIN) if cost.kind == "other" and not cost.name.startswith(DECODING)}
    assert sum(name.endswith(":add") for name in moving) == 4 + 2 + 2
    assert sum(name.endswith(":resize") for name in moving) == 2
    assert sum(name.endswith(":transpose") for name in moving) == 6
    assert len(moving) == 16
    assert all(cost.macs == cost.weight_elements == 0 for cost in moving.values())
    first = moving["stages.0.1:add"]
    assert (first.input_elements, first.output_elements) == (2 * 16 * 16 * 24, 16 * 16 * 24)


def test_decoding_by_hand() -> None:
    """64 x 96 pixels have 96 + 24 + 6 points; exponentials of 4 sides of 4 bins, and a product for two sums of each side."""
    decoding = [cost for cost in operator_costs(PLAIN) if cost.name.startswith(DECODING)]
    bins = architecture_of(PLAIN).box_bins
    exponentials = next(cost for cost in decoding if cost.name.endswith(":exp"))
    assert exponentials.output_elements == 126 * 4 * bins
    assert decoding[-1].output_elements == 126 * len(PLAIN.classes)
    (product,) = [cost for cost in decoding if cost.macs]
    assert (product.macs, product.output_elements) == (126 * 8 * 4 * bins, 126 * 8)
    assert count_macs(PLAIN) == sum(cost.macs for cost in operator_costs(PLAIN)) - product.macs


@pytest.mark.parametrize("name", ["depthwise", "ghost", "factored-expand"])
def test_additions_do_not_depend_on_the_kind_of_block(name: str) -> None:
    """Pairs, ghosts and factored rows are added once, like the dense convolution they stand for."""
    factored = PLAIN.edited(Factored(layers={"stages.2.1.expand.0": Ranks(inputs=4, outputs=4)}))
    spec = factored if name == "factored-expand" else VARIANTS[name]
    moved = [sum(cost.output_elements for cost in operator_costs(own) if cost.name.endswith(":add")) for own in (PLAIN, spec)]
    assert moved[0] == moved[1]


def test_a_larger_input_costs_more_and_weighs_the_same() -> None:
    """Four times the pixels: four times the multiply-adds, the same parameters."""
    small, large = (Spec(classes=("a",), input_size=size, settings=Architecture()) for size in ((96, 128), (192, 256)))
    assert count_macs(large) == 4 * count_macs(small)
    assert count_params(large) == count_params(small)
