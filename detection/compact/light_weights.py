"""Weights for light blocks from the dense ones they replace, fitted to what those make of training pictures.

Unit by unit, in the order in which the network computes them, each is fitted to the maps of the dense unit, from what reaches it in
the light network so far: a later unit mends what earlier ones lost, as in channel pruning (arXiv:1707.06168, section 3.2). All fits
are least squares.

Depthwise-separable pairs are fitted as `detection.separable_fit` says. Of a ghost block the primary maps are the first half of the
dense block's, and each cheap map is the best 3x3 of its primary map for one of the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detection.compact.network import GhostUnit
from detection.family import LightWeights
from detection.separable_fit import (
    Moments,
    Sums,
    as_computed,
    decoupled,
    on_the_diagonal,
    patches_of,
    products_for,
    ridged,
    seen,
    set_weights,
)


def light_weights(dense: nn.Module, light: nn.Module, batches: Sequence[Tensor]) -> LightWeights:
    """Weights for the light units that take the place of dense ones, fitted on images; both networks stay.

    Images are (B, 3, height, width), where the networks are; the light network has the dense one's weights where both are alike.
    Units that were light before are not among the fitted.
    """
    light = copy.deepcopy(light)
    fits = _fits(dense, light)
    for name in as_computed(dense, {name: fit.dense for name, fit in fits.items()}, batches[0][:1]):
        fit = fits[name]
        for images in batches:
            (reaching, _), (_, maps) = seen(light, images, fit.light)[0], seen(dense, images, fit.dense[1])[0]
            fit.look(reaching, maps)
        fit.finish()
    return LightWeights({f"{unit}.{name}": own for unit in fits for name, own in fits[unit].light.state_dict().items()}, list(fits))


def _fits(dense: nn.Module, light: nn.Module) -> dict[str, _Fit]:
    """Name of each light unit that takes the place of a dense one -> how its weights are found."""
    fits: dict[str, _Fit] = {}
    modules = dict(dense.named_modules())
    for name, unit in light.named_modules():
        match modules.get(name):
            case nn.Sequential() as before if len(before) and isinstance(before[0], nn.Conv2d) and before[0].groups == 1:
                if isinstance(unit, GhostUnit):
                    fits[name] = _GhostFit(before, unit)
                elif isinstance(unit, nn.Sequential) and isinstance(unit[1], nn.Sequential):
                    fits[name] = _PairFit(before, unit)
    return fits


class _Fit(Protocol):
    """How the weights of one light unit are found."""

    @property
    def dense(self) -> nn.Sequential:
        """The unit that is replaced: convolution, normalisation, ReLU."""
        ...

    @property
    def light(self) -> nn.Module:
        """The unit in its place."""
        ...

    def look(self, x: Tensor, maps: Tensor) -> None:
        """Add up what the fit needs: what reaches the light unit, and the maps of the dense one before its ReLU."""
        ...

    def finish(self) -> None:
        """Give the light unit its weights."""
        ...


class _PairFit:
    """A depthwise convolution and a 1x1 for one dense convolution."""

    def __init__(self, dense: nn.Sequential, light: nn.Sequential) -> None:
        self.dense, self.light, self.sums = dense, light, Sums()

    def look(self, x: Tensor, maps: Tensor) -> None:
        """As `_Fit` says."""
        conv = cast(nn.Conv2d, self.dense[0])
        for own, goal in zip(x, maps, strict=True):  # one by one: patches take nine times the memory of maps
            self.sums.add(patches_of(conv, own), goal.flatten(1))

    def finish(self) -> None:
        """As `_Fit` says."""
        moments = self.sums.moments()
        start, _ = decoupled(cast(nn.Conv2d, self.dense[0]).weight)
        spatial, mixing = products_for(moments._replace(covariance=ridged(moments.covariance)), start)
        depthwise, pointwise = cast(nn.Conv2d, self.light[0]), cast(nn.Sequential, self.light[1])
        set_weights(depthwise, spatial)
        set_weights(cast(nn.Conv2d, pointwise[0]), mixing)
        _normalise(cast(nn.BatchNorm2d, pointwise[1]), mixing @ on_the_diagonal(spatial), moments)


class _GhostFit:
    """Primary maps as they are, cheap ones fitted to the rest."""

    def __init__(self, dense: nn.Sequential, light: GhostUnit) -> None:
        self.dense, self.light, self.sums = dense, light, Sums()
        self.kept = len(cast(nn.Conv2d, light.primary[0]).weight)
        first = {name: own if own.ndim == 0 else own[: self.kept] for name, own in dense.state_dict().items()}
        light.primary.load_state_dict(first)

    def look(self, x: Tensor, maps: Tensor) -> None:
        """As `_Fit` says."""
        cheap = maps.shape[1] - self.kept
        with torch.no_grad():
            primary = self.light.primary(x)[:, :cheap]
        neighbours = F.unfold(primary.flatten(0, 1)[:, None], 3, padding=1)  # (B * cheap, 9, points)
        neighbours = torch.unflatten(neighbours, 0, (-1, cheap)).permute(1, 2, 0, 3).flatten(2)  # (cheap, 9, B * points)
        self.sums.add(neighbours, maps[:, self.kept :].transpose(0, 1).flatten(1)[:, None])

    def finish(self) -> None:
        """As `_Fit` says."""
        moments = self.sums.moments()
        kernels = torch.linalg.solve(ridged(moments.covariance), moments.with_goal)[..., 0]  # (cheap, 9)
        set_weights(cast(nn.Conv2d, self.light.cheap[0]), kernels)
        _normalise(cast(nn.BatchNorm2d, self.light.cheap[1]), kernels, moments._replace(goal_mean=moments.goal_mean[:, 0]))


def _normalise(norm: nn.BatchNorm2d, weights: Tensor, moments: Moments) -> None:
    """Set a normalisation after convolutions of these weights (G, R): it changes nothing but the mean, which is the goals'.

    So it does in use and, by what passes through it, in training.
    """
    mean = (weights * moments.mean).sum(-1)
    variance = (weights[..., None, :] @ moments.covariance @ weights[..., :, None])[..., 0, 0]
    found = {"running_mean": mean, "running_var": variance, "weight": (variance + norm.eps).sqrt(), "bias": moments.goal_mean}
    norm.load_state_dict({**norm.state_dict(), **found})
