"""Light blocks that begin as the nearest to the trained dense ones they replace."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from detection.checkpoint import Detector
from detection.compact.network import Network, ResidualBlock
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from tests.detection.variants import lively

PICTURES = 8
KINDS = ("depthwise", "ghost")


def config(block: str, **changes: object) -> Lightweight:
    return Lightweight.model_validate({"block": block, "weights": "inherited", "inheritance_pictures": PICTURES, **changes})


@pytest.fixture(scope="module")
def dense(tiny_detector: Detector) -> Detector:
    """A detector in which no part is neutral."""
    return lively(tiny_detector.blueprint)


@pytest.fixture(scope="module")
def bench(workbench: Workbench, dense: Detector) -> Workbench:
    return replace(workbench, teacher=dense)


@pytest.fixture(scope="module")
def pictures(tiny_train: Images) -> Tensor:
    """The eight pictures that a workbench with seed 0 looks at."""
    rows = np.random.default_rng((0, 5)).permutation(len(tiny_train))[:PICTURES]
    return make_batch(tiny_train, rows, None, np.random.default_rng(0)).images


def first_input_and_maps(detector: Detector, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the first dense 3x3 after the stem sees, and its normalised maps before the ReLU."""
    network = detector.network()
    unit = network.get_submodule("stages.0.0")
    assert isinstance(unit, nn.Sequential)
    with torch.no_grad():
        x = network.stem(images)
        return x, unit[1](unit[0](x))


def test_a_pair_is_the_best_product_per_input_channel(dense: Detector, bench: Workbench) -> None:
    """For each input channel the two kernels multiply to the first term of numpy's SVD of that channel's kernels."""
    light, _ = rebuild(dense, config("depthwise"), bench)
    spatial, mixing = (light.weights[f"stages.0.0.{part}.0.weight"].double().numpy() for part in (0, 1))
    kernels = dense.weights["stages.0.0.0.weight"].double().numpy()
    for channel in range(kernels.shape[1]):
        u, s, v = np.linalg.svd(kernels[:, channel].reshape(len(kernels), 9), full_matrices=False)
        product = np.outer(mixing[:, channel, 0, 0], spatial[channel, 0].ravel())
        np.testing.assert_allclose(product, s[0] * np.outer(u[:, 0], v[0]), atol=1e-5)


def test_a_separable_block_comes_through_whole(dense: Detector, bench: Workbench, pictures: Tensor) -> None:
    """A dense kernel that is such a product, with positive responses only, gives the same maps as the pair that replaces it."""
    generator = torch.Generator().manual_seed(1)
    kernel = dense.weights["stages.0.0.0.weight"]
    spatial, mixing = torch.rand(8, 3, 3, generator=generator), torch.randn(len(kernel), 8, generator=generator)
    product = mixing[:, :, None, None] * spatial[None]
    separable = Detector(dense.blueprint, MappingProxyType(dict(dense.weights) | {"stages.0.0.0.weight": product}))
    light, _ = rebuild(separable, config("depthwise"), bench)
    x, maps = first_input_and_maps(separable, pictures)
    pair = light.network().get_submodule("stages.0.0")
    with torch.no_grad():
        torch.testing.assert_close(pair(x), maps.relu(), rtol=1e-3, atol=1e-3)


