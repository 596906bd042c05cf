"""Graphs of networks, and why some have none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detection.checkpoint import Detector
from detection.family import family_of
from detection.tracing import traced, why_untraceable
from tests.module_factory import module_detector

IMAGES = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Doing(nn.Module):
    """What a function makes of maps and of the module."""

    def __init__(self, does: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.does, self.count = does, 0

    def forward(self, maps: Tensor) -> Any:
        """Whatever it makes."""
        return self.does(self, maps)


def network(does: Callable[[Any, Tensor], Any]) -> nn.Module:
    """A convolution, and after it the function as a module of the name `odd`."""
    whole = nn.Sequential(nn.Conv2d(3, 4, 3))
    whole.add_module("odd", Doing(does))
    return whole


def branching(_: Any, maps: Tensor) -> Tensor:
    """Either of two, by what the maps hold."""
    return maps if maps.sum() > 0 else -maps


def counting(own: Any, maps: Tensor) -> Tensor:
    """Another number at each call."""
    own.count += 1
    return maps + own.count


def keeping(own: Any, maps: Tensor) -> Tensor:
    """The maps, which stay in the module."""
    own.last = [maps]
    return maps


def looping(_: Any, maps: Tensor) -> list[Tensor]:
    """The rows one by one."""
    return [maps[:, :, row] for row in range(maps.shape[2])]


def failing(_: Any, maps: Tensor) -> Tensor:
    """Nothing: the shapes do not fit."""
    return maps @ maps.new_zeros(3, 3)


REASONS = {
    branching: r"^torch\.fx cannot trace control flow on tensor values in odd\.forward \(`return maps if .* else -maps`\)\.$",
    counting: r"^Its torch\.fx trace gives other outputs than the network does\.$",
    keeping: r"^torch\.fx cannot trace odd: it keeps a tensor as its attribute 'last', which a trace does not do\.$",
    failing: r"^It fails on a picture: RuntimeError: .*\.$",
    looping: r"^torch\.fx cannot trace odd\.forward \(`return \[.*\]`\): TypeError: 'Proxy' object cannot be .* integer\.$",
}


@pytest.mark.parametrize("does", REASONS, ids=lambda own: own.__name__)
def test_a_reason_names_the_module_and_its_line(does: Callable[[Any, Tensor], Any]) -> None:
    """What a trace would get wrong is refused, and so is what it cannot follow."""
    reason = why_untraceable(network(does), IMAGES)
    assert reason is not None
    assert re.search(REASONS[does], reason), reason


def test_what_only_differs_between_training_and_use_is_traced_as_both() -> None:
    """The graph is that of the mode that the network is in; a branch on tensors in either of them is a reason."""
    own = network(lambda module, maps: maps + 1 if module.training else maps)
    assert why_untraceable(own, IMAGES) is None
    names = [[str(node.name) for node in traced(own.train(mode)).graph.nodes] for mode in (True, False)]
    assert ["add" in own for own in names] == [True, False]
    refused = network(lambda module, maps: branching(module, maps) if module.training else maps)
    assert "control flow" in (why_untraceable(refused, IMAGES) or "")


def test_hooks_see_what_layers_of_torchs_give() -> None:
    """A layer that a trace does not enter has its hooks run as the others have: what they keep can be a part of the output."""
    caught: list[Any] = []

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.conv.register_forward_hook(lambda _module, _given, result: caught.append(result))

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            result = self.conv(images).relu()
            return result, caught.pop()

    own = Whole()
    with torch.no_grad():
        for mine, right in zip(traced(own)(IMAGES), own(IMAGES), strict=True):
            assert torch.equal(mine, right)


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [
        ("own_points", {"repeats": 2, "brightness": 1.0}, None),
        ("odd_layers", {}, None),
        ("odd_layers", {"branches": True}, "torch.fx cannot trace control flow on tensor values in turned.forward ("),
    ],
)
def test_a_users_module_says_whether_it_can_be_trained_with_rounding(
    name: str, spec: dict[str, Any], reason: str | None, tiny_detector: Detector
) -> None:
    """The reason names their module as they do; asking moves no random numbers."""
    own = module_detector(name, tiny_detector, **spec).spec
    before = torch.random.get_rng_state()
    said = family_of(own).cannot(own).get("qat")
    assert torch.equal(before, torch.random.get_rng_state())
    assert (said is None) == (reason is None), said
    assert reason is None or (said or "").startswith(reason)


def test_maps_to_be_compared_are_in_the_graph(tiny_detector: Detector) -> None:
    """Those of modules and of single layers, normalised or changed in place afterwards: as the network itself catches them."""
    detector = module_detector("odd_layers", tiny_detector)
    images = torch.rand(2, 3, *detector.spec.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, right = traced(detector.network())(images), detector.network()(images)
    assert len(own.maps) == 4
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(own.maps, right.maps, strict=True))
