"""Channels of a network that is none of ours: what can be narrowed is, what cannot is left whole and named with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compressors.channels.groups import ChannelGroup, Groups, Members, Side, without
from compressors.channels.tracing import channel_groups
from compressors.contract import Workbench
from compressors.low_rank import LowRank, factor
from compressors.pruning import Pruning, prune
from detection.checkpoint import Detector, load, save
from detection.costs import count_macs
from detection.edits import axis_of
from tests.compressors.channels import foreign_factory
from tests.compressors.channels.foreign_factory import foreign_detector, in_the_table

GROUPED, NORMALISED = (
    "grouped: a convolution in 2 groups would have to lose the same channels in each",
    "group_norm: a normalisation in 4 groups would normalise other channels together",
)
WHOLE = {
    "stem": GROUPED, "stem_norm": GROUPED, "grouped": GROUPED, "grouped_norm": GROUPED,
    "down": NORMALISED, "lateral": NORMALISED, "group_norm": NORMALISED,
}  # fmt: skip
"""Layer whose outputs stay -> why, by hand."""
NARROW = {
    "mixed": {("mixed", "conv", "outputs"), ("mixed_norm", "norm", "outputs"), ("up", "transposed", "inputs")},
    "up": {
        ("up", "transposed", "outputs"), ("up_norm", "norm", "outputs"), ("depthwise", "depthwise", "outputs"),
        ("side", "conv", "outputs"), ("side_norm", "norm", "outputs"), ("hidden", "linear", "inputs"),
    },
    "hidden": {("hidden", "linear", "outputs"), ("predict", "linear", "inputs")},
}  # fmt: skip
"""Layer -> the sides of the group that its outputs are in, by hand."""


@pytest.fixture(scope="module", autouse=True)
def _in_the_table() -> Iterator[None]:
    """The family is one more line of the table."""
    with in_the_table():
        yield


@pytest.fixture(scope="module")
def detector() -> Detector:
    return foreign_detector()


@pytest.fixture(scope="module")
def groups(detector: Detector) -> Groups:
    return channel_groups(detector.network(), detector.spec)


def of(groups: Groups, layer: str) -> ChannelGroup:
    """The group that the layer's outputs are in."""
    (found,) = [group for group in groups.narrow for side in group.sides if (side.layer, side.end) == (layer, "outputs")]
    return found


def test_groups_are_found_by_hand(groups: Groups) -> None:
    """Through normalisations, sums, depthwise and transposed convolutions, and a flattening; each layer in one group."""
    assert {layer: set(of(groups, layer).sides) for layer in NARROW} == {
        layer: {Side(*side) for side in sides} for layer, sides in NARROW.items()
    }
    assert len(groups.narrow) == len(NARROW)
    assert [of(groups, layer).units for layer in NARROW] == [12, 10, 14]


def test_what_stays_whole_is_named_with_the_reason(groups: Groups) -> None:
    """Every layer of a group with one that cannot be narrowed; the predictions are protected and in no group."""
    assert dict(groups.whole) == WHOLE


def test_a_channel_has_as_many_columns_as_cells_after_flattening(groups: Groups) -> None:
    """Two cells: channel 3 is read by the fully connected layer at 6 and 7."""
    group = of(groups, "up")
    members = group.sides[Side("hidden", "linear", "inputs")]
    assert sorted(members.channels[members.units == 3].tolist()) == [6, 7]


