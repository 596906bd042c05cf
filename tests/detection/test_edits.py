"""Edits of any network, layer by layer: which layers may become narrower, into what, and which stay whole and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.low_rank.decompose import decompose
from detection.compact.network import Network
from detection.edits import LayerKind, apply_edit, axis_of, factored, is_frozen_norm, kind_of, why_whole
from detection.frozen import InputError
from detection.spec import Factored, KeptChannels, LayerWidth, Ranks, full_ranks
from tests.detection.variants import PLAIN


class FrozenBatchNorm2d(nn.Module):
    """As torchvision's and transformers': a batch normalisation whose numbers are buffers."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, maps: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return maps * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class ChannelsFirstNorm(nn.LayerNorm):
    """As torchvision's LayerNorm2d: over the channels of maps."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


Make = Callable[[], nn.Module]
MAPS, ROWS = (2, 8, 9, 10), (2, 5, 8)
"""What goes in: maps of 8 channels, or rows of 8 features."""
NARROW: dict[str, tuple[Make, LayerKind, tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(8, 12, 3, 2, 1), "conv", MAPS),
    "conv without bias": (lambda: nn.Conv2d(8, 12, 3, bias=False), "conv", MAPS),
    "1x1": (lambda: nn.Conv2d(8, 12, 1), "conv", MAPS),
    "flat kernel": (lambda: nn.Conv2d(8, 12, (1, 3), (1, 2), (0, 1)), "conv", MAPS),
    "dilated": (lambda: nn.Conv2d(8, 12, 3, padding=2, dilation=2), "conv", MAPS),
    "reflecting": (lambda: nn.Conv2d(8, 12, 3, padding=1, padding_mode="reflect"), "conv", MAPS),
    "as large as before": (lambda: nn.Conv2d(8, 12, 3, padding="same"), "conv", MAPS),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), "depthwise", MAPS),
    "dilated depthwise": (lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), "depthwise", MAPS),
    "transposed": (lambda: nn.ConvTranspose2d(8, 12, 3, 2, 1, output_padding=1), "transposed", MAPS),
    "transposed without bias": (lambda: nn.ConvTranspose2d(8, 12, 4, 2, 1, bias=False), "transposed", MAPS),
    "transposed depthwise": (lambda: nn.ConvTranspose2d(8, 8, 2, 2, groups=8), "depthwise", MAPS),
    "linear": (lambda: nn.Linear(8, 12), "linear", ROWS),
    "linear without bias": (lambda: nn.Linear(8, 12, bias=False), "linear", ROWS),
    "batch norm": (lambda: nn.BatchNorm2d(8, eps=1e-3, momentum=0.03), "norm", MAPS),
    "frozen batch norm": (lambda: FrozenBatchNorm2d(8, eps=1e-3), "norm", MAPS),
    "layer norm": (lambda: nn.LayerNorm(8, eps=1e-6), "norm", ROWS),
    "layer norm without bias": (lambda: nn.LayerNorm(8, bias=False), "norm", ROWS),
    "layer norm of maps": (lambda: ChannelsFirstNorm(8, eps=1e-6), "norm", MAPS),
    "group norm of one group": (lambda: nn.GroupNorm(1, 8, eps=1e-6), "norm", MAPS),
}
WHOLE: dict[str, tuple[Make, str]] = {
    "grouped": (lambda: nn.Conv2d(8, 12, 3, groups=4), "a convolution in 4 groups would have to lose the same channels in each"),
    "two for each channel": (lambda: nn.Conv2d(8, 16, 3, groups=8), "a convolution in 8 groups would have to"),
    "grouped transposed": (lambda: nn.ConvTranspose2d(8, 12, 3, groups=2), "a convolution in 2 groups would have to"),
    "group norm": (lambda: nn.GroupNorm(4, 8), "a normalisation in 4 groups would normalise other channels together"),
    "layer norm over whole maps": (lambda: nn.LayerNorm((8, 9, 10)), "cannot be narrowed"),
    "batch norm without weights": (lambda: nn.BatchNorm2d(8, affine=False), "cannot be narrowed"),
    "layer norm without weights": (lambda: nn.LayerNorm(8, elementwise_affine=False), "cannot be narrowed"),
    "group norm without weights": (lambda: nn.GroupNorm(1, 8, affine=False), "cannot be narrowed"),
    "1d conv": (lambda: nn.Conv1d(8, 12, 3), "Conv1d layers cannot be narrowed"),
    "1d batch norm": (lambda: nn.BatchNorm1d(8), "BatchNorm1d layers cannot be narrowed"),
    "instance norm": (lambda: nn.InstanceNorm2d(8, affine=True), "InstanceNorm2d layers cannot be narrowed"),
    "attention": (lambda: nn.MultiheadAttention(8, 2), "MultiheadAttention layers cannot be narrowed"),
    "embedding": (lambda: nn.Embedding(8, 12), "Embedding layers cannot be narrowed"),
    "bilinear": (lambda: nn.Bilinear(8, 8, 4), "Bilinear layers cannot be narrowed"),
}
OPTIONS = (
    "kernel_size", "stride", "padding", "dilation", "padding_mode", "output_padding", "eps", "momentum", "affine",
    "track_running_stats", "elementwise_affine", "num_groups",
)  # fmt: skip
"""What a layer is besides its widths."""


def edited(layer: nn.Module, inputs: int, outputs: int) -> nn.Module:
    """The layer after an edit that names it, two folders deep in a network."""
    network = nn.Sequential(nn.ReLU(), nn.ModuleDict({"part": nn.Sequential(layer, nn.ReLU())}))
    apply_edit(network, KeptChannels(layers={"1.part.0": LayerWidth(inputs=inputs, outputs=outputs)}))
    return network.get_submodule("1.part.0")


@pytest.mark.parametrize("name", NARROW)
def test_what_can_be_narrowed_is_named_by_its_kind(name: str) -> None:
    """The kind decides which dimension of the weight belongs to which end: its length is the layer's width there."""
    make, kind, shape = NARROW[name]
    layer = make()
    assert kind_of(layer) == kind
    channels = shape[1] if len(shape) == 4 else shape[2]
    weight: Any = layer.weight
    assert weight.shape[axis_of(kind, "inputs")] == channels
    assert weight.shape[axis_of(kind, "outputs")] == (channels if kind in ("norm", "depthwise") else 12)


