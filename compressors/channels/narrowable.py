"""Which of the traced groups a network can really be narrowed by: each is tried, since code may count channels unseen by a trace.

`self.width`, a fixed slice, a mean over channels, a view into heads: what is traced does not show them. So a part of the channels
is taken out, and the result has to predict what the whole network does where everyone who reads these channels reads zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from compressors.channels.groups import ChannelGroup, Groups, kept_of_sides, without
from compressors.channels.tracing import channel_groups
from detection.checkpoint import Detector, fresh
from detection.spec import Spec

NOISE = 0.05
"""Standard deviation of what is added to every parameter: zeros and ones that an initialisation leaves would hide mistakes."""
TOLERANCE = 0.01
"""Share of what silencing the channels changes by which the narrower network's predictions may differ from the silenced one's."""
ROUNDING = 1e-5
"""Share of the largest prediction that is rounding."""


def narrowable(spec: Spec) -> Groups:
    """What of a detector can be narrowed, tried out, and what has to stay with the reasons; found once per spec and process."""
    return _narrowable(spec.model_dump_json(by_alias=True))


@lru_cache(maxsize=16)
def _narrowable(spec_json: str) -> Groups:
    detector = stirred(fresh(Spec.model_validate_json(spec_json), 0))
    return tried(detector, channel_groups(detector.network(), detector.spec))


def tried(detector: Detector, found: Groups) -> Groups:
    """The groups without those by which this detector cannot be narrowed; these join what stays whole, with the reason.

    Each is tried alone, then all together that passed; only where these fail, one is added after the other.
    """
    network = detector.network()
    if why_not(detector, found.narrow, network) is None:
        return found
    narrow, whole = list[ChannelGroup](), dict(found.whole)

    def passes(group: ChannelGroup, others: Sequence[ChannelGroup]) -> bool:
        """Whether the group can be narrowed with these others; the reason why not is kept."""
        reason = why_not(detector, [*others, group], network)
        if reason is not None:
            layers = sorted(side.layer for side in group.sides if side.end == "outputs")
            whole.update(dict.fromkeys(layers, f"{layers[0]}: {reason}"))
        return reason is None

    passed = [group for group in found.narrow if passes(group, ())]
    if not passed or why_not(detector, passed, network) is None:
        return Groups(tuple(passed), MappingProxyType(whole))
    for group in passed:
        narrow += [group] if passes(group, narrow) else []
    return Groups(tuple(narrow), MappingProxyType(whole))


def why_not(detector: Detector, groups: Sequence[ChannelGroup], whole: nn.Module | None = None) -> str | None:
    """Why the detector cannot be narrowed by all of these groups; None where it can. `whole` is its network, made where not given.

    Tried with two parts, so that every unit goes once: what reads the largest channel alone does not notice that others have gone.
    """
    network = detector.network() if whole is None else whole
    return next((reason for other in (False, True) if (reason := _why_not(detector, network, groups, other)) is not None), None)


def _why_not(detector: Detector, whole: nn.Module, groups: Sequence[ChannelGroup], other: bool) -> str | None:
    kept = [_some(group.units, number, other) for number, group in enumerate(groups)]
    picture = torch.rand(1, 3, *detector.spec.input_size, generator=torch.Generator().manual_seed(0))
    before = _predictions(detector, whole, picture)
    with _Silenced(detector, whole, groups, kept):
        right = _predictions(detector, whole, picture)
    narrower = without(detector, groups, kept)
    try:
        found = _predictions(narrower, narrower.network(), picture)
    except Exception as error:  # whatever a network's own code raises
        told = (str(error).splitlines() or [""])[0]
        return f"code of the network counts on its width ({type(error).__name__}: {told})"
    if [own.shape for own in found] != [own.shape for own in right]:
        return "the network predicts at other points with fewer channels"
    if _normalises_channels(whole, groups):
        return None  # what is left is normalised without what went, so there is nothing to compare with
    for own, goal, full in zip(found, right, before, strict=True):
        allowed = TOLERANCE * (full - goal).abs().max() + ROUNDING * goal.abs().max()
        if not bool((own - goal).abs().max() <= allowed):
            return "something other than a layer reads its channels, such as a mean over them or a slice with fixed ends"
    return None


class _Silenced:
    """While entered, all who read a unit of the groups that does not stay read zeros."""

    def __init__(self, detector: Detector, network: nn.Module, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> None:
        stays = kept_of_sides(detector, groups, kept)
        self.readers = {network.get_submodule(side.layer): rows for side, rows in stays.items() if side.end == "inputs"}
        self.hooks: list[Any] = []

    def __enter__(self) -> None:
        self.hooks = [module.register_forward_pre_hook(self._silence) for module in self.readers]

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _silence(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        axis = -1 if isinstance(module, nn.Linear) else 1
        shape = [1] * inputs[0].ndim
        shape[axis] = -1
        mask = torch.zeros(inputs[0].shape[axis])
        mask[self.readers[module]] = 1
        return (inputs[0] * mask.view(shape), *inputs[1:])


def _some(units: int, number: int, other: bool) -> Tensor:
    """Five eighths of the units, at random, since a half may fit by chance; the other time all that went are among them."""
    order = torch.randperm(units, generator=torch.Generator().manual_seed(number))
    return (order.flip(0) if other else order)[: max(1, units * 5 // 8)].sort().values


def stirred(detector: Detector) -> Detector:
    """The detector with noise on every parameter, the same each time."""
    generator, learned = torch.Generator().manual_seed(0), dict(detector.network().named_parameters())
    weights = {
        name: tensor + NOISE * torch.randn(tensor.shape, generator=generator) if name in learned else tensor
        for name, tensor in detector.weights.items()
    }
    return Detector(detector.spec, MappingProxyType(weights))


def _predictions(detector: Detector, network: nn.Module, picture: Tensor) -> tuple[Tensor, ...]:
    """What a set predictor says in any order: rounding alone may exchange two of its queries."""
    family = detector.family
    with torch.no_grad():
        raw = family.raw(network, picture)
        said = family.decode(network, raw)
        if family.select(detector.spec) == "best":
            said = (said[0].sort(1).values, said[1].sort(1).values)
        return (*said, family.scalar(raw))


def _normalises_channels(network: nn.Module, groups: Sequence[ChannelGroup]) -> bool:
    layers = {side.layer for group in groups for side in group.sides if side.kind == "norm"}
    return any(isinstance(network.get_submodule(layer), nn.GroupNorm | nn.LayerNorm) for layer in layers)
