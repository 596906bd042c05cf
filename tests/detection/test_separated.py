"""Dense convolutions as depthwise pairs, in any network: which gain, and weights that are fitted to all that they make."""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detection.boxes import Array
from detection.edits import apply_edit
from detection.family import LightWeights
from detection.separable_fit import decoupled, seen
from detection.separated import separable_layers, separated_weights
from detection.spec import Separated
from tests.detection.odd_network import DENSE, Odd, odd_network, pictures

EDIT = Separated(layers=DENSE)
FITTED = DENSE[:-1]
TRAIN, HELD_OUT = pictures(1), pictures(2)


def begun(dense: nn.Module, light: nn.Module) -> nn.Module:
    """The light network with the dense one's weights where both are alike."""
    theirs = dense.state_dict()
    light.load_state_dict({name: theirs.get(name, own) for name, own in light.state_dict().items()})
    return light.eval()


def fitted(dense: Odd) -> tuple[Odd, LightWeights]:
    """The light network with all that is fitted in it."""
    light = begun(dense, Odd([EDIT]))
    found = separated_weights(dense, light, DENSE, [TRAIN])
    light.load_state_dict({**light.state_dict(), **found.weights})
    return cast(Odd, light), found


@pytest.fixture(scope="module")
def dense() -> Odd:
    return odd_network()


@pytest.fixture(scope="module")
def light(dense: Odd) -> Odd:
    return fitted(dense)[0]


def nearest(dense: Odd) -> Odd:
    """Each kernel as its nearest pair, whatever it sees (network decoupling)."""
    light = cast(Odd, begun(dense, Odd([EDIT])))
    with torch.no_grad():
        for name in DENSE:
            conv, pair = cast(nn.Conv2d, dense.get_submodule(name)), cast(nn.Sequential, light.get_submodule(name))
            for own, weights in zip(pair, decoupled(conv.weight), strict=True):
                cast(nn.Conv2d, own).weight.copy_(weights.reshape(cast(nn.Conv2d, own).weight.shape))
            if conv.bias is not None:
                cast(Tensor, cast(nn.Conv2d, pair[1]).bias).copy_(conv.bias)
    return light


def off(network: nn.Module, dense: nn.Module, images: Tensor) -> float:
    """How far its predictions are from the dense network's, as a share of their standard deviation."""
    with torch.no_grad():
        goal = dense(images)
        return float((network(images) - goal).square().mean().sqrt() / goal.std())


def rows(maps: Tensor) -> Array:
    """(B, C, height, width) -> (C, places), float64."""
    return maps.detach().double().transpose(0, 1).flatten(1).numpy()


def test_layers_that_gain_by_hand() -> None:
    """Not the stem, which reads the picture, no 1x1, nothing protected; and no pair that needs as many weights as the kernel:
    2 * 9 + 2 * 1 against 2 * 9 * 1."""
    assert separable_layers(Odd(), ("predict",)) == ("down", "wide", "mirrored", "coarse", "coarser", "tower.0", "auxiliary")
    assert separable_layers(nn.Sequential(nn.Conv2d(4, 1, 3), nn.Conv2d(4, 2, 3), nn.Conv2d(4, 8, 3, groups=2)), ()) == ("1",)