@pytest.mark.parametrize("name", WHOLE)
def test_what_cannot_be_narrowed_says_why(name: str) -> None:
    """In the words that stand in the record of a pruning."""
    make, reason = WHOLE[name]
    layer = make()
    assert kind_of(layer) is None
    assert reason in why_whole(layer)


@pytest.mark.parametrize("name", NARROW)
def test_a_narrower_layer_is_the_same_but_for_its_widths(name: str) -> None:
    """Class, geometry, padding, bias or none, constants of normalisations; it computes on as many channels as it was given."""
    make, kind, shape = NARROW[name]
    before = make()
    inputs, outputs = (5, 5) if kind in ("norm", "depthwise") else (5, 7)
    after = edited(make(), inputs, outputs)
    assert type(after) is type(before)
    for option in OPTIONS:
        assert getattr(after, option, None) == getattr(before, option, None), option
    shapes = {key: list(tensor.shape) for key, tensor in before.state_dict().items()}
    if kind in ("norm", "depthwise"):
        shapes = {key: [5, *own[1:]] if own else own for key, own in shapes.items()}
    else:
        axes = axis_of(kind, "inputs"), axis_of(kind, "outputs")
        shapes["weight"][axes[0]], shapes["weight"][axes[1]] = inputs, outputs
        if "bias" in shapes:
            shapes["bias"] = [outputs]
    assert {key: list(tensor.shape) for key, tensor in after.state_dict().items()} == shapes
    narrow = (shape[0], 5, *shape[2:]) if len(shape) == 4 else (*shape[:2], 5)
    wide, thin = before(torch.zeros(shape)).shape, after(torch.zeros(narrow)).shape
    channel_axis = 1 if len(shape) == 4 else 2
    assert thin[channel_axis] == outputs
    assert [size for axis, size in enumerate(thin) if axis != channel_axis] == [
        size for axis, size in enumerate(wide) if axis != channel_axis
    ]


