"""Weights for light blocks that are the nearest to the trained dense ones they replace."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detection.checkpoint import Detector, fresh, inherit
from detection.compact.light_weights import light_weights
from detection.compact.network import Network, ResidualBlock
from detection.compact.space import PARTS, light_spec
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from tests.detection.variants import lively

KINDS = ("depthwise", "ghost")


@pytest.fixture(scope="module")
def dense(tiny_detector: Detector) -> Detector:
    """A detector in which no part is neutral."""
    return lively(tiny_detector.spec)


@pytest.fixture(scope="module")
def pictures(tiny_train: Images) -> Tensor:
    """The first eight of the training split."""
    return make_batch(tiny_train, np.arange(8), None, np.random.default_rng(0)).images


def fitted(dense: Detector, block: str, pictures: Tensor) -> Detector:
    """The light detector with the fitted weights, and the dense one's where both are alike."""
    light = fresh(light_spec(dense.spec, block, PARTS), 0)
    found = light_weights(dense.network(), light.network(), [pictures]).weights
    weights = dict(inherit(dense, light).weights)
    return Detector(light.spec, MappingProxyType(weights | {name: own.to(weights[name].dtype) for name, own in found.items()}))


def first_input_and_maps(detector: Detector, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the first dense 3x3 after the stem sees, and its normalised maps before the ReLU."""
    network = detector.network()
    unit = network.get_submodule("stages.0.0")
    assert isinstance(unit, nn.Sequential)
    with torch.no_grad():
        x = network.stem(images)
        return x, unit[1](unit[0](x))


def test_a_pair_is_the_best_product_per_input_channel(dense: Detector, pictures: Tensor) -> None:
    """For each input channel the two kernels multiply to the first term of numpy's SVD of that channel's kernels."""
    light = fitted(dense, "depthwise", pictures)
    spatial, mixing = (light.weights[f"stages.0.0.{part}.0.weight"].double().numpy() for part in (0, 1))
    kernels = dense.weights["stages.0.0.0.weight"].double().numpy()
    for channel in range(kernels.shape[1]):
        u, s, v = np.linalg.svd(kernels[:, channel].reshape(len(kernels), 9), full_matrices=False)
        product = np.outer(mixing[:, channel, 0, 0], spatial[channel, 0].ravel())
        np.testing.assert_allclose(product, s[0] * np.outer(u[:, 0], v[0]), atol=1e-5)


def test_a_separable_block_comes_through_whole(dense: Detector, pictures: Tensor) -> None:
    """A dense kernel that is such a product, with positive responses only, gives the same maps as the pair that replaces it."""
    generator = torch.Generator().manual_seed(1)
    kernel = dense.weights["stages.0.0.0.weight"]
    spatial, mixing = torch.rand(8, 3, 3, generator=generator), torch.randn(len(kernel), 8, generator=generator)
    product = mixing[:, :, None, None] * spatial[None]
    separable = Detector(dense.spec, MappingProxyType(dict(dense.weights) | {"stages.0.0.0.weight": product}))
    light = fitted(separable, "depthwise", pictures)
    x, maps = first_input_and_maps(separable, pictures)
    pair = light.network().get_submodule("stages.0.0")
    with torch.no_grad():
        torch.testing.assert_close(pair(x), maps.relu(), rtol=1e-3, atol=1e-3)


def test_the_norm_between_changes_nothing_at_first(dense: Detector, pictures: Tensor) -> None:
    """In use and in training alike: on the pictures it was made from, what comes out of it is what went in."""
    light = fitted(dense, "depthwise", pictures)
    x, _ = first_input_and_maps(dense, pictures)
    pair = light.network().get_submodule("stages.0.0")
    assert isinstance(pair, nn.Sequential)
    conv, norm = (pair.get_submodule(f"0.{i}") for i in (0, 1))
    with torch.no_grad():
        responses = conv(x)
        torch.testing.assert_close(norm(responses), responses, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(norm.train()(responses), responses, rtol=1e-3, atol=1e-3)
    assert (responses.mean((0, 2, 3)) >= 0).all()


def test_primary_maps_are_the_first_half(dense: Detector, pictures: Tensor) -> None:
    """Of a ghost block the real half gives exactly what the dense block gave."""
    light = fitted(dense, "ghost", pictures)
    x, maps = first_input_and_maps(dense, pictures)
    unit = light.network().get_submodule("stages.0.0")
    with torch.no_grad():
        found = unit(x)
    half = maps.shape[1] // 2
    torch.testing.assert_close(found[:, :half], maps[:, :half].relu())


def test_cheap_maps_are_the_least_squares_fit(dense: Detector, pictures: Tensor) -> None:
    """For the first cheap map numpy's lstsq on the nine neighbours and a one gives the same values before the ReLU."""
    light = fitted(dense, "ghost", pictures)
    x, maps = first_input_and_maps(dense, pictures)
    unit = light.network().get_submodule("stages.0.0")
    half = maps.shape[1] // 2
    with torch.no_grad():
        primary = unit.get_submodule("primary")(x)
        cheap = unit.get_submodule("cheap")
        assert isinstance(cheap, nn.Sequential)
        found = cheap[1](cheap[0](primary))[:, 0].numpy()
    padded = np.pad(maps[:, 0].relu().double().numpy(), ((0, 0), (1, 1), (1, 1)))
    height, width = found.shape[1:]
    shifted = [padded[:, dy : dy + height, dx : dx + width].ravel() for dy in range(3) for dx in range(3)]
    regressors = np.stack([*shifted, np.ones(found.size)], 1)
    solved, *_ = np.linalg.lstsq(regressors, maps[:, half].double().numpy().ravel(), rcond=None)
    np.testing.assert_allclose(found.ravel(), regressors @ solved, atol=1e-3)


@pytest.mark.parametrize("block", KINDS)
def test_every_dense_unit_of_the_parts_is_fitted(block: str, dense: Detector, pictures: Tensor) -> None:
    """By hand: two in each residual block, the step into each of four stages, six in the neck and six in the heads."""
    light = fresh(light_spec(dense.spec, block, PARTS), 0)
    units = light_weights(dense.network(), light.network(), [pictures]).units
    assert len(units) == sum(isinstance(m, ResidualBlock) for m in Network(dense.spec).modules()) * 2 + 4 + 6 + 6


@pytest.mark.parametrize("block", KINDS)
def test_fitted_is_nearer_than_fresh(block: str, dense: Detector, pictures: Tensor, tiny_val: Images) -> None:
    """On val pictures, normalised by the batch as in training, the first unit's maps correlate better with the dense unit's."""
    images = make_batch(tiny_val, np.arange(8), None, np.random.default_rng(0)).images
    x, _ = first_input_and_maps(dense, images)

    def maps(detector: Detector) -> Tensor:
        with torch.no_grad():
            found: Tensor = detector.network().train().get_submodule("stages.0.0")(x)
        return found.flatten()

    wanted = maps(dense)
    light = fitted(dense, block, pictures)
    near, far = (torch.corrcoef(torch.stack([maps(own), wanted]))[0, 1] for own in (light, fresh(light.spec, 0)))
    assert near > far + 0.1


@pytest.mark.parametrize("block", KINDS)
def test_batches_add_up(block: str, dense: Detector, pictures: Tensor) -> None:
    """Four pictures at a time or all at once: sums over pictures and points do not depend on where they are cut."""
    light = fresh(light_spec(dense.spec, block, PARTS), 0)
    whole, halves = (
        light_weights(dense.network(), light.network(), batches).weights for batches in ([pictures], torch.split(pictures, 4))
    )
    assert whole.keys() == halves.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(halves[name].float(), tensor.float(), rtol=1e-3, atol=1e-4, msg=name)


def test_both_networks_stay_as_they_were(dense: Detector, pictures: Tensor) -> None:
    """No weight, no statistic and no hook is left behind."""
    light = fresh(light_spec(dense.spec, "ghost", PARTS), 0)
    networks = dense.network(), light.network()
    light_weights(*networks, [pictures])
    for network, own in zip(networks, (dense, light), strict=True):
        assert all(torch.equal(tensor, own.weights[name]) for name, tensor in network.state_dict().items())
        assert not any(module._forward_hooks for module in network.modules())


def test_units_that_were_light_before_are_not_fitted(dense: Detector, pictures: Tensor) -> None:
    """A ghost detector made depthwise has no dense blocks to learn from."""
    ghost = fitted(dense, "ghost", pictures)
    light = fresh(light_spec(ghost.spec, "depthwise", PARTS), 0)
    assert light_weights(ghost.network(), light.network(), [pictures]) == ({}, [])
