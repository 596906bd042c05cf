"""Whole channels removed along the dependency graph."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import cast, get_args

import pytest
import torch
from torch import Tensor, nn

from compressors.channels.importance import Importance
from compressors.contract import Change, Workbench
from compressors.lightweight import Lightweight, rebuild
from compressors.low_rank import LowRank, factor
from compressors.pruning import Pruning, prune
from detection.checkpoint import Detector
from detection.costs import count_macs
from detection.data.dataset import Images
from detection.spec import Factored, KeptChannels, Spec
from tests.compressors.pruning import pruning_factory
from tests.compressors.pruning.pruning_factory import answers, silenced

IMPORTANCES = get_args(Importance)
EIGHTS = {"round_to": 8}
"""Half of the tiny detector's channels; the design profile's sixteen would leave next to nothing to remove."""
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(scope="module")
def lively(tiny_detector: Detector) -> Detector:
    """The tiny detector with no two channels alike."""
    return pruning_factory.lively(tiny_detector)


@pytest.fixture(scope="module")
def pruned(lively: Detector, workbench: Workbench) -> tuple[Detector, Change]:
    """One pruning, shared by the claims about it."""
    return prune(lively, Pruning(importance="l2", round_to=8), workbench)


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Name -> convolution."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_the_wanted_share_of_multiply_adds_stays_in_whole_blocks(importance: str, lively: Detector, workbench: Workbench) -> None:
    """Of half the multiply-adds at most half stay, and hardly less; a layer keeps its width or has a multiple of 8 channels."""
    detector, change = prune(lively, Pruning.model_validate({"importance": importance} | EIGHTS), workbench)
    assert change.macs_after == count_macs(detector.spec)
    assert 0.4 <= change.macs_after / change.macs_before <= 0.5
    before, after = convolutions(lively.network()), convolutions(detector.network())
    changed = [name for name in before if after[name].out_channels != before[name].out_channels]
    assert changed
    assert all(after[name].out_channels % 8 == 0 for name in changed)


@pytest.mark.parametrize("most_removed", [0.3, 0.5, 0.7])
def test_no_layer_loses_more_than_allowed(most_removed: float, lively: Detector, workbench: Workbench) -> None:
    """Though a target out of reach asks for more, rounding included: 24 channels that may lose half keep 16, not 8."""
    config = Pruning(importance="l2", keep_macs=0.05, most_removed=most_removed, round_to=8)
    detector, _ = prune(lively, config, workbench)
    before, after = convolutions(lively.network()), convolutions(detector.network())
    lost = {name: 1 - after[name].out_channels / before[name].out_channels for name in before}
    assert max(lost.values()) <= most_removed, {name: share for name, share in lost.items() if share > most_removed}


def test_keeping_everything_removes_nothing(lively: Detector, workbench: Workbench) -> None:
    """A share of 1 is already reached: the detector stays as it is."""
    detector, change = prune(lively, Pruning(importance="l2", keep_macs=1.0, round_to=8), workbench)
    assert change.no_effect
    assert detector.spec == lively.spec


def test_less_kept_is_less_computed(lively: Detector, workbench: Workbench) -> None:
    """Smaller shares leave smaller networks."""
    macs = [
        prune(lively, Pruning(importance="l2", keep_macs=share, round_to=8), workbench)[1].macs_after for share in (0.8, 0.6, 0.4)
    ]
    assert macs == sorted(macs, reverse=True)
    assert len(set(macs)) == 3


def test_the_recorded_channels_are_those_that_stayed(lively: Detector, pruned: tuple[Detector, Change]) -> None:
    """Row by row: what a normalisation holds, and the rows of the convolution before it, are the original's kept ones."""
    detector, change = pruned
    kept = change.details["kept_channels"]
    narrower = 0
    for norm, rows in kept.items():
        for part in NORM_PARTS:
            assert torch.equal(detector.weights[f"{norm}.{part}"], lively.weights[f"{norm}.{part}"][rows])
        conv = f"{norm.removesuffix('.1')}.0.weight"
        own, whole = detector.weights[conv], lively.weights[conv][rows]
        assert len(own) == len(rows)
        if own.shape[1] == whole.shape[1]:  # its inputs are whole, so the rows can be compared at sight
            assert torch.equal(own, whole)
        narrower += len(rows) < len(lively.weights[f"{norm}.bias"])
    assert narrower > 10
    assert kept["stem.1"] == sorted(kept["stem.1"])