@pytest.mark.parametrize("name", NARROW)
def test_an_edit_to_the_same_widths_takes_the_same_weights(name: str) -> None:
    """Loaded with what the layer had it computes what the layer computed: no constant and no padding is lost."""
    make, kind, shape = NARROW[name]
    generator = torch.Generator().manual_seed(0)
    before = make().eval()
    state = {
        key: torch.rand(tensor.shape, generator=generator) + 0.5 if tensor.is_floating_point() else tensor
        for key, tensor in before.state_dict().items()
    }
    before.load_state_dict(state)
    after = edited(make(), 8, 8 if kind in ("norm", "depthwise") else 12).eval()
    after.load_state_dict(state)
    given = torch.randn(shape, generator=generator) * 0.01  # small, so that an epsilon counts
    with torch.no_grad():
        torch.testing.assert_close(after(given), before(given), rtol=0, atol=0)


def test_frozen_normalisations_are_known_by_their_name() -> None:
    """torchvision and transformers each have a class of their own; neither is imported for this."""

    class DetrFrozenBatchNorm2d(FrozenBatchNorm2d):
        pass

    assert is_frozen_norm(FrozenBatchNorm2d(4))
    assert is_frozen_norm(DetrFrozenBatchNorm2d(4))
    assert not is_frozen_norm(nn.BatchNorm2d(4))


