"""A light detector that inherits what the dense one knew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from detection.checkpoint import Detector, fresh, inherit
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
    return lively(tiny_detector.spec)


@pytest.fixture(scope="module")
def bench(workbench: Workbench, dense: Detector) -> Workbench:
    return replace(workbench, teacher=dense)


@pytest.mark.parametrize("block", KINDS)
def test_the_light_units_have_the_familys_weights(block: str, dense: Detector, bench: Workbench, tiny_train: Images) -> None:
    """Those that the family fits, to the eight pictures that seed 0 draws, in a network with the dense weights wherever both are
    alike; to the bit."""
    light, change = rebuild(dense, config(block), bench)
    rows = np.random.default_rng((0, 5)).permutation(len(tiny_train))[:PICTURES]
    images = make_batch(tiny_train, rows, None, np.random.default_rng(0)).images
    fit = dense.family.light_weights
    assert fit is not None
    copied = inherit(dense, fresh(light.spec, 0))
    weights, units = fit(dense.network(), copied.network(), [images])
    assert change.details["fitted_units"] == units
    assert all(torch.equal(light.weights[name], own.to(light.weights[name].dtype)) for name, own in weights.items())


@pytest.mark.parametrize("block", KINDS)
def test_what_stays_dense_is_copied(block: str, dense: Detector, bench: Workbench) -> None:
    """Stem, laterals and last predictions have the dense weights; none is left at the seed's, and all are finite."""
    light, _ = rebuild(dense, config(block), bench)
    fresh_one, _ = rebuild(dense, Lightweight.model_validate({"block": block}), bench)
    shared = [name for name in dense.weights if name in light.weights and light.weights[name].shape == dense.weights[name].shape]
    assert len(shared) > 30
    assert all(torch.equal(light.weights[name], dense.weights[name]) for name in shared)
    learned = [name for name, tensor in light.weights.items() if tensor.ndim == 4]
    assert not [name for name in learned if torch.equal(light.weights[name], fresh_one.weights[name])]
    assert all(torch.isfinite(tensor.float()).all() for tensor in light.weights.values())


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
