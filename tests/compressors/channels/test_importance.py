"""How much each channel matters, by six measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressors.channels.groups import ChannelGroup, Members, Side
from compressors.channels.importance import BY_WEIGHTS, bn_scale, fpgm, l2, lamp, taylor, unit_importance
from compressors.channels.tracing import channel_groups
from compressors.contract import Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, factor
from detection.checkpoint import Detector
from detection.data.augmentation import make_batch
from detection.training import Recipe
from tests.compressors.pruning import pruning_factory


@pytest.fixture(scope="module")
def lively(tiny_detector: Detector) -> Detector:
    """The tiny detector with no two channels alike."""
    return pruning_factory.lively(tiny_detector)


def layer(weights: list[list[float]], scales: list[float] | None = None) -> tuple[ChannelGroup, nn.Module]:
    """A 1x1 convolution with these filters, normalised by these scales, whose channels are a group of their own."""
    conv = nn.Conv2d(len(weights[0]), len(weights), 1, bias=False)
    conv.weight.data = torch.tensor(weights)[:, :, None, None]
    network = nn.Sequential(conv)
    every = Members(torch.arange(len(weights)), torch.arange(len(weights)))
    sides = {Side("0", "conv", "outputs"): every}
    if scales is not None:
        norm = nn.BatchNorm2d(len(scales))
        norm.weight.data = torch.tensor(scales)
        network.append(norm)
        sides[Side("1", "norm", "outputs")] = every
    return ChannelGroup(len(weights), MappingProxyType(sides)), network


def test_l2_by_hand() -> None:
    """Filters (3, 4) and (1, 0) with scales 1 and 2: 9 + 16 + 1 = 26 and 1 + 4 = 5, over their mean of 15.5."""
    assert l2(*layer([[3.0, 4.0], [1.0, 0.0]], [1.0, 2.0])).tolist() == pytest.approx([26 / 15.5, 5 / 15.5])


def test_lamp_by_hand() -> None:
    """Squares 4, 1 and 5: the largest is all of what is left with it, 4 is 4 of 9, 1 is 1 of 10."""
    assert lamp(*layer([[2.0, 0.0], [0.0, 1.0], [1.0, 2.0]])).tolist() == pytest.approx([4 / 9, 1 / 10, 1.0])


def test_bn_scale_by_hand() -> None:
    """Scales 1 and -3, whatever the filters: 1/2 and 3/2 of their mean."""
    assert bn_scale(*layer([[9.0], [0.0]], [1.0, -3.0])).tolist() == [0.5, 1.5]


def test_channels_without_a_normalisation_have_no_scale() -> None:
    """They are infinitely important to `bn_scale`, so that it leaves them alone."""
    assert bn_scale(*layer([[1.0], [2.0]])).tolist() == [torch.inf, torch.inf]


def test_fpgm_by_hand() -> None:
    """Filters at -1, 1 and 4: distances 2 + 5, 2 + 3 and 5 + 3, over their mean of 20/3. The one in the middle is replaceable."""
    assert fpgm(*layer([[-1.0], [1.0], [4.0]])).tolist() == pytest.approx([7 / (20 / 3), 5 / (20 / 3), 8 / (20 / 3)])


@pytest.mark.parametrize("importance", BY_WEIGHTS)
def test_a_dead_layer_is_a_number(importance: str) -> None:
    """Filters and scales that are all zero give finite scores, not 0 / 0."""
    assert torch.isfinite(BY_WEIGHTS[importance](*layer([[0.0], [0.0]], [0.0, 0.0]))).all()


@pytest.mark.parametrize(
    ("importance", "oracle"),
    [
        ("l2", tp.importance.GroupMagnitudeImportance()),
        ("lamp", tp.importance.LAMPImportance()),
        ("bn_scale", tp.importance.BNScaleImportance()),
    ],
)
def test_torch_pruning_agrees_on_dense_blocks(importance: str, oracle: Any, lively: Detector) -> None:
    """Group by group the same scores as the library's, which are sound where nothing is concatenated."""
    network, family = lively.network(), lively.family
    graph = tp.DependencyGraph().build_dependency(
        network,
        torch.zeros(1, 3, *lively.spec.input_size),
        output_transform=lambda out: out.score_logits.sum() + out.box_logits.sum(),
    )
    protected = [network.get_submodule(name) for name in family.protected(network)]
    theirs = [oracle(group) for group in graph.get_all_groups(ignored_layers=protected)]
    ours = [BY_WEIGHTS[importance](group, network) for group in channel_groups(network, lively.spec).narrow]
    assert len(ours) > 15
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("block", ["dense", "depthwise", "ghost"])
def test_taylor_is_the_squared_gradient_of_a_gate(block: str, lively: Detector, workbench: Workbench) -> None:
    """A factor of 1 is put before whatever reads a unit: its squared gradient, by autograd, is the unit's score.

    Two batches of four pictures: the mean of their squares.
    """
    detector = lively if block == "dense" else light(lively, block, workbench)
    for group, score, bench in taylor_scores(detector, workbench):
        expected = torch.stack([gate_gradients(detector, group, batch, bench, readers) for batch in range(2)]).square().mean(0)
        torch.testing.assert_close(score, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_taylor_on_dense_blocks_is_that_of_the_paper(lively: Detector, workbench: Workbench) -> None:
    """The same with gates behind the normalisations (Taylor-FO-BN), wherever several of them add up or one does."""
    for group, score, bench in taylor_scores(lively, workbench):
        expected = torch.stack([gate_gradients(lively, group, batch, bench, norms) for batch in range(2)]).square().mean(0)
        torch.testing.assert_close(score, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_taylor_counts_a_channel_once_that_passes_through_a_depthwise_convolution(lively: Detector, workbench: Workbench) -> None:
    """Its score is that of one gate behind its normalisation, though the depthwise convolution and the 1x1 both act on it."""
    detector = light(lively, "depthwise", workbench)
    passing = 0
    for group, score, bench in taylor_scores(detector, workbench, every=1):
        if not len(group.outputs("depthwise")) == len(norms(group)) == len(readers(group)) == 1:
            continue
        passing += 1
        expected = torch.stack([gate_gradients(detector, group, batch, bench, norms) for batch in range(2)])
        torch.testing.assert_close(score, expected.square().mean(0), rtol=1e-3, atol=1e-3 * float(score.max()))
    assert passing > 3


def light(detector: Detector, block: str, workbench: Workbench) -> Detector:
    """The detector in light blocks, with no two channels alike."""
    return pruning_factory.lively(rebuild(detector, Lightweight.model_validate({"block": block}), workbench)[0])


def taylor_scores(detector: Detector, workbench: Workbench, every: int = 4) -> list[tuple[ChannelGroup, Tensor, Workbench]]:
    """Every so many groups with their scores on two batches of four pictures, and the workbench of those."""
    bench, network = replace(workbench, recipe=Recipe(epochs=1, batch_size=4)), detector.network()
    groups = channel_groups(network, detector.spec).narrow
    found = zip(groups, taylor(groups, network, bench, 8), strict=True)
    return [(group, score, bench) for group, score in found][::every]


def readers(group: ChannelGroup) -> dict[str, Members]:
    """Convolutions and the channels that they read of the group."""
    return {side.layer: members for side, members in group.sides.items() if side.end == "inputs"}


def norms(group: ChannelGroup) -> dict[str, Members]:
    """Normalisations and their channels in the group."""
    return group.outputs("norm")


def gate_gradients(
    detector: Detector, group: ChannelGroup, batch: int, workbench: Workbench, places: Callable[[ChannelGroup], dict[str, Members]]
) -> Tensor:
    """Gradient of the loss on one batch for a gate per unit, which stands at all these places: before readers, behind norms."""
    network, rng = detector.network(), np.random.default_rng(workbench.seed)
    rows = rng.permutation(len(workbench.train))[:8][4 * batch : 4 * batch + 4]
    gates = torch.ones(group.units, requires_grad=True)
    for name, members in places(group).items():
        module = network.get_submodule(name)

        def gated(maps: Tensor, members: Members = members) -> Tensor:
            return maps * torch.ones(maps.shape[1]).index_put((members.channels,), gates[members.units])[:, None, None]

        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _module, _inputs, output, gated=gated: gated(output))
        else:
            module.register_forward_pre_hook(lambda _module, inputs, gated=gated: (gated(inputs[0]),))
    drawn = make_batch(workbench.train, rows, None, rng)
    detector.family.learn(network, drawn, half=False)[1].backward()  # type: ignore[no-untyped-call]
    assert gates.grad is not None
    return gates.grad


def test_taylor_leaves_no_gradients_behind(lively: Detector, workbench: Workbench) -> None:
    """Parameters and statistics of the network are the same after as before."""
    network = lively.network()
    taylor(channel_groups(network, lively.spec).narrow, network, workbench, 8)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, lively.weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("importance", ["random", "l2", "bn_scale", "lamp", "taylor", "fpgm"])
@pytest.mark.parametrize("block", ["dense", "depthwise", "ghost", "factored"])
def test_every_unit_gets_a_score(block: str, importance: Any, lively: Detector, workbench: Workbench) -> None:
    """One for each unit of each group, never a NaN and never below 0; infinite only the scales of what has none."""
    detector = lively
    if block == "factored":
        detector, _ = factor(lively, LowRank(energy=0.4, round_to=4, only_if_faster=False), workbench)
    elif block != "dense":
        detector, _ = rebuild(lively, Lightweight.model_validate({"block": block}), workbench)
    network = detector.network()
    groups = channel_groups(network, detector.spec).narrow
    scores = unit_importance(importance, groups, network, workbench, 8)
    for group, score in zip(groups, scores, strict=True):
        assert score.shape == (group.units,)
        assert (score >= 0).all()
        assert torch.isfinite(score).all() or (importance == "bn_scale" and not group.outputs("norm"))


def test_random_scores_are_the_seeds(lively: Detector, workbench: Workbench) -> None:
    """The same seed gives the same scores and leaves the global generator where it was; another seed gives others."""
    network, state = lively.network(), torch.get_rng_state()
    groups = channel_groups(network, lively.spec).narrow
    first, again, other = (
        torch.cat(unit_importance("random", groups, network, replace(workbench, seed=seed), 8)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