def test_the_norm_between_changes_nothing_at_first(dense: Detector, bench: Workbench, pictures: Tensor) -> None:
    """In use and in training alike: on the pictures it was made from, what comes out of it is what went in."""
    light, _ = rebuild(dense, config("depthwise"), bench)
    x, _ = first_input_and_maps(dense, pictures)
    pair = light.network().get_submodule("stages.0.0")
    assert isinstance(pair, nn.Sequential)
    conv, norm = (pair.get_submodule(f"0.{i}") for i in (0, 1))
    with torch.no_grad():
        responses = conv(x)
        torch.testing.assert_close(norm(responses), responses, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(norm.train()(responses), responses, rtol=1e-3, atol=1e-3)
    assert (responses.mean((0, 2, 3)) >= 0).all()


def test_primary_maps_are_the_first_half(dense: Detector, bench: Workbench, pictures: Tensor) -> None:
    """Of a ghost block the real half gives exactly what the dense block gave."""
    light, _ = rebuild(dense, config("ghost"), bench)
    x, maps = first_input_and_maps(dense, pictures)
    unit = light.network().get_submodule("stages.0.0")
    with torch.no_grad():
        found = unit(x)
    half = maps.shape[1] // 2
    torch.testing.assert_close(found[:, :half], maps[:, :half].relu())


def test_cheap_maps_are_the_least_squares_fit(dense: Detector, bench: Workbench, pictures: Tensor) -> None:
    """For the first cheap map numpy's lstsq on the nine neighbours and a one gives the same values before the ReLU."""
    light, _ = rebuild(dense, config("ghost"), bench)
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
def test_what_stays_dense_is_copied(block: str, dense: Detector, bench: Workbench) -> None:
    """Stem, laterals and last predictions have the dense weights; none is left at the seed's, and all are finite."""
    light, change = rebuild(dense, config(block), bench)
    fresh_one, _ = rebuild(dense, Lightweight.model_validate({"block": block}), bench)
    shared = [name for name in dense.weights if name in light.weights and light.weights[name].shape == dense.weights[name].shape]
    assert len(shared) > 30
    assert all(torch.equal(light.weights[name], dense.weights[name]) for name in shared)
    learned = [name for name, tensor in light.weights.items() if tensor.ndim == 4]
    assert not [name for name in learned if torch.equal(light.weights[name], fresh_one.weights[name])]
    assert all(torch.isfinite(tensor.float()).all() for tensor in light.weights.values())
    units = change.details["fitted_units"]
    assert len(units) == sum(isinstance(m, ResidualBlock) for m in Network(dense.blueprint).modules()) * 2 + 4 + 6 + 6


@pytest.mark.parametrize("block", KINDS)
def test_inherited_is_nearer_than_fresh(block: str, dense: Detector, bench: Workbench, tiny_val: Images) -> None:
    """On val pictures, normalised by the batch as in training, the first unit's maps correlate better with the dense unit's."""
    images = make_batch(tiny_val, np.arange(8), None, np.random.default_rng(0)).images
    x, _ = first_input_and_maps(dense, images)

    def maps(detector: Detector) -> Tensor:
        with torch.no_grad():
            found: Tensor = detector.network().train().get_submodule("stages.0.0")(x)
        return found.flatten()

    wanted = maps(dense)
    near, far = (
        torch.corrcoef(torch.stack([maps(rebuild(dense, own, bench)[0]), wanted]))[0, 1]
        for own in (config(block), Lightweight.model_validate({"block": block}))
    )
    assert near > far + 0.1


@pytest.mark.parametrize("block", KINDS)
def test_it_counts_its_pictures_repeats_and_leaves_the_given_alone(block: str, dense: Detector, bench: Workbench) -> None:
    """Eight pictures, as planned; fresh weights need none; twice the same, and the dense detector is what it was."""
    before = dense.digest
    (light, change), (again, _) = (rebuild(dense, config(block), bench) for _ in range(2))
    assert change.spent.search_images == PICTURES == config(block).search_images(len(bench.train), 0)
    assert Lightweight().search_images(len(bench.train), 0) == 0
    assert (light.digest, dense.digest) == (again.digest, before)


def test_units_that_were_light_before_start_fresh(dense: Detector, bench: Workbench) -> None:
    """A ghost detector made depthwise has no dense blocks to learn from; only what is equal in both is copied."""
    ghost, _ = rebuild(dense, config("ghost"), bench)
    light, change = rebuild(ghost, config("depthwise"), bench)
    assert change.details["fitted_units"] == []
    assert torch.equal(light.weights["stem.0.weight"], dense.weights["stem.0.weight"])


def test_only_the_chosen_parts_are_fitted(dense: Detector, bench: Workbench) -> None:
    """With light blocks in the neck alone, backbone and heads are copied whole."""
    light, change = rebuild(dense, config("depthwise", backbone=False, head=False), bench)
    assert {name.split(".")[0] for name in change.details["fitted_units"]} == {"neck"}
    kept = [name for name in dense.weights if name.startswith(("stem", "stages", "heads"))]
    assert all(torch.equal(light.weights[name], dense.weights[name]) for name in kept)
