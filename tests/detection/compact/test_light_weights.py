"""Weights for light blocks: each unit fitted by least squares to the dense one it replaces, from what reaches it."""

from __future__ import annotations

from types import MappingProxyType
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detection.boxes import Array
from detection.checkpoint import Detector, fresh, inherit
from detection.compact.light_weights import _fits, light_weights
from detection.compact.network import Network, ResidualBlock
from detection.compact.space import PARTS, light_spec
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.family import LightWeights
from detection.separable_fit import as_computed
from tests.detection.variants import lively

KINDS = ("depthwise", "ghost")
STRIDED, INNER, LATE = "stages.0.0", "stages.0.1.reduce", "neck.downs.1"
"""The first unit after the stem, which steps by two; one behind it, which does not; and one behind many, which steps."""


@pytest.fixture(scope="module")
def dense(tiny_detector: Detector) -> Detector:
    """A detector in which no part is neutral."""
    return lively(tiny_detector.spec)


@pytest.fixture(scope="module")
def pictures(tiny_train: Images) -> Tensor:
    """The first eight of the training split."""
    return make_batch(tiny_train, np.arange(8), None, np.random.default_rng(0)).images


@pytest.fixture(scope="module")
def light(dense: Detector, pictures: Tensor) -> dict[str, Detector]:
    """The detector in light blocks of each kind, fitted."""
    return {block: fitted(dense, copied(dense, block), pictures) for block in KINDS}


def copied(dense: Detector, block: str, parts: tuple[str, ...] = PARTS) -> Detector:
    """The light detector, drawn from a seed, with the dense weights where both are alike."""
    return inherit(dense, fresh(light_spec(dense.spec, block, parts), 0))


def found_for(dense: Detector, start: Detector, pictures: Tensor) -> LightWeights:
    """What is fitted in the light detector."""
    return light_weights(dense.network(), start.network(), [pictures])


def fitted(dense: Detector, start: Detector, pictures: Tensor) -> Detector:
    """The light detector with all that is fitted in it."""
    return having(start, found_for(dense, start, pictures).weights)


def having(detector: Detector, weights: dict[str, Tensor] | MappingProxyType[str, Tensor]) -> Detector:
    """The detector with some other weights."""
    return Detector(detector.spec, MappingProxyType({**detector.weights, **weights}))


def reaching(detector: Detector, name: str, images: Tensor) -> Tensor:
    """What a module of the detector is given."""
    network, given = detector.network(), list[Tensor]()
    network.get_submodule(name).register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    with torch.no_grad():
        network(images)
    return given[0]


def wanted(dense: Detector, name: str, images: Tensor) -> Tensor:
    """The normalised maps of a dense unit, before the ReLU."""
    return reaching(dense, f"{name}.2", images)


def rows(maps: Tensor) -> Array:
    """(B, C, height, width) -> (C, places), float64."""
    return maps.detach().double().transpose(0, 1).flatten(1).numpy()


def layers(unit: Detector, name: str) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The depthwise and the 1x1 convolution of a pair."""
    pair = cast(nn.Sequential, unit.network().get_submodule(name))
    return cast(nn.Conv2d, pair[0]), cast(nn.Conv2d, cast(nn.Sequential, pair[1])[0])


def error_of(maps: Tensor, goal: Tensor) -> float:
    """Mean squared difference about the means of the channels, which the normalisation sets."""
    difference = rows(goal) - rows(maps)
    return float((difference - difference.mean(1, keepdims=True)).__pow__(2).mean())


def error_of_pair(spatial: Tensor, mixing: Tensor, conv: nn.Conv2d, x: Tensor, goal: Tensor) -> float:
    """The error of a pair with these kernels, computed by convolutions in float64; the first steps like this one."""
    between = nn.functional.conv2d(x.double(), spatial.double(), stride=conv.stride, padding=1, groups=conv.groups)
    return error_of(nn.functional.conv2d(between, mixing.double()), goal)


def separable(dense: Detector) -> Detector:
    """The detector with a product of one spatial kernel and one column per input channel in place of each 3x3 but the stem's."""
    generator, weights = torch.Generator().manual_seed(1), {}
    for name, kernel in dense.weights.items():
        if kernel.ndim == 4 and kernel.shape[2] == 3 and not name.startswith("stem"):
            spatial, mixing = (torch.randn(size, generator=generator) for size in ((kernel.shape[1], 3, 3), kernel.shape[:2]))
            weights[name] = mixing[:, :, None, None] * spatial * (2 / kernel[0].numel()) ** 0.5
    return having(dense, weights)


