"""lightweight of a network whose architecture nobody knows: layer by layer, as an edit, and every later method on top of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, factor
from compressors.pruning import Pruning, prune
from detection.adapted.light import NOTHING_TO_GAIN, light, light_layers, light_weights
from detection.checkpoint import Detector, fresh, inherit, load, save
from detection.costs import count_macs
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.frozen import InputError
from detection.spec import KeptChannels, LayerWidth, Separated
from tests.compressors.channels.foreign_factory import FAMILY, ForeignNetwork, foreign_detector, in_the_table

INHERITED = Lightweight(weights="inherited", inheritance_pictures=4)


@pytest.fixture(scope="module", autouse=True)
def _in_the_table() -> Iterator[None]:
    """The family is one more line of the table, and offers light networks."""
    with in_the_table(light=partial(light, FAMILY.build, FAMILY.protected), light_weights=light_weights):
        yield


@pytest.fixture(scope="module")
def detector() -> Detector:
    return foreign_detector()


@pytest.fixture(scope="module")
def bench(workbench: Workbench, detector: Detector) -> Workbench:
    return replace(workbench, teacher=detector)


def pictures() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_the_layers_that_gain_by_hand(detector: Detector) -> None:
    """Of this network one: the stem reads the picture, others are 1x1, grouped, transposed or fully connected."""
    assert light_layers(FAMILY.build, FAMILY.protected, detector.spec) == ("down",)
    assert light(FAMILY.build, FAMILY.protected, detector.spec, "depthwise", ("backbone", "neck", "head")) == detector.spec.edited(
        Separated(layers=("down",))
    )


def test_fresh_weights_are_drawn_by_the_seed(detector: Detector, bench: Workbench) -> None:
    """The change counts what both specs count: 8 * 9 + 8 * 16 in place of 8 * 16 * 9 at 16 x 24 places."""
    result, change = rebuild(detector, Lightweight(), bench)
    assert result.digest == fresh(result.spec, bench.seed).digest
    assert change.macs_before - change.macs_after == (8 * 16 * 9 - 8 * 9 - 8 * 16) * 16 * 24


def test_it_inherits_what_the_dense_layers_knew(detector: Detector, bench: Workbench, tiny_train: Images, tmp_path: Path) -> None:
    """Everything else is copied; the pair has the fitted weights, makes nearly what the dense one made, and survives its files."""
    result, change = rebuild(detector, INHERITED, bench)
    assert change.details["fitted_units"] == ["down"]
    copied = [name for name in detector.weights if name in result.weights]
    assert len(copied) == len(detector.weights) - 1
    assert all(torch.equal(result.weights[name], detector.weights[name]) for name in copied)
    rows = np.random.default_rng((0, 5)).permutation(len(tiny_train))[:4]
    images = make_batch(tiny_train, rows, None, np.random.default_rng(0)).images
    start = inherit(detector, fresh(result.spec, 0))
    fitted, _ = light_weights(detector.network(), start.network(), [images])
    assert fitted.keys() == {"down.0.weight", "down.1.weight"}
    assert all(torch.equal(result.weights[name], own) for name, own in fitted.items())
    save(result, tmp_path)
    with torch.no_grad():
        goal, near, far, again = (own.network()(pictures()) for own in (detector, result, start, load(tmp_path)))
    assert torch.equal(again, near)
    assert (near - goal).square().sum() < 0.2 * (far - goal).square().sum()


def test_it_is_pruned_and_factored_afterwards(detector: Detector, bench: Workbench) -> None:
    """The parts of the pair are layers like others: one is a depthwise convolution, the other a 1x1 that can be factored."""
    lighter, _ = rebuild(detector, INHERITED, bench)
    pruned, change = prune(lighter, Pruning(importance="l2", keep_macs=0.9, round_to=2), bench)
    assert change.macs_after == count_macs(pruned.spec) <= 0.9 * change.macs_before
    assert {"down.0", "down.1"} <= change.details["whole"].keys()
    whole = LowRank(energy=1.0, round_to=1, least_saving=0.0, only_if_faster=False)
    result, change = factor(pruned, whole, bench)
    considered = {*change.details["ranks"], *change.details["dense"]}
    assert "down.1" in considered
    assert "down.0" not in considered
    with torch.no_grad():
        torch.testing.assert_close(result.network()(pictures()), pruned.network()(pictures()), rtol=1e-3, atol=1e-4)


def test_it_follows_pruning_too(detector: Detector) -> None:
    """Layers are found in the network as its edits left it: here 6 of the 8 channels that the layer reads."""
    edit = KeptChannels(layers={"down": LayerWidth(inputs=6, outputs=16)})
    spec = light(FAMILY.build, FAMILY.protected, detector.spec.edited(edit), "depthwise", ("backbone", "neck", "head"))
    assert ForeignNetwork(spec).get_submodule("down.0").weight.shape == (6, 1, 3, 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"block": "ghost"}, r"lightweight\.block: ghost: .* Set it to depthwise"),
        ({"neck": False}, r"lightweight\.neck: false: .* its neck is not known"),
        ({"backbone": False, "neck": False}, r"lightweight\.backbone: false: "),
    ],
)
def test_what_it_cannot_do_is_refused(config: dict[str, Any], message: str, detector: Detector, bench: Workbench) -> None:
    """Ghost blocks, and parts that nobody can tell apart: the setting, the reason, and what to do."""
    with pytest.raises(InputError, match=message):
        rebuild(detector, Lightweight.model_validate(config), bench)


def test_a_network_with_nothing_to_gain_is_refused(detector: Detector) -> None:
    """Once its only dense 3x3 is protected."""
    with pytest.raises(InputError, match=NOTHING_TO_GAIN):
        light(FAMILY.build, lambda _: ("down",), detector.spec, "depthwise", ("backbone", "neck", "head"))
