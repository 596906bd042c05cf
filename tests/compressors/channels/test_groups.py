"""Which channels go together."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from compressors.channels.groups import ChannelGroup, kept_spec, without
from compressors.channels.tracing import channel_groups
from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from detection.checkpoint import Detector
from detection.costs import count_params

BLOCKS = ("dense", "depthwise", "ghost")


@pytest.fixture(scope="module", params=BLOCKS)
def any_detector(request: pytest.FixtureRequest, tiny_detector: Detector, workbench: Workbench) -> Detector:
    """The tiny detector from each kind of block."""
    return of_blocks(request.param, tiny_detector, workbench)


def groups_of(detector: Detector) -> tuple[ChannelGroup, ...]:
    """All groups of a detector; every layer of our own family can be narrowed."""
    found = channel_groups(detector.network(), detector.spec)
    assert found.whole == {}
    return found.narrow


def of_blocks(block: str, detector: Detector, workbench: Workbench) -> Detector:
    if block == "dense":
        return detector
    return rebuild(detector, Lightweight.model_validate({"block": block}), workbench)[0]


def containing(groups: tuple[ChannelGroup, ...], layer: str) -> ChannelGroup:
    """The group that the layer's outputs are in."""
    (found,) = [group for group in groups if layer in group.outputs("conv", "depthwise", "norm")]
    return found


def by_unit(group: ChannelGroup, layer: str, end: str) -> list[list[int]]:
    """For each unit its channels on one side of a layer."""
    (members,) = [members for side, members in group.sides.items() if (side.layer, side.end) == (layer, end)]
    return [sorted(members.channels[members.units == unit].tolist()) for unit in range(group.units)]


def test_every_channel_is_in_one_unit(any_detector: Detector) -> None:
    """Each channel at either end of a layer is in one unit, but for those of the picture and of the predictions."""
    network = any_detector.network()
    counted: Counter[tuple[str, str]] = Counter()
    for group in groups_of(any_detector):
        for side, members in group.sides.items():
            assert len(set(members.channels.tolist())) == len(members.channels)
            counted[side.layer, side.end] += len(members.channels)
    expected = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            expected[name, "outputs"] = module.num_features
        elif isinstance(module, torch.nn.Conv2d):
            expected |= {(name, "outputs"): module.out_channels, (name, "inputs"): module.in_channels}
            if module.groups > 1:
                del expected[name, "inputs"]
    for untouched in [("stem.0", "inputs"), *((name, "outputs") for name in any_detector.family.protected(network))]:
        del expected[untouched]
    assert counted == expected


def test_units_are_all_there(any_detector: Detector) -> None:
    """Units are numbered from 0 on, and each has a channel in every convolution's outputs of its group."""
    for group in groups_of(any_detector):
        for members in group.outputs("conv").values():
            assert set(members.units.tolist()) == set(range(group.units))


def test_a_residual_sum_ties_its_terms(tiny_detector: Detector) -> None:
    """Channel 3 of the second stage's first convolution goes with channel 3 of what is added to it, and of all who read the sum."""
    group = containing(groups_of(tiny_detector), "stages.1.0.0")
    for layer, end in [
        ("stages.1.1.expand.0", "outputs"),
        ("stages.1.1.expand.1", "outputs"),
        ("stages.1.1.reduce.0", "inputs"),
        ("neck.laterals.0.0", "inputs"),
    ]:
        assert by_unit(group, layer, end)[3] == [3]


def test_ghost_halves_go_together(tiny_detector: Detector, workbench: Workbench) -> None:
    """Map 2 of a ghost block of 16 is also the source of its map 10: one unit, which the next layer reads at 2 and at 10."""
    group = containing(groups_of(of_blocks("ghost", tiny_detector, workbench)), "heads.0.score_branch.0.primary.0")
    assert group.units == 8
    assert by_unit(group, "heads.0.score_branch.0.cheap.0", "outputs")[2] == [2]
    assert by_unit(group, "heads.0.score", "inputs")[2] == [2, 10]


def test_a_dense_layer_added_to_ghost_halves_follows_them(tiny_detector: Detector, workbench: Workbench) -> None:
    """A lateral of 16 channels, summed with a ghost block's maps, loses channels 5 and 13 together, though it is dense."""
    group = containing(groups_of(of_blocks("ghost", tiny_detector, workbench)), "neck.laterals.0.0")
    assert "neck.top_down.1.primary.0" in group.outputs("conv")
    assert group.units == 8
    assert by_unit(group, "neck.laterals.0.0", "outputs")[5] == [5, 13]


def test_only_what_is_connected_alike_is_isomorphic(tiny_detector: Detector) -> None:
    """The six branches of the heads share a pattern, by hand; a stage, which sums, has another."""
    groups = groups_of(tiny_detector)
    branches = [containing(groups, f"heads.{level}.{branch}_branch.0.0") for level in range(3) for branch in ("score", "box")]
    assert {branch.pattern for branch in branches} == {"1 conv inputs, 1 conv outputs, 1 norm outputs"}
    assert containing(groups, "stages.1.0.0").pattern != branches[0].pattern


def test_keeping_all_changes_nothing(any_detector: Detector) -> None:
    """With every unit kept there is no edit, and the detector comes back as it is."""
    groups = groups_of(any_detector)
    everything = [torch.arange(group.units) for group in groups]
    assert kept_spec(any_detector, groups, everything) is any_detector.spec
    assert without(any_detector, groups, everything) is any_detector


def test_one_unit_less_is_counted_by_hand(tiny_detector: Detector) -> None:
    """A head channel has 16 x 9 weights before it, a bias (folded normalisation) and one weight for each of 10 scores."""
    groups = groups_of(tiny_detector)
    branch = containing(groups, "heads.0.score_branch.0.0")
    kept = [torch.arange(1 if group is branch else 0, group.units) for group in groups]
    narrower = without(tiny_detector, groups, kept)
    assert count_params(tiny_detector.spec) - count_params(narrower.spec) == 16 * 9 + 1 + 10
    assert torch.equal(narrower.weights["heads.0.score.weight"], tiny_detector.weights["heads.0.score.weight"][:, 1:])