def test_separable_kernels_come_through_whole(dense: Detector, pictures: Tensor, tiny_val: Images) -> None:
    """A network whose dense kernels are such products all through says the same in depthwise pairs; its first unit, which has seen
    enough places, on other pictures too."""
    given = separable(dense)
    network, pairs = given.network(), fitted(given, copied(given, "depthwise"), pictures).network()
    x = reaching(given, STRIDED, make_batch(tiny_val, np.arange(8), None, np.random.default_rng(0)).images)
    with torch.no_grad():
        for own, other in zip(network(pictures)[:2], pairs(pictures)[:2], strict=True):
            torch.testing.assert_close(other, own, rtol=0, atol=0.03 * own.std().item())
        own, other = (unit.get_submodule(STRIDED)(x) for unit in (network, pairs))
        torch.testing.assert_close(other, own, rtol=0, atol=0.01 * own.std().item())


@pytest.mark.parametrize("name", [STRIDED, INNER, LATE])
def test_the_1x1_of_a_pair_is_the_least_squares_fit(
    name: str, dense: Detector, light: dict[str, Detector], pictures: Tensor
) -> None:
    """By numpy's lstsq: of the dense maps, on the depthwise responses to what reaches the pair in the light network, and a one."""
    depthwise, mixing = layers(light["depthwise"], name)
    goal, x = wanted(dense, name, pictures), reaching(light["depthwise"], name, pictures)
    with torch.no_grad():
        regressors = np.vstack([rows(depthwise(x)), np.ones(rows(goal).shape[1])]).T
        solved, *_ = np.linalg.lstsq(regressors, rows(goal).T, rcond=None)
        least = float(((regressors @ solved - rows(goal).T) ** 2).mean())
        assert least <= error_of(mixing(depthwise(x)), goal) < 1.001 * least


@pytest.mark.parametrize("name", [STRIDED, INNER, LATE])
def test_a_pair_is_better_than_where_it_began(name: str, dense: Detector, light: dict[str, Detector], pictures: Tensor) -> None:
    """Than the first terms of numpy's SVDs, as they are and with the 1x1 solved for by numpy."""
    depthwise, mixing = layers(light["depthwise"], name)
    goal, x = wanted(dense, name, pictures), reaching(light["depthwise"], name, pictures)
    kernels = dense.weights[f"{name}.0.weight"].double().numpy()
    norm = cast(nn.BatchNorm2d, dense.network().get_submodule(f"{name}.1"))
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double().numpy()  # type: ignore[operator]
    spatial, columns = np.empty((kernels.shape[1], 1, 3, 3)), np.empty(kernels.shape[:2])
    for channel in range(kernels.shape[1]):
        u, s, v = np.linalg.svd(kernels[:, channel].reshape(len(kernels), 9), full_matrices=False)
        spatial[channel], columns[:, channel] = v[0].reshape(1, 3, 3), scale * s[0] * u[:, 0]
    start = torch.from_numpy(spatial)
    with torch.no_grad():
        between = nn.functional.conv2d(x.double(), start, stride=depthwise.stride, padding=1, groups=depthwise.groups)
    regressors = np.vstack([rows(between), np.ones(rows(goal).shape[1])]).T
    solved, *_ = np.linalg.lstsq(regressors, rows(goal).T, rcond=None)
    began = [error_of_pair(start, torch.from_numpy(own)[..., None, None], depthwise, x, goal) for own in (columns, solved[:-1].T)]
    assert error_of_pair(depthwise.weight, mixing.weight, depthwise, x, goal) < 0.95 * began[1] < began[0]


