"""pruning: whole channels that matter least are removed along the dependency graph (DepGraph, arXiv:2301.12900)."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
import torch_pruning as tp
from pydantic import Field
from torch import nn

from compressors.contract import Change, Spent, Workbench, describe
from detection.augmentation import make_batch
from detection.blueprint import Architecture, KeptChannels, LayerWidth
from detection.checkpoint import Detector, freeze
from detection.complexity import count_macs
from detection.frozen import Frozen, InputError, Share
from detection.losses import DetectionLoss
from detection.network import Network
from detection.training import on_device

BISECTIONS = 10
"""Halvings of the interval in which the global ratio is looked for: 0.1 % of the channels."""


class Pruning(Frozen):
    """How much to remove, and by which measure."""

    method: Literal["pruning"] = "pruning"
    importance: Literal["l2", "taylor", "lamp", "random"] = "taylor"
    """`taylor`: squared gradient times weight on training pictures (Molchanov et al. 2019, arXiv:1906.10771)."""
    keep_macs: Share = 0.5
    """Share of multiply-adds that stays."""
    most_removed: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """No layer loses more than this share of its channels."""
    round_to: Annotated[int, Field(ge=1)] = 8
    """Channels stay multiples of this: runtimes compute in blocks, so odd widths cost without helping."""
    gradient_pictures: Annotated[int, Field(ge=1)] = 64
    """Training pictures for `taylor`."""

    def label(self) -> str:
        """The choice in a word, for tables and MLflow params."""
        return f"{self.importance}-{self.keep_macs:g}"

    def search_images(self, train_pictures: int, _val_pictures: int) -> int:
        """Pictures whose gradients are taken."""
        return min(self.gradient_pictures, train_pictures) if self.importance == "taylor" else 0


def prune(detector: Detector, config: Pruning, workbench: Workbench) -> tuple[Detector, Change]:
    """The detector without its least important channels, weights inherited, and what was kept, layer by layer."""
    _refuse_ghosts(detector.blueprint.architecture, config)
    network = detector.network()
    images = _gradients(network, config, workbench) if config.importance == "taylor" else 0
    means = _number_channels(network)
    network = _remove(network, config, workbench.seed)
    kept = _put_means_back(network, means)
    widths = _changed_widths(detector.network(), network)
    after = detector.blueprint.edited(KeptChannels(layers=widths)) if widths else detector.blueprint
    reached = count_macs(after) / count_macs(detector.blueprint)
    stay = f"{reached:.1%} of the multiply-adds stay ({config.keep_macs:.1%} wanted)"
    summary = f"{config.importance}: {len(widths)} layers narrower, {stay}"
    details = {"kept_channels": kept, "importance": config.importance, "keep_macs": reached}
    change = describe("pruning", summary, detector.blueprint, after, details, Spent(search_images=images))
    return Detector(after, freeze(network).weights), change


def _refuse_ghosts(architecture: Architecture, config: Pruning) -> None:
    """torch-pruning scores a ghost block's concatenated halves twice under `taylor`, so the wrong channels would go."""
    blocks = (architecture.backbone_block, architecture.neck_block, architecture.head_block)
    if config.importance == "taylor" and "ghost" in blocks:
        raise InputError(
            "pruning.importance: taylor cannot score ghost blocks; use l2, lamp or random beside lightweight.block: ghost."
        )


def _gradients(network: Network, config: Pruning, workbench: Workbench) -> int:
    """Accumulate the gradients of the detection loss on training pictures; how many were seen.

    The network comes back to the CPU with them: walking the dependency graph gains nothing from an accelerator.
    """
    rng = np.random.default_rng(workbench.seed)
    count = min(config.gradient_pictures, len(workbench.train))
    rows = rng.permutation(len(workbench.train))[:count]
    loss = DetectionLoss()
    network.to(workbench.device).eval()  # the statistics the network will be folded with, and which must not move here
    for start in range(0, count, workbench.recipe.batch_size):
        drawn = make_batch(workbench.train, rows[start : start + workbench.recipe.batch_size], None, rng)
        batch = on_device(drawn, workbench.device)
        loss(network, network(batch.images), batch).backward()  # type: ignore[no-untyped-call]
    network.to("cpu")
    return count


