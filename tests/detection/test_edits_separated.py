"""The edit that makes depthwise pairs of dense convolutions: which layers it takes, into what, and what later edits do to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from detection.edits import apply_edit, separated
from detection.frozen import InputError
from detection.spec import Factored, KeptChannels, LayerWidth, Ranks, Separated

MAPS = (2, 8, 9, 10)
SEPARABLE: dict[str, Callable[[], nn.Conv2d]] = {
    "3x3": lambda: nn.Conv2d(8, 12, 3, 2, 1),
    "3x3 without bias": lambda: nn.Conv2d(8, 12, 3, 1, 1, bias=False),
    "flat kernel": lambda: nn.Conv2d(8, 12, (1, 5), (1, 2), (0, 2)),
    "dilated": lambda: nn.Conv2d(8, 12, 3, padding=2, dilation=2),
    "reflecting": lambda: nn.Conv2d(8, 12, 3, padding=1, padding_mode="reflect"),
    "as large as before": lambda: nn.Conv2d(8, 12, 4, padding="same", bias=False),
    "even": lambda: nn.Conv2d(8, 12, 2, 2),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", SEPARABLE)
def test_a_depthwise_pair_has_the_geometry_of_the_whole(name: str) -> None:
    """With a kernel that is the product of the pair's, and the pair's bias, the dense layer computes the same."""
    network = nn.Sequential(SEPARABLE[name]())
    whole: Any = network[0]
    apply_edit(network, Separated(layers=("0",)))
    pair: Any = network[0]
    assert [type(part) for part in pair] == [nn.Conv2d, nn.Conv2d]
    assert (pair[0].groups, pair[0].bias, pair[1].kernel_size, pair[1].groups) == (8, None, (1, 1), 1)
    assert (pair[1].bias is None) is (whole.bias is None)
    whole.weight.data = pair[1].weight.data * pair[0].weight.data.transpose(0, 1)
    given = torch.randn(MAPS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(pair(given), whole(given))  # a fresh pair begins with the layer's bias


def test_a_fresh_pair_makes_maps_as_large_as_the_fresh_layer() -> None:
    """Torch's own initialisation of two layers would give a third of the variance; zeros stay zeros."""
    torch.manual_seed(0)
    whole, given = nn.Conv2d(64, 64, 3, padding=1, bias=False), torch.randn(4, 64, 12, 12)
    with torch.no_grad():
        assert 0.8 < float(separated(whole)(given).std() / whole(given).std()) < 1.25
        nn.init.zeros_(whole.weight)
        assert not separated(whole)(given).any()


class Standardised(nn.Conv2d):
    """Computes something else with its weights."""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Conv2d(8, 12, 1), "a 1x1 convolution has no spatial kernel"),
        (lambda: nn.Conv2d(8, 8, 3, groups=8), "a convolution in 8 groups is not dense"),
        (lambda: nn.ConvTranspose2d(8, 8, 3), "ConvTranspose2d is no plain convolution"),
        (lambda: Standardised(8, 8, 3), "Standardised is no plain convolution"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)), "ParametrizedConv2d is no plain convolution"),
        (nn.Identity, "Identity is no plain convolution"),
    ],
)
def test_only_dense_kernels_become_pairs(make: Callable[[], nn.Module], reason: str) -> None:
    """The message names the layer, what it is, and what may stand there."""
    with pytest.raises(InputError, match=rf"edits\.layers: 0: {reason}.*; only dense convolutions wider than 1x1 .* Leave it out"):
        apply_edit(nn.Sequential(make()), Separated(layers=("0",)))
    with pytest.raises(InputError, match=r"edits\.layers: head: the network has no such layer"):
        apply_edit(nn.Sequential(make()), Separated(layers=("head",)))


def test_later_edits_name_the_parts_of_a_pair() -> None:
    """The depthwise one and the 1x1 are narrowed like any other layer, and the 1x1 is factored."""
    network = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12))
    apply_edit(network, Separated(layers=("0",)))
    narrow = {"0.0": (5, 5), "0.1": (5, 9), "1": (9, 9)}
    apply_edit(network, KeptChannels(layers={name: LayerWidth(inputs=a, outputs=b) for name, (a, b) in narrow.items()}))
    apply_edit(network, Factored(layers={"0.1": Ranks(inputs=None, outputs=3)}))
    shapes = {name: tuple(own.shape) for name, own in network.state_dict().items() if name.startswith("0")}
    assert shapes == {"0.0.weight": (5, 1, 3, 3), "0.1.0.weight": (3, 5, 1, 1), "0.1.1.weight": (9, 3, 1, 1), "0.1.1.bias": (9,)}
    assert network(torch.zeros(MAPS)[:, :5]).shape == (2, 9, 5, 5)


def test_a_layer_with_several_names_is_replaced_under_each() -> None:
    """Parts of a network that share a layer still do."""
    network = nn.ModuleDict({"head": nn.Conv2d(8, 8, 3)})
    network["levels"] = nn.ModuleList([network["head"], nn.ReLU(), network["head"]])
    apply_edit(network, Separated(layers=("levels.2",)))
    assert isinstance(network["head"], nn.Sequential)
    assert all(network.get_submodule(f"levels.{level}") is network["head"] for level in (0, 2))
