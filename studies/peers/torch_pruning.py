"""A detector pruned by torch-pruning as its README does, to a share of the multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from detection.checkpoint import Detector, freeze
from detection.costs import count_macs
from detection.data.augmentation import batches
from detection.data.dataset import Images
from detection.edits import axis_of, kind_of
from detection.spec import KeptChannels, LayerWidth, Spec
from studies.peers.chains import Importance, Pruned

ROUND_TO = (8, 4)
"""Channels are rounded to multiples of 8, as the README recommends; to its other recommendation where that misses the share."""
NEAR_ENOUGH = 0.05
"""Of the share of multiply-adds that was asked for."""
TRIALS = 9
"""Of pruning ratios, each halving what is left of the interval."""
GRADIENT_PICTURES = 64
"""Shown to the measures that look at pictures."""
BATCH = 8


class Reduced(NamedTuple):
    """A smaller detector, not trained yet."""

    detector: Detector
    details: dict[str, Any]
    images: int
    """Pictures that went through the network on the way."""


class Seen(NamedTuple):
    """What a measure has to know of pictures, by the names of parameters or modules; empty where it looks at weights alone."""

    gradients: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]
    images: int = 0


def prune(detector: Detector, config: Pruned, train: Images, seed: int) -> Reduced:
    """The detector with the share of its multiply-adds that comes nearest to the one asked for, and how it was reached."""
    seen, macs = look(detector, config.importance, train, seed), count_macs(detector.spec)
    tried: list[tuple[float, float, int, Detector]] = []  # distance, ratio, multiple of channels, what came out
    for round_to in ROUND_TO:
        low, high = 0.0, 1.0
        for _ in range(TRIALS):
            ratio = (low + high) / 2
            found = pruned(detector, config, ratio, round_to, seen, seed)
            share = count_macs(found.spec) / macs
            tried.append((abs(share - config.keep_macs), ratio, round_to, found))
            low, high = (ratio, high) if share > config.keep_macs else (low, ratio)
        best = min(tried, key=lambda own: own[0])
        if best[0] <= NEAR_ENOUGH:
            break
    _, ratio, multiple, found = best
    reached = count_macs(found.spec)
    print(f"{config.label()}: {macs:,} -> {reached:,} multiply-adds, {reached / macs:.3f} of them", flush=True)
    return Reduced(found, {"pruning_ratio": ratio, "round_to": multiple, "keep_macs": reached / macs}, seen.images)


def pruned(detector: Detector, config: Pruned, ratio: float, round_to: int, seen: Seen, seed: int) -> Detector:
    """The detector after one step of torch-pruning's pruner at this ratio of channels."""
    network, family = detector.network(), detector.family
    for name, parameter in network.named_parameters():
        parameter.grad = seen.gradients[name].clone() if name in seen.gradients else None
    for name, activation in seen.activations.items():
        network.get_submodule(name)._importance = activation.clone()  # where the library keeps it
    is_global = config.scope == "isomorphic"
    protected = {network.get_submodule(name) for name in family.protected(network)}
    backbone = backbone_of(network)
    ignored = [
        own for own in network.modules() if own in protected or (backbone and kind_of(own) is not None and own not in backbone)
    ]
    pruner = tp.pruner.BasePruner(
        network,
        torch.zeros(1, 3, *detector.spec.input_size),
        importance=_importance(config.importance, network),
        pruning_ratio=ratio,
        global_pruning=is_global,
        isomorphic=is_global,
        ignored_layers=ignored,
        round_to=round_to,
        output_transform=family.scalar,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for random importance
        pruner.step()
    return freeze(narrowed(detector.spec, detector.network(), network), network)


def backbone_of(network: nn.Module) -> set[nn.Module]:
    """The layers of the backbone where the network attends, none where it is all convolutions.

    The library prunes no detector with attention as a whole (its issue 307 says to ignore all but the backbone): attention reads
    channels by heads of a fixed size, and the next forward would fail.
    """
    if not any(isinstance(own, nn.LayerNorm) for own in network.modules()):
        return set()
    parts = [own for name, own in network.named_modules() if name.split(".")[-1] == "backbone"]
    return {own for part in parts[:1] for own in part.modules()}


def narrowed(spec: Spec, before: nn.Module, after: nn.Module) -> Spec:
    """The spec with one edit more: the widths of all layers that are narrower now."""
    layers = {}
    for (name, old), (_, new) in zip(before.named_modules(), after.named_modules(), strict=True):
        if kind_of(old) is not None and (width := _width(new)) != _width(old):
            layers[name] = width
    return spec.edited(KeptChannels(layers=layers)) if layers else spec


def look(detector: Detector, importance: Importance, train: Images, seed: int) -> Seen:
    """Gradients or activations on training pictures, for the measures that ask for them."""
    if importance not in ("taylor", "hessian", "activation"):
        return Seen({}, {})
    network, family = detector.network(), detector.family
    rows = np.random.default_rng(seed).permutation(len(train))[:GRADIENT_PICTURES]
    if importance == "activation":
        (batch,) = batches(train, rows, len(rows), None, np.random.default_rng(seed))
        with torch.no_grad(), tp.importance.ActivationImportance().compute_importance(network):
            family.raw(network, batch.images)
        return Seen({}, {name: own._importance for name, own in network.named_modules() if hasattr(own, "_importance")}, len(rows))
    sums = {name: torch.zeros_like(parameter) for name, parameter in network.named_parameters()}
    size = 1 if importance == "hessian" else BATCH  # squares are of single pictures
    for batch in batches(train, rows, size, None, np.random.default_rng(seed)):
        network.zero_grad()
        family.learn(network, batch, half=False)[1].backward()  # type: ignore[no-untyped-call]
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                sums[name] += parameter.grad.square() if importance == "hessian" else parameter.grad
    if importance == "hessian":  # torch-pruning 1.6.1 keeps the last of several gradients: it gets their mean square as one
        sums = {name: (own / len(rows)).sqrt() for name, own in sums.items()}
    return Seen(sums, {}, len(rows))


def _importance(name: Importance, network: nn.Module) -> Any:
    kinds: dict[Importance, Callable[[], Any]] = {
        "magnitude-l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
        "magnitude-l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "random": tp.importance.RandomImportance,
        "lamp": tp.importance.LAMPImportance,
        "bn-scale": tp.importance.BNScaleImportance,
        "fpgm": tp.importance.FPGMImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "hessian": tp.importance.GroupHessianImportance,
        "activation": tp.importance.ActivationImportance,
    }
    found = kinds[name]()
    if name == "hessian":
        found.accumulate_grad(network)
    return found


def _width(layer: nn.Module) -> LayerWidth:
    kind = kind_of(layer)
    assert kind is not None, "asked of layers that can be narrowed"
    shape = cast(Tensor, layer.weight).shape
    return LayerWidth(inputs=shape[axis_of(kind, "inputs")], outputs=shape[axis_of(kind, "outputs")])
