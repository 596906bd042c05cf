"""A little detector that is none of ours: bias, frozen statistics, groups, transposed convolutions and fully connected layers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import detection.families
from detection.checkpoint import Detector, fresh
from detection.edits import apply_edit
from detection.family import Family, random_start
from detection.frozen import Frozen
from detection.operators import OperatorCost
from detection.spec import Spec


class FrozenBatchNorm2d(nn.Module):
    """As torchvision's: a batch normalisation whose numbers are buffers."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, start in (("weight", 1.0), ("bias", 0.1), ("running_mean", 0.2), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), start))

    def forward(self, maps: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return maps * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class ForeignSettings(Frozen):
    """What the network is besides its classes."""

    grid: tuple[int, int] = (1, 2)
    """Cells (height, width) that the maps are averaged to before the fully connected layers: one box for the whole picture."""


class ForeignNetwork(nn.Module):
    """One box for the whole picture.

    Some of its layers can be narrowed; those whose maps pass through a convolution or a normalisation in groups stay as they are.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        assert isinstance(spec.settings, ForeignSettings)
        height, width = spec.settings.grid
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.stem_norm = FrozenBatchNorm2d(8, eps=1e-3)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.grouped_norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
        self.lateral = nn.Conv2d(8, 16, 1, 2)
        self.group_norm = nn.GroupNorm(4, 16)
        self.mixed = nn.Conv2d(16, 12, 1)
        self.mixed_norm = nn.GroupNorm(1, 12)
        self.up = nn.ConvTranspose2d(12, 10, 2, 2)
        self.up_norm = nn.BatchNorm2d(10)
        self.depthwise = nn.Conv2d(10, 10, 3, padding=1, groups=10)
        self.side = nn.Conv2d(8, 10, 1)
        self.side_norm = FrozenBatchNorm2d(10, eps=1e-3)
        self.pool = nn.AdaptiveAvgPool2d((height, width))
        self.hidden = nn.Linear(10 * height * width, 14)
        self.predict = nn.Linear(14, len(spec.classes) + 4)
        for edit in spec.edits:
            apply_edit(self, edit)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C + 4): logits of the classes, then the box."""
        x = self.stem_norm(self.stem(images)).relu()
        x = self.grouped_norm(self.grouped(x)).relu()
        coarse = self.group_norm(self.down(x) + self.lateral(x)).relu()
        coarse = self.mixed_norm(self.mixed(coarse)).relu()
        fine = self.depthwise(self.up_norm(self.up(coarse)).relu()) + self.side_norm(self.side(x))
        return self.predict(self.hidden(self.pool(fine.relu()).flatten(1)).relu())


def costs_of(spec: Spec) -> tuple[OperatorCost, ...]:
    """Convolutions and fully connected layers; nothing else has arithmetic worth counting."""
    network, costs = ForeignNetwork(spec).eval(), list[OperatorCost]()

    def count(name: str, layer: Any, inputs: Tensor, output: Tensor) -> None:
        weights = layer.weight.numel()
        positions = inputs.shape[2:] if isinstance(layer, nn.ConvTranspose2d) else output.shape[2:]
        costs.append(
            OperatorCost(
                name=name, kind="conv_other", op_type="Gemm" if isinstance(layer, nn.Linear) else "Conv",
                macs=weights * positions.numel(), input_elements=inputs.numel(), output_elements=output.numel(),
                weight_elements=weights + (0 if layer.bias is None else len(layer.bias)),
                input_channels=inputs.shape[1], output_channels=output.shape[1], predicts=name == "predict",
            )
        )  # fmt: skip

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(lambda own, given, output, name=name: count(name, own, given[0], output))
    with torch.no_grad():
        network(torch.zeros(1, 3, *spec.input_size))
    return tuple(costs)


def decode(_network: nn.Module, raw: Tensor) -> tuple[Tensor, Tensor]:
    """One box, as the network says it, and its scores."""
    return raw[:, None, -4:], raw[:, None, :-4].sigmoid()


def learn(network: nn.Module, batch: Any, *, half: bool, forward: Any = None) -> tuple[Tensor, Tensor]:
    """Something that every weight has a say in."""
    raw = (forward or network)(batch.images)
    return raw, raw.square().mean()


def absent(*_: Any) -> Any:
    """Of what nothing here asks for."""
    raise AssertionError("this family is for pruning and factoring alone")


def cannot(_spec: Spec) -> Mapping[Any, str]:
    return {}


@contextmanager
def in_the_table(**offered: Any) -> Iterator[None]:
    """While entered, the family is one more line of the table of families, with what it offers besides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "FAMILY", replace(FAMILY, **offered))
        patch.setitem(detection.families.FAMILIES, "foreign", __name__)
        yield


FAMILY = Family(
    name="foreign",
    settings=ForeignSettings,
    cannot=cannot,
    label=lambda settings: "foreign",
    stride_px=lambda settings: 4,
    build=ForeignNetwork,
    start=partial(random_start, ForeignNetwork),
    learn=learn,
    raw=lambda network, images: network(images),
    decode=decode,
    points=absent,
    targets=absent,
    refuse_teacher=absent,
    exported=absent,
    select=lambda _spec: "best",
    protected=lambda network: ("predict",),
    scalar=lambda raw: raw.sum(),
    costs=costs_of,
)


def foreign_detector(classes: tuple[str, ...] = ("a", "b")) -> Detector:
    """The detector with weights and statistics that all differ. Its family has to be in the table."""
    start = fresh(Spec(family="foreign", classes=classes, input_size=(64, 96), settings=ForeignSettings()), 0)
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.rand(tensor.shape, generator=generator) + 0.5 if "norm" in name and tensor.is_floating_point() else tensor
        for name, tensor in start.weights.items()
    }
    return Detector(start.spec, weights)