def test_inputs_follow_the_layer_before(lively: Detector, pruned: tuple[Detector, Change]) -> None:
    """The first stage's convolution keeps the rows of its own channels and the columns of the stem's."""
    detector, change = pruned
    kept = change.details["kept_channels"]
    rows, columns = kept["stages.0.0.1"], kept["stem.1"]
    assert torch.equal(detector.weights["stages.0.0.0.weight"], lively.weights["stages.0.0.0.weight"][rows][:, columns])


def test_pruning_is_silencing(lively: Detector, pruned: tuple[Detector, Change], tiny_train: Images) -> None:
    """The pruned network says exactly what the whole one says when the removed channels are held at zero."""
    detector, change = pruned
    mine = answers(detector, tiny_train)
    theirs = answers(silenced(lively, change.details["kept_channels"]), tiny_train)
    torch.testing.assert_close(mine.score_logits, theirs.score_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine.box_logits, theirs.box_logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mine.score_logits, answers(lively, tiny_train).score_logits, atol=1e-2)


def test_the_last_prediction_convolutions_keep_their_outputs(lively: Detector, pruned: tuple[Detector, Change]) -> None:
    """Outputs with a meaning stay: same number, same biases, same rows of weights for the inputs that are left."""
    before, after = convolutions(lively.network()), convolutions(pruned[0].network())
    for name in lively.family.protected(lively.network()):
        assert after[name].out_channels == before[name].out_channels
        assert torch.equal(cast(Tensor, after[name].bias), cast(Tensor, before[name].bias))


def test_the_least_important_channels_go_first(lively: Detector, workbench: Workbench) -> None:
    """A channel whose weights are a hundredth of the others', wherever they are read, is not kept by `l2`."""
    weights = dict(lively.weights)
    weak = [1, 3, 4, 6, 8, 10, 12, 15]
    for name in ("heads.0.score_branch.0.0.weight", "heads.0.score_branch.0.1.weight", "heads.0.score_branch.0.1.bias"):
        weights[name] = weights[name].clone()
        weights[name][weak] /= 100
    weights["heads.0.score.weight"] = weights["heads.0.score.weight"].clone()
    weights["heads.0.score.weight"][:, weak] /= 100
    _, change = prune(
        Detector(lively.spec, MappingProxyType(weights)), Pruning(importance="l2", keep_macs=0.9, round_to=8), workbench
    )
    assert change.details["kept_channels"]["heads.0.score_branch.0.1"] == sorted(set(range(16)) - set(weak))


def test_random_pruning_is_seeded(lively: Detector, workbench: Workbench) -> None:
    """The same seed keeps the same channels, whatever the global generator stands at; another seed keeps others."""
    config = Pruning(importance="random", round_to=8)
    first, second = (prune(lively, config, workbench)[0].digest for _ in range(2))
    other = prune(lively, config, replace(workbench, seed=1))[0].digest
    assert first == second != other


def test_taylor_asks_the_data_and_l2_does_not(lively: Detector, workbench: Workbench) -> None:
    """They keep different channels; `taylor` is charged for the pictures whose gradients it takes, `l2` for none."""
    config = Pruning(importance="taylor", gradient_pictures=10, round_to=8)
    _, taylor = prune(lively, config, workbench)
    _, l2 = prune(lively, Pruning(importance="l2", round_to=8), workbench)
    assert taylor.details["kept_channels"] != l2.details["kept_channels"]
    assert taylor.spent.search_images == 10 == config.search_images(len(workbench.train), len(workbench.val))
    assert l2.spent.search_images == 0