def test_weights_are_cut_along_their_own_axes(detector: Detector, groups: Groups) -> None:
    """Rows of outputs, columns of inputs, biases, statistics; of a transposed convolution the other way round."""
    kept = {"mixed": [0, 2, 5, 11], "up": [1, 3, 4, 9], "hidden": [0, 1, 7]}
    result = narrowed(detector, groups, kept)
    whole, thin = detector.weights, result.weights
    assert torch.equal(thin["mixed.weight"], whole["mixed.weight"][kept["mixed"]])
    assert torch.equal(thin["mixed.bias"], whole["mixed.bias"][kept["mixed"]])
    assert torch.equal(thin["mixed_norm.bias"], whole["mixed_norm.bias"][kept["mixed"]])
    assert torch.equal(thin["up.weight"], whole["up.weight"][kept["mixed"]][:, kept["up"]])
    assert torch.equal(thin["up.bias"], whole["up.bias"][kept["up"]])
    assert torch.equal(thin["up_norm.running_var"], whole["up_norm.running_var"][kept["up"]])
    assert torch.equal(thin["side_norm.running_mean"], whole["side_norm.running_mean"][kept["up"]])
    assert torch.equal(thin["depthwise.weight"], whole["depthwise.weight"][kept["up"]])
    columns = [2 * channel + cell for channel in kept["up"] for cell in range(2)]
    assert torch.equal(thin["hidden.weight"], whole["hidden.weight"][kept["hidden"]][:, columns])
    assert torch.equal(thin["hidden.bias"], whole["hidden.bias"][kept["hidden"]])
    assert torch.equal(thin["predict.weight"], whole["predict.weight"][:, kept["hidden"]])
    same = [name for name in whole if name.split(".")[0] in WHOLE]
    assert all(torch.equal(thin[name], whole[name]) for name in same)


@pytest.mark.parametrize("layer", ["up", "hidden"])
def test_removing_is_silencing(layer: str, detector: Detector, groups: Groups) -> None:
    """Where no normalisation mixes channels: what is left says what the whole one says with the removed channels at zero."""
    kept = {"up": [1, 3, 4, 9], "hidden": [0, 1, 7]}[layer]
    result, images = narrowed(detector, groups, {layer: kept}), pictures()
    with torch.no_grad():
        mine, theirs = result.network()(images), silenced(detector, of(groups, layer), kept)(images)
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(mine, detector.network()(images), atol=1e-3)


def test_a_normalisation_over_all_channels_takes_the_rest(detector: Detector, groups: Groups) -> None:
    """It normalises what is left, so zeros in place of channels say something else; the network predicts all the same."""
    result = narrowed(detector, groups, {"mixed": [0, 2, 5, 11]})
    with torch.no_grad():
        assert torch.isfinite(result.network()(pictures())).all()


def test_a_method_prunes_it_and_records_what_stayed(detector: Detector, workbench: Workbench) -> None:
    """`prune` keeps the target, says what is whole and why, and the result survives its files."""
    bench = replace(workbench, teacher=detector)
    result, change = prune(detector, Pruning(importance="l2", keep_macs=0.9, round_to=2), bench)
    assert change.macs_after == count_macs(result.spec) <= 0.9 * change.macs_before
    assert change.details["whole"] == WHOLE
    assert all(name.split(".")[0] not in WHOLE for name in change.details["kept_channels"])
    with torch.no_grad():
        assert torch.isfinite(result.network()(pictures())).all()


@pytest.mark.parametrize("importance", ["random", "l2", "lamp", "fpgm", "bn_scale", "taylor"])
def test_every_measure_applies_to_it(importance: str, detector: Detector, workbench: Workbench) -> None:
    """By weights of every kind of layer, by scales and by gradients: fewer channels, none of them of the predictions."""
    config = Pruning.model_validate({"importance": importance, "keep_macs": 0.9, "round_to": 2})
    result, change = prune(detector, config, replace(workbench, teacher=detector))
    assert change.macs_after < change.macs_before
    assert result.weights["predict.bias"].shape == detector.weights["predict.bias"].shape


def test_it_is_rebuilt_from_its_files(detector: Detector, groups: Groups, tmp_path: object) -> None:
    """The edits in spec.json build a network that the weights fit, and that says the same."""
    result = narrowed(detector, groups, {"mixed": [0, 1, 2], "up": [5, 6], "hidden": [2, 3]})
    save(result, tmp_path)  # type: ignore[arg-type]
    again = load(tmp_path)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(again.network()(pictures()), result.network()(pictures()))


def test_it_is_factored_too(detector: Detector, workbench: Workbench) -> None:
    """Convolutions with bias and fully connected layers at full rank say what they said; grouped and transposed ones stay."""
    config = LowRank(energy=1.0, round_to=1, least_saving=0.0, only_if_faster=False)
    result, change = factor(detector, config, replace(workbench, teacher=detector))
    assert not {"grouped", "up", "depthwise", "predict"} & {*change.details["ranks"], *change.details["dense"]}
    assert {"stem", "down", "hidden"} <= {*change.details["ranks"], *change.details["dense"]}
    with torch.no_grad():
        torch.testing.assert_close(result.network()(pictures()), detector.network()(pictures()), rtol=1e-3, atol=1e-4)