@pytest.mark.parametrize("name", [STRIDED, INNER, LATE])
def test_nothing_near_a_pair_is_better(name: str, dense: Detector, light: dict[str, Detector], pictures: Tensor) -> None:
    """Twenty random changes of either kernel, by a hundredth and by a tenth of its size: none has a smaller error."""
    depthwise, mixing = layers(light["depthwise"], name)
    goal, x = wanted(dense, name, pictures), reaching(light["depthwise"], name, pictures)
    generator = torch.Generator().manual_seed(0)

    def near(kernel: Tensor, share: float) -> Tensor:
        change = torch.randn(kernel.shape, generator=generator)
        return kernel + share * change * kernel.norm() / change.norm()

    with torch.no_grad():
        least = error_of_pair(depthwise.weight, mixing.weight, depthwise, x, goal)
        for share in [0.01] * 10 + [0.1] * 10:
            for first, second in ((share, 0.0), (0.0, share)):
                kernels = near(depthwise.weight, first), near(mixing.weight, second)
                assert error_of_pair(*kernels, depthwise, x, goal) > least


def test_primary_maps_are_the_first_half(dense: Detector, light: dict[str, Detector], pictures: Tensor) -> None:
    """Of a ghost block the real half gives exactly what the dense block gave."""
    maps = wanted(dense, STRIDED, pictures)
    unit, half = light["ghost"].network().get_submodule(STRIDED), maps.shape[1] // 2
    with torch.no_grad():
        found = unit(reaching(dense, STRIDED, pictures))
    torch.testing.assert_close(found[:, :half], maps[:, :half].relu())


@pytest.mark.parametrize("name", [STRIDED, INNER, LATE])
def test_cheap_maps_are_the_least_squares_fit(name: str, dense: Detector, light: dict[str, Detector], pictures: Tensor) -> None:
    """For each, numpy's lstsq on the nine neighbours in its primary map, as the light network has it, and a one gives the same
    values before the ReLU."""
    maps = wanted(dense, name, pictures)
    half, primary = maps.shape[1] // 2, reaching(light["ghost"], f"{name}.cheap", pictures)
    found = reaching(light["ghost"], f"{name}.cheap.2", pictures)
    height, width = found.shape[2:]
    for channel in range(half):
        padded = np.pad(primary[:, channel].double().numpy(), ((0, 0), (1, 1), (1, 1)))
        shifted = [padded[:, dy : dy + height, dx : dx + width].ravel() for dy in range(3) for dx in range(3)]
        regressors, goal = np.stack([*shifted, np.ones(padded[:, 1:-1, 1:-1].size)], 1), maps[:, half + channel].double().numpy()
        solved, *_ = np.linalg.lstsq(regressors, goal.ravel(), rcond=None)
        np.testing.assert_allclose(found[:, channel].numpy().ravel(), regressors @ solved, atol=0.01 * goal.std())


@pytest.mark.parametrize(("block", "layer"), [("depthwise", "1"), ("ghost", "cheap")])
@pytest.mark.parametrize("training", [False, True], ids=["in use", "in training"])
def test_the_normalisation_changes_nothing_but_the_mean(
    training: bool, block: str, layer: str, dense: Detector, light: dict[str, Detector], pictures: Tensor
) -> None:
    """On the pictures it was made from the responses are moved to the mean of the dense maps, and keep their size."""
    for name in (STRIDED, INNER, LATE):
        responses, goal = reaching(light[block], f"{name}.{layer}.1", pictures), wanted(dense, name, pictures)
        norm = light[block].network().get_submodule(f"{name}.{layer}.1").train(training)
        mean = goal.mean((0, 2, 3), keepdim=True)[:, -responses.shape[1] :]
        with torch.no_grad():
            expected = responses - responses.mean((0, 2, 3), keepdim=True) + mean
            torch.testing.assert_close(norm(responses), expected, rtol=1e-3, atol=1e-3 * expected.std().item())


@pytest.mark.parametrize("block", KINDS)
def test_a_later_unit_mends_what_an_earlier_one_lost(block: str, dense: Detector, pictures: Tensor) -> None:
    """Where the neck of the light network is damaged, heads fitted in it are nearer to the dense ones than heads that were fitted
    to what the dense network's neck makes."""
    whole, name = copied(dense, block, ("head",)), "heads.0.score_branch.0"
    kernel = dense.weights["neck.top_down.0.0.weight"]
    noise = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(3)) * kernel.std()
    damaged, goal = having(whole, {"neck.top_down.0.0.weight": kernel + noise}), wanted(dense, name, pictures)
    assert torch.equal(reaching(whole, name, pictures), reaching(dense, name, pictures))
    before_relu, fitted_maps = (f"{name}.1.2", 16) if block == "depthwise" else (f"{name}.cheap.2", 8)
    errors = []
    for fit_in in (damaged, whole):
        heads = having(damaged, found_for(dense, fit_in, pictures).weights)
        difference = reaching(heads, before_relu, pictures) - goal[:, -fitted_maps:]
        errors.append(float(difference.square().mean()))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("block", KINDS)