def test_edits_change_the_named_layers_and_no_others() -> None:
    """The other layers are the very same objects."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    before = list(network)
    apply_edit(network, KeptChannels(layers={"0": LayerWidth(inputs=3, outputs=6), "1": LayerWidth(inputs=6, outputs=6)}))
    assert [own is given for own, given in zip(network, before, strict=True)] == [False, False, True]


FACTORABLE: dict[str, tuple[Callable[[], nn.Conv2d | nn.Linear], tuple[int, ...], bool]] = {
    "3x3 by Tucker-2": (lambda: nn.Conv2d(8, 12, 3, 2, 1), MAPS, True),
    "3x3 without bias by Tucker-2": (lambda: nn.Conv2d(8, 12, 3, 1, 1, bias=False), MAPS, True),
    "flat kernel by Tucker-2": (lambda: nn.Conv2d(8, 12, (1, 3), (1, 2), (0, 1)), MAPS, True),
    "3x3 by spatial SVD": (lambda: nn.Conv2d(8, 12, 3, 2, 1), MAPS, False),
    "flat kernel by spatial SVD": (lambda: nn.Conv2d(8, 12, (3, 1), (2, 1), (1, 0)), MAPS, False),
    "1x1": (lambda: nn.Conv2d(8, 12, 1), MAPS, False),
    "1x1 without bias": (lambda: nn.Conv2d(8, 12, 1, bias=False), MAPS, False),
    "linear": (lambda: nn.Linear(8, 12), ROWS, False),
    "linear without bias": (lambda: nn.Linear(8, 12, bias=False), ROWS, False),
}


def row_of(layer: nn.Conv2d | nn.Linear, ranks: Ranks) -> nn.Module:
    """What an edit makes of a layer, with its weights decomposed into the row and its bias in the last."""
    network = nn.Sequential(layer)
    apply_edit(network, Factored(layers={"0": ranks}))
    parts = decompose(layer.weight, ranks)
    weights = {f"0.{part}.weight": value for part, value in enumerate(parts)}
    if layer.bias is not None:
        weights[f"0.{len(parts) - 1}.bias"] = layer.bias.detach()
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize("name", FACTORABLE)
def test_at_full_rank_the_row_computes_what_the_layer_did(name: str) -> None:
    """Stride, padding and bias included, within 1e-5 of the greatest."""
    make, shape, two = FACTORABLE[name]
    generator = torch.Generator().manual_seed(0)
    layer = make()
    layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
    if layer.bias is not None:
        layer.bias.data = torch.randn(layer.bias.shape, generator=generator)
    row, given = row_of(layer, full_ranks(layer.weight.shape, two)), torch.randn(shape, generator=generator)
    with torch.no_grad():
        dense = layer(given)
        torch.testing.assert_close(row(given), dense, rtol=0, atol=1e-5 * float(dense.abs().max()))


@pytest.mark.parametrize(
    ("name", "ranks", "shapes"),
    [
        ("3x3 by Tucker-2", Ranks(inputs=3, outputs=5), [(3, 8, 1, 1), (5, 3, 3, 3), (12, 5, 1, 1)]),
        ("flat kernel by Tucker-2", Ranks(inputs=3, outputs=5), [(3, 8, 1, 1), (5, 3, 1, 3), (12, 5, 1, 1)]),
        ("3x3 by spatial SVD", Ranks(inputs=None, outputs=4), [(4, 8, 3, 1), (12, 4, 1, 3)]),
        ("1x1", Ranks(inputs=None, outputs=4), [(4, 8, 1, 1), (12, 4, 1, 1)]),
        ("linear", Ranks(inputs=None, outputs=4), [(4, 8), (12, 4)]),
        ("linear without bias", Ranks(inputs=None, outputs=4), [(4, 8), (12, 4)]),
    ],
)
def test_below_full_rank_the_row_is_thin(name: str, ranks: Ranks, shapes: list[tuple[int, ...]]) -> None:
    """The kernels' shapes by hand; only the last has the bias, and what comes out is as large as before."""
    make, shape, _ = FACTORABLE[name]
    layer = make()
    (row,) = row_of(layer, ranks).children()
    assert isinstance(row, nn.Sequential)
    parts: list[Any] = list(row)
    assert [tuple(part.weight.shape) for part in parts] == shapes
    assert [part.bias is not None for part in parts] == [False] * (len(parts) - 1) + [layer.bias is not None]
    assert row(torch.zeros(shape)).shape == layer(torch.zeros(shape)).shape


@pytest.mark.parametrize(("kernel", "ranks", "parts"), [(3, Ranks(inputs=4, outputs=5), 3), (1, Ranks(inputs=None, outputs=5), 2)])
def test_factors_have_the_geometry_of_the_whole(kernel: int, ranks: Ranks, parts: int) -> None:
    """The same output size, stride and all; the kernel and the stride are the middle one's, the bias the last one's."""
    stride = 2 if kernel == 3 else 1
    whole = nn.Conv2d(8, 12, kernel, stride, kernel // 2)
    factors = factored(whole, ranks)
    assert len(factors) == parts
    assert factors(torch.zeros(1, 8, 15, 20)).shape == whole(torch.zeros(1, 8, 15, 20)).shape
    assert [factor.bias is not None for factor in factors] == [False] * (parts - 1) + [True]


def test_ranks_above_full_are_refused() -> None:
    """24 channels go into this convolution, so 25 are too many: the message names the edit's layer and side."""
    edit = Factored(layers={"stages.3.0.0": Ranks(inputs=25, outputs=8)})
    with pytest.raises(InputError, match=r"edits\.layers\.stages\.3\.0\.0\.inputs: rank 25 is above full, which is 24"):
        Network(PLAIN.edited(edit))
    with pytest.raises(InputError, match=r"edits\.layers\.0\.outputs: rank 9 is above full, which is 8"):
        apply_edit(nn.Sequential(nn.Linear(8, 12)), Factored(layers={"0": Ranks(inputs=None, outputs=9)}))