def test_separable_kernels_come_through_whole() -> None:
    """A network whose kernels are products predicts the same in pairs, on pictures that no fit has seen too."""
    dense = odd_network(separable=True)
    light, found = fitted(dense)
    assert found.units == list(FITTED)
    for images in (TRAIN, HELD_OUT):
        with torch.no_grad():
            torch.testing.assert_close(light(images), dense(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fitted_is_nearer_than_fresh_and_than_each_kernels_nearest_pair(seed: int) -> None:
    """Of random kernels, on pictures that no fit has seen."""
    dense = odd_network(seed)
    light, _ = fitted(dense)
    torch.manual_seed(seed)
    fresh = begun(dense, Odd([EDIT]))
    errors = [off(own, dense, HELD_OUT) for own in (light, nearest(dense), fresh)]
    assert errors[0] < 0.8 * min(errors[1:])


@pytest.mark.parametrize("name", FITTED)
def test_the_1x1_of_a_pair_is_the_least_squares_fit(name: str, dense: Odd, light: Odd) -> None:
    """By numpy's lstsq over all calls: of what the dense layer makes, on what the depthwise convolution makes of what reaches the
    pair in the light network, and a one where the layer has a bias."""
    calls = 3 if name == "tower.0" else 1
    conv, pair = cast(nn.Conv2d, dense.get_submodule(name)), cast(nn.Sequential, light.get_submodule(name))
    between = np.hstack([rows(own) for _, own in seen(light, TRAIN, pair[0], calls)])
    found = np.hstack([rows(own) for _, own in seen(light, TRAIN, pair, calls)])
    goal = np.hstack([rows(own) for _, own in seen(dense, TRAIN, conv, calls)])
    regressors = between if conv.bias is None else np.vstack([between, np.ones(between.shape[1])])
    solved, *_ = np.linalg.lstsq(regressors.T, goal.T, rcond=None)
    least = float(((solved.T @ regressors - goal) ** 2).mean())
    assert 0.999 * least < float(((found - goal) ** 2).mean()) < 1.001 * least


def test_a_layer_that_no_prediction_reaches_is_its_kernels_nearest_pair(dense: Odd, light: Odd) -> None:
    """It is not among the fitted, and its bias stays."""
    pair = cast(nn.Sequential, light.auxiliary)
    spatial, mixing = decoupled(dense.auxiliary.weight)
    torch.testing.assert_close(cast(nn.Conv2d, pair[0]).weight.double().flatten(1), spatial)
    torch.testing.assert_close(cast(nn.Conv2d, pair[1]).weight.double().flatten(1), mixing)
    assert torch.equal(cast(Tensor, cast(nn.Conv2d, pair[1]).bias), cast(Tensor, dense.auxiliary.bias))


def test_a_later_layer_mends_what_an_earlier_one_lost(dense: Odd) -> None:
    """Where the maps that the head reads are halved, a head fitted to them is nearer than one fitted to whole maps."""
    edit = Separated(layers=("tower.0",))
    whole = begun(dense, Odd([edit]))
    damaged = copy.deepcopy(whole)
    with torch.no_grad():
        for name in ("lateral.weight", "coarse.weight"):
            damaged.get_parameter(name).mul_(0.5)
    errors = []
    for fit_in in (damaged, whole):
        heads = copy.deepcopy(damaged)
        heads.load_state_dict({**heads.state_dict(), **separated_weights(dense, fit_in, edit.layers, [TRAIN]).weights})
        errors.append(off(heads, dense, HELD_OUT))
    assert errors[0] < 0.95 * errors[1]


def test_batches_add_up(dense: Odd) -> None:
    """Three pictures at a time or all at once."""
    light = begun(dense, Odd([EDIT]))
    whole, parts = (separated_weights(dense, light, DENSE, batches) for batches in ([TRAIN], torch.split(TRAIN, 3)))
    for name, tensor in parts.weights.items():
        torch.testing.assert_close(tensor, whole.weights[name], rtol=1e-3, atol=1e-4, msg=name)


def test_large_maps_are_looked_at_here_and_there(dense: Odd, light: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 192 and fewer places 100 tell nearly as much."""
    monkeypatch.setattr("detection.separated.MOST_PLACES", 100)
    assert off(fitted(dense)[0], dense, HELD_OUT) < 1.2 * off(light, dense, HELD_OUT)


def test_both_networks_stay_as_they_were(dense: Odd) -> None:
    """No weight, no statistic and no hook is left behind."""
    networks = dense, begun(dense, Odd([EDIT]))
    before = [copy.deepcopy(own.state_dict()) for own in networks]
    separated_weights(*networks, DENSE, [TRAIN])
    for network, own in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_the_weights_make_the_same_network_elsewhere(light: Odd) -> None:
    """Built anew by the edit, as it is read from JSON, and loaded."""
    again = Odd([Separated.model_validate_json(EDIT.model_dump_json())]).eval()
    again.load_state_dict(light.state_dict())
    with torch.no_grad():
        assert torch.equal(again(HELD_OUT), light(HELD_OUT))


class Cropping(nn.Module):
    """A second stage looks at two 5x5 crops a picture, where the first one's maps are greatest."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 6, 3, 4, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(2 * B, 8, 5, 5)."""
        maps = self.first(self.stem(images).relu())
        crops = maps.unfold(2, 5, 1).unfold(3, 5, 1).flatten(2, 3)  # (B, 6, places, 5, 5)
        places = crops.mean((1, 3, 4)).topk(2).indices
        return self.second(torch.cat([own[:, at].transpose(0, 1) for own, at in zip(crops, places, strict=True)]))


def test_crops_are_looked_at_where_the_dense_network_takes_them() -> None:
    """Each network would crop elsewhere: the second stage is fitted as if all before it were dense."""
    torch.manual_seed(0)
    dense = Cropping().eval()
    found = []
    for layers in (("first", "second"), ("second",)):
        light = Cropping()
        apply_edit(light, Separated(layers=layers))
        found.append(separated_weights(dense, begun(dense, light), layers, [TRAIN]).weights)
    for name, tensor in found[1].items():
        torch.testing.assert_close(found[0][name], tensor, msg=name)


def test_a_layer_with_two_names_has_its_weights_under_both() -> None:
    """Parts of a network share it: each name is a copy in the state dict, and the last that is loaded counts."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(6, 6, 3, padding=1)
            self.levels = nn.ModuleList([self.first, self.first])

        def forward(self, images: Tensor) -> Tensor:
            return self.levels[1](self.levels[0](images.repeat(1, 2, 1, 1)))

    dense, light = Shared().eval(), Shared()
    apply_edit(light, Separated(layers=separable_layers(light, ())))
    found = separated_weights(dense, begun(dense, light), ("first",), [TRAIN]).weights
    assert found.keys() == light.state_dict().keys()
    light.load_state_dict(found)
    assert light.levels[1] is light.first
