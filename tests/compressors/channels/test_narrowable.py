"""Channel groups are tried before anybody counts on them: code may count on widths that a trace does not show."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from compressors.channels.narrowable import narrowable, stirred, tried
from compressors.channels.tracing import channel_groups
from detection.checkpoint import Detector, fresh
from detection.edits import apply_edit
from detection.family import random_start
from detection.spec import Spec
from tests.compressors.channels.foreign_factory import ForeignSettings, foreign_detector, in_the_table

Between = Callable[[Tensor], Tensor]


class Counting(nn.Module):
    """Three convolutions; what lies between the first two may count on the width."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 5, 1)
        self.between = between

    def forward(self, images: Tensor) -> Tensor:
        """Four sides and a score, (B, 5)."""
        return cast(Tensor, self.last(self.second(self.between(self.first(images).relu())).relu()).mean((2, 3)))


READ = "first: something other than a layer reads its channels"
WAYS: dict[str, tuple[Between, str | None]] = {
    "nothing": (lambda maps: maps, None),
    "a scale": (lambda maps: 2 * maps, None),
    "a mean over channels": (lambda maps: maps * maps.mean(1, keepdim=True).sigmoid(), READ),
    "a maximum over channels": (lambda maps: maps - maps.amax(1, keepdim=True), READ),
    "a number": (
        lambda maps: maps.view(-1, 8, 14, 14) * 1.0,
        r"first: code of the network counts on its width \(Runtime",
    ),
    "an end": (lambda maps: nn.functional.pad(maps[:, :4], (0, 0, 0, 0, 0, 4)), r"first: (code of the network|something other)"),
}
"""What stands between -> it, and what is said of the first convolution; None: it can be narrowed."""


@pytest.mark.parametrize("way", WAYS)
def test_what_counts_on_the_width_stays_whole(way: str) -> None:
    """The convolution before it, with the reason; the one behind it is narrowed all the same."""
    between, reason = WAYS[way]
    with in_the_table(**_family_of(between)):
        found = narrowable(Spec(family="foreign", classes=(way,), input_size=(16, 16), settings=ForeignSettings()))
    narrow = {layer for group in found.narrow for layer in group.outputs("conv")}
    if reason is None:
        assert (narrow, dict(found.whole)) == ({"first", "second"}, {})
    else:
        assert (narrow, set(found.whole)) == ({"second"}, {"first"})
        assert re.match(reason, found.whole["first"]), found.whole


def _family_of(between: Between) -> dict[str, Any]:
    """What a family of such networks offers."""

    def build(spec: Spec) -> nn.Module:
        network = Counting(between)
        for edit in spec.edits:
            apply_edit(network, edit)
        return network

    return {
        "build": build, "start": partial(random_start, build), "protected": lambda network: ("last",),
        "decode": lambda network, raw: (raw[:, None, :4], raw[:, None, 4:].sigmoid()),
    }  # fmt: skip


def test_our_own_network_is_narrowed_everywhere(tiny_detector: Detector) -> None:
    """All that was traced can be used, and it is found once."""
    found = narrowable(tiny_detector.spec)
    traced = channel_groups(tiny_detector.network(), tiny_detector.spec)
    assert len(found.narrow) == len(traced.narrow) > 10
    assert not found.whole
    assert narrowable(tiny_detector.spec) is found


def test_a_trial_keeps_what_can_be_narrowed() -> None:
    """Frozen statistics, transposed and fully connected layers: nothing of what was traced is lost."""
    with in_the_table():
        detector = foreign_detector()
        traced = channel_groups(detector.network(), detector.spec)
        found = tried(stirred(fresh(detector.spec, 0)), traced)
    assert found.narrow == traced.narrow
    assert dict(found.whole) == dict(traced.whole)
    assert torch.equal(detector.weights["stem.weight"], foreign_stem()), "a trial changes no detector"


def foreign_stem() -> Tensor:
    """The weights of the foreign detector's first layer, made again."""
    with in_the_table():
        return foreign_detector().weights["stem.weight"]