def test_a_second_fit_changes_nothing(block: str, dense: Detector, light: dict[str, Detector], pictures: Tensor) -> None:
    """Each unit was fitted when all before it had been: in the network that came out, every unit would be fitted the same."""
    again = fitted(dense, light[block], pictures)
    assert again.weights.keys() == light[block].weights.keys()
    for name, own in light[block].weights.items():
        torch.testing.assert_close(again.weights[name], own, rtol=1e-4, atol=1e-5, msg=name)


def test_units_are_fitted_in_the_order_of_computation(dense: Detector, pictures: Tensor) -> None:
    """By hand: stage by stage, down the pyramid from the coarse levels, up again step and fusion by turns, then the heads."""
    network = dense.network()
    stages = [f"stages.{stage}.{unit}" for stage in range(4) for unit in ("0", "1.reduce", "1.expand")]
    neck = [f"neck.{unit}" for unit in ("top_down.1", "top_down.0", "downs.0", "bottom_up.0", "downs.1", "bottom_up.1")]
    heads = [f"heads.{level}.{branch}_branch.0" for level in range(3) for branch in ("score", "box")]
    fits = _fits(network, copied(dense, "depthwise").network())
    assert as_computed(network, {name: fit.dense for name, fit in fits.items()}, pictures[:1]) == stages + neck + heads


@pytest.mark.parametrize("block", KINDS)
def test_every_dense_unit_of_the_parts_is_fitted(block: str, dense: Detector, pictures: Tensor) -> None:
    """By hand: two in each residual block, the step into each of four stages, six in the neck and six in the heads."""
    units = found_for(dense, copied(dense, block), pictures).units
    assert len(units) == sum(isinstance(m, ResidualBlock) for m in Network(dense.spec).modules()) * 2 + 4 + 6 + 6


@pytest.mark.parametrize("block", KINDS)
def test_fitted_is_nearer_than_fresh(block: str, dense: Detector, light: dict[str, Detector], tiny_val: Images) -> None:
    """On val pictures, normalised by the batch as in training, the first unit's maps correlate better with the dense unit's."""
    images = make_batch(tiny_val, np.arange(8), None, np.random.default_rng(0)).images
    x = reaching(dense, STRIDED, images)

    def maps(detector: Detector) -> Tensor:
        with torch.no_grad():
            found: Tensor = detector.network().train().get_submodule(STRIDED)(x)
        return found.flatten()

    near, far = (torch.corrcoef(torch.stack([maps(own), maps(dense)]))[0, 1] for own in (light[block], fresh(light[block].spec, 0)))
    assert near > far + 0.1


@pytest.mark.parametrize("block", KINDS)
def test_batches_add_up(block: str, dense: Detector, light: dict[str, Detector], pictures: Tensor) -> None:
    """Three pictures at a time or all at once: sums over pictures and points do not depend on where they are cut."""
    found = light_weights(dense.network(), copied(dense, block).network(), torch.split(pictures, 3)).weights
    assert found.keys() <= light[block].weights.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, light[block].weights[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("block", KINDS)
def test_both_networks_stay_as_they_were(block: str, dense: Detector, pictures: Tensor) -> None:
    """No weight, no statistic and no hook is left behind."""
    given = dense, copied(dense, block)
    networks = [own.network() for own in given]
    light_weights(*networks, [pictures])
    for network, own in zip(networks, given, strict=True):
        assert all(torch.equal(tensor, own.weights[name]) for name, tensor in network.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_units_that_were_light_before_are_not_fitted(light: dict[str, Detector], pictures: Tensor) -> None:
    """A ghost detector made depthwise has no dense blocks to learn from; nor has a depthwise one made ghost."""
    for before, block in (("ghost", "depthwise"), ("depthwise", "ghost"), ("depthwise", "depthwise")):
        start = copied(light[before], block)
        assert found_for(light[before], start, pictures) == ({}, [])