def _remove(network: Network, config: Pruning, seed: int) -> Network:
    """A narrower copy: the least global ratio whose multiply-adds are at most the wanted share, found by bisection.

    Every try is one shot from the same importances. Should the wanted share be out of reach, the narrowest is returned.
    """
    wanted = config.keep_macs * count_macs(network.blueprint)
    if _macs(network) <= wanted:
        return network
    best, most = _at_ratio(network, 0.0, config, seed)
    best, _ = _at_ratio(network, most, config, seed)
    low, high = 0.0, most
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tried, _ = _at_ratio(network, middle, config, seed)
        if _macs(tried) <= wanted:
            best, high = tried, middle
        else:
            low = middle
    return best


def _at_ratio(network: Network, ratio: float, config: Pruning, seed: int) -> tuple[Network, float]:
    """A copy without this share of all channels, and the largest share that the floors leave free."""
    copied = copy.deepcopy(network)
    for own, original in zip(copied.parameters(), network.parameters(), strict=True):
        own.grad = None if original.grad is None else original.grad.clone()  # deepcopy leaves gradients behind
    floored = _Floored(config)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # torch-pruning warns of parameters it leaves alone, which is what we ask of it
        torch.manual_seed(seed)  # RandomImportance draws from the global generator
        tp.pruner.BasePruner(
            copied,
            torch.zeros(1, 3, *network.blueprint.input_size),
            importance=floored,
            global_pruning=True,
            pruning_ratio=ratio,
            ignored_layers=[copied.get_submodule(name) for name in network.protected_layers()],
            round_to=config.round_to,
            output_transform=lambda out: out.score_logits.sum() + out.box_logits.sum(),
        ).step()
    return copied, (floored.free - 0.5) / floored.total


class _Floored:
    """Importances in which the channels that have to stay are infinite.

    One shot of the pruner knows no floor: it empties groups that are unimportant as a whole, and then skips them.
    """

    def __init__(self, config: Pruning) -> None:
        self.config, self.importance = config, _importance(config)
        self.total = self.free = 0

    def __call__(self, group: Any) -> torch.Tensor | None:
        scores = self.importance(group)
        if scores is None:
            return None
        stay = math.ceil(len(scores) * (1 - self.config.most_removed) / self.config.round_to - 1e-9) * self.config.round_to
        stay = min(stay, len(scores))
        scores = scores.clone()
        scores[scores.topk(stay).indices] = torch.inf
        self.total, self.free = self.total + len(scores), self.free + len(scores) - stay
        return cast(torch.Tensor, scores)


def _importance(config: Pruning) -> Any:
    table = {
        "l2": tp.importance.GroupMagnitudeImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "lamp": tp.importance.LAMPImportance,
        "random": tp.importance.RandomImportance,
    }
    return table[config.importance]()


def _macs(network: Network) -> int:
    total = 0

    def add(conv: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += cast(nn.Conv2d, conv).weight.numel() * output.shape[2] * output.shape[3]

    hooks = [m.register_forward_hook(add) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, *network.blueprint.input_size))
    for hook in hooks:
        hook.remove()
    return total


def _number_channels(network: Network) -> dict[str, torch.Tensor]:
    """The running means, taken out and replaced by channel numbers: the pruner carries them along and so tells which stayed."""
    means: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            means[name] = cast(torch.Tensor, module.running_mean).clone()
            module.running_mean = torch.arange(module.num_features, dtype=torch.float32)
    return means


def _put_means_back(network: Network, means: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    """The channels that stayed, by normalisation; their running means are restored."""
    kept: dict[str, list[int]] = {}
    for name, mean in means.items():
        norm = cast(nn.BatchNorm2d, network.get_submodule(name))
        numbers = cast(torch.Tensor, norm.running_mean).long()
        norm.running_mean = mean[numbers]
        kept[name] = numbers.tolist()
    return kept


def _changed_widths(before: Network, after: Network) -> dict[str, LayerWidth]:
    changed: dict[str, LayerWidth] = {}
    for (name, old), new in zip(before.named_modules(), after.modules(), strict=True):
        if isinstance(new, nn.Conv2d) and isinstance(old, nn.Conv2d):
            if (old.in_channels, old.out_channels) != (new.in_channels, new.out_channels):
                changed[name] = LayerWidth(inputs=new.in_channels, outputs=new.out_channels)
        elif isinstance(new, nn.BatchNorm2d) and isinstance(old, nn.BatchNorm2d) and old.num_features != new.num_features:
            changed[name] = LayerWidth(inputs=new.num_features, outputs=new.num_features)
    return changed