def test_taylor_depends_on_the_pictures(lively: Detector, workbench: Workbench) -> None:
    """Gradients on one picture and on twenty-four keep different channels; the same pictures keep the same."""
    kept = [
        prune(lively, Pruning(gradient_pictures=count, round_to=8), workbench)[1].details["kept_channels"] for count in (1, 24, 24)
    ]
    assert kept[0] != kept[1] == kept[2]


def test_the_given_detector_is_left_alone(lively: Detector, workbench: Workbench) -> None:
    """Weights and spec are the same after as before, statistics and gradients included."""
    digest = lively.digest
    prune(lively, Pruning(round_to=8), workbench)
    assert lively.digest == digest
    assert not any(tensor.requires_grad for tensor in lively.weights.values())


def test_the_spec_rebuilds_what_was_pruned(pruned: tuple[Detector, Change], tiny_train: Images) -> None:
    """Through JSON and back the spec builds a network that the weights fit, and it says the same."""
    detector, _ = pruned
    edit = detector.spec.edits[-1]
    assert isinstance(edit, KeptChannels)
    again = Detector(Spec.model_validate_json(detector.spec.model_dump_json(by_alias=True)), detector.weights)
    assert torch.equal(answers(again, tiny_train).box_logits, answers(detector, tiny_train).box_logits)


@pytest.mark.parametrize("order", ["pruning first", "low_rank first"])
def test_pruning_and_low_rank_compose_either_way(order: str, lively: Detector, workbench: Workbench, tiny_train: Images) -> None:
    """Whichever comes first, the second works on what the first left, both edits are recorded, and the result detects."""
    pruning, low_rank = Pruning(importance="l2", keep_macs=0.7, round_to=8), LowRank(energy=0.4, round_to=4, only_if_faster=False)
    if order == "pruning first":
        detector, last = factor(prune(lively, pruning, workbench)[0], low_rank, workbench)
        kinds: list[type] = [KeptChannels, Factored]
    else:
        detector, last = prune(factor(lively, low_rank, workbench)[0], pruning, workbench)
        kinds = [Factored, KeptChannels]
    assert [type(edit) for edit in detector.spec.edits] == kinds
    assert last.macs_after < last.macs_before < count_macs(lively.spec)
    assert last.macs_after == count_macs(detector.spec)
    outputs = answers(detector, tiny_train)
    assert torch.isfinite(outputs.box_logits).all()
    assert outputs.score_logits.shape == answers(lively, tiny_train).score_logits.shape


@pytest.mark.parametrize("importance", ["random", "taylor"])
@pytest.mark.parametrize("block", ["depthwise", "ghost"])
def test_pruning_light_blocks_is_silencing(
    block: str, importance: str, lively: Detector, workbench: Workbench, tiny_train: Images
) -> None:
    """Depthwise pairs and ghost halves are cut along their dependencies: what is left says what the whole one says, silenced."""
    light = pruning_factory.lively(rebuild(lively, Lightweight.model_validate({"block": block}), workbench)[0])
    config = Pruning.model_validate({"importance": importance, "keep_macs": 0.72, "round_to": 2})
    detector, change = prune(light, config, workbench)
    assert 0.62 * change.macs_before <= change.macs_after <= 0.72 * change.macs_before
    mine, theirs = answers(detector, tiny_train), answers(silenced(light, change.details["kept_channels"]), tiny_train)
    torch.testing.assert_close(mine.score_logits, theirs.score_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine.box_logits, theirs.box_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gradients_are_taken_on_the_device(lively: Detector, workbench: Workbench) -> None:
    """On a CUDA device as many multiply-adds go as on the CPU, and the pruned detector is back on the CPU."""
    here, there = (prune(lively, Pruning(round_to=8), replace(workbench, device=torch.device(name))) for name in ("cpu", "cuda"))
    assert {tensor.device.type for tensor in there[0].weights.values()} == {"cpu"}
    assert there[1].macs_after == pytest.approx(here[1].macs_after, rel=0.02)