class Scaled(nn.Module):
    """A number for each channel that belongs to no layer, as in ConvNeXt's layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.second(self.first(images) * self.scale))


def test_channels_with_a_number_of_their_own_stay(monkeypatch: pytest.MonkeyPatch, detector: Detector) -> None:
    """No edit can narrow a parameter outside a layer: the layer before it stays whole, the next one does not."""
    family = replace(foreign_factory.FAMILY, protected=lambda network: ("last",))
    monkeypatch.setattr("compressors.channels.tracing.family_of", lambda spec: family)
    found = channel_groups(Scaled(), detector.spec)
    assert set(found.whole) == {"first"}
    assert "scale" in found.whole["first"]
    assert [set(group.outputs("conv")) for group in found.narrow] == [{"second"}]


class Unweighted(nn.Module):
    """Normalisations without weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)
        self.second, self.last = nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.second(self.norm(self.first(images))))


def test_a_normalisation_without_weights_is_left_whole(monkeypatch: pytest.MonkeyPatch, detector: Detector) -> None:
    """It has nothing to be cut by; what can be narrowed is, and can be taken out."""
    family = replace(foreign_factory.FAMILY, protected=lambda network: ("last",))
    monkeypatch.setattr("compressors.channels.tracing.family_of", lambda spec: family)
    network = Unweighted()
    own = Detector(detector.spec, network.state_dict())
    found = channel_groups(network, own.spec)
    assert set(found.whole) == {"first", "norm"}
    result = without(own, found.narrow, [torch.arange(3) for _ in found.narrow])
    assert result.weights["second.weight"].shape[0] == 3


class Split(nn.Module):
    """A map in two parts, one of which is read three times, as by the blocks of many detectors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1)
        self.mixed, self.last = nn.Conv2d(18, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        one, other = self.first(images).split([4, 4], dim=1)
        return self.last(self.mixed(torch.cat([one, other, self.second(other), self.third(other)], dim=1)))


def test_what_torch_pruning_cannot_follow_stays_whole(monkeypatch: pytest.MonkeyPatch, detector: Detector) -> None:
    """It takes readers of a split map for its parts, and runs out of parts: that layer stays whole, with the reason."""
    family = replace(foreign_factory.FAMILY, protected=lambda network: ("last",))
    monkeypatch.setattr("compressors.channels.tracing.family_of", lambda spec: family)
    found = channel_groups(Split(), detector.spec)
    assert set(found.whole) == {"first"}
    assert found.whole["first"].startswith("torch-pruning cannot follow its channels (IndexError")
    assert sorted(name for group in found.narrow for name in group.outputs("conv")) == ["mixed", "second", "third"]


def narrowed(detector: Detector, groups: Groups, kept: Mapping[str, list[int]]) -> Detector:
    """The detector with only these units of the groups that the layers are in, and all of the others."""
    units = {id(of(groups, layer)): torch.tensor(own) for layer, own in kept.items()}
    return without(detector, groups.narrow, [units.get(id(group), torch.arange(group.units)) for group in groups.narrow])


def silenced(detector: Detector, group: ChannelGroup, kept: list[int]) -> nn.Module:
    """The whole network, in which all who read a removed unit of the group read zeros."""
    network = detector.network()
    stays = torch.zeros(group.units)
    stays[kept] = 1.0
    for side, members in group.readers().items():
        network.get_submodule(side.layer).register_forward_pre_hook(
            lambda _layer, given, side=side, members=members: (given[0] * mask(given[0], side, members, stays),)
        )
    return network


def mask(maps: Tensor, side: Side, members: Members, stays: Tensor) -> Tensor:
    """Ones, and zeros for the removed channels; channels are the second axis of maps and of rows alike."""
    own = torch.ones(maps.shape[1])
    own[members.channels] = stays[members.units]
    assert axis_of(side.kind, "inputs") in (0, 1)
    return own.reshape(1, -1, *[1] * (maps.ndim - 2))


def pictures() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
