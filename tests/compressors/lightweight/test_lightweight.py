"""The detector rebuilt from light blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from compressors.contract import Workbench
from compressors.lightweight import Lightweight, light_spec, rebuild
from detection.checkpoint import Detector, fresh
from detection.costs import count_macs
from detection.frozen import InputError
from detection.spec import Factored, Ranks


def test_depthwise_blocks_by_hand(tiny_detector: Detector, workbench: Workbench) -> None:
    """A 3x3 convolution 8 -> 16 with stride 2 becomes 8 single-channel 3x3 with that stride, then 1x1 8 -> 16 without."""
    light, _ = rebuild(tiny_detector, Lightweight(), workbench)
    depthwise, pointwise = (light.network().get_submodule(f"stages.0.0.{part}") for part in ("0", "1.0"))
    assert isinstance(depthwise, nn.Conv2d)
    assert isinstance(pointwise, nn.Conv2d)
    assert (depthwise.groups, depthwise.kernel_size, depthwise.stride) == (8, (3, 3), (2, 2))
    assert (pointwise.groups, pointwise.kernel_size, pointwise.stride) == (1, (1, 1), (1, 1))
    assert tuple(depthwise.weight.shape) == (8, 1, 3, 3)
    assert tuple(pointwise.weight.shape) == (16, 8, 1, 1)


def test_ghost_blocks_by_hand(tiny_detector: Detector, workbench: Workbench) -> None:
    """Of 16 maps 8 come from a real convolution and 8 from a depthwise one on those."""
    light, _ = rebuild(tiny_detector, Lightweight(block="ghost"), workbench)
    assert tuple(light.weights["stages.0.0.primary.0.weight"].shape) == (8, 8, 3, 3)
    assert tuple(light.weights["stages.0.0.cheap.0.weight"].shape) == (8, 1, 3, 3)


def test_stem_and_1x1_convolutions_stay_dense(tiny_detector: Detector, workbench: Workbench) -> None:
    """The stem, the laterals and the last prediction convolutions have the shapes they had."""
    light, _ = rebuild(tiny_detector, Lightweight(), workbench)
    kept = [name for name in tiny_detector.weights if name.startswith(("stem.", "neck.laterals.")) or ".score." in name]
    assert len(kept) > 10
    assert all(light.weights[name].shape == tiny_detector.weights[name].shape for name in kept)


@pytest.mark.parametrize("block", ["depthwise", "ghost"])
def test_light_blocks_cost_less(block: str, tiny_detector: Detector, workbench: Workbench) -> None:
    """Either block needs under 60 % of the multiply-adds, and the change counts what both specs count."""
    light, change = rebuild(tiny_detector, Lightweight.model_validate({"block": block}), workbench)
    assert change.macs_after == count_macs(light.spec) < 0.6 * count_macs(tiny_detector.spec)
    assert change.macs_before == count_macs(tiny_detector.spec)
    assert not change.no_effect


def test_only_the_chosen_parts_change(tiny_detector: Detector, workbench: Workbench) -> None:
    """Without neck and head only the backbone's blocks are light, and the change says so."""
    light, change = rebuild(tiny_detector, Lightweight(neck=False, head=False), workbench)
    architecture = light.spec.settings
    assert (architecture.backbone_block, architecture.neck_block, architecture.head_block) == ("depthwise", "dense", "dense")
    assert change.details == {"parts": ["backbone"]}


def test_choosing_no_part_has_no_effect(tiny_detector: Detector, workbench: Workbench) -> None:
    """With nothing to rebuild the spec stays, and the change owns up to it."""
    light, change = rebuild(tiny_detector, Lightweight(backbone=False, neck=False, head=False), workbench)
    assert light.spec == tiny_detector.spec
    assert change.no_effect


def test_weights_come_back_fresh_from_the_seed(tiny_detector: Detector, workbench: Workbench) -> None:
    """Same seed, same weights; another seed, others; the global generator is left as it was."""
    before = torch.get_rng_state()
    light, _ = rebuild(tiny_detector, Lightweight(), workbench)
    other, _ = rebuild(tiny_detector, Lightweight(), replace(workbench, seed=1))
    assert light.digest == fresh(light.spec, workbench.seed).digest
    assert light.digest != other.digest
    assert torch.equal(before, torch.get_rng_state())


def test_a_width_that_cannot_be_halved_is_refused(tiny_detector: Detector) -> None:
    """A ghost block makes half of its maps: a neck of 17 channels has no half, and the message names the field and the width."""
    odd = tiny_detector.spec.settings.model_copy(update={"neck_width": 17})
    spec = tiny_detector.spec.model_copy(update={"settings": odd})
    with pytest.raises(InputError, match=r"lightweight\.block: ghost: ghost blocks halve their width, .* found 17"):
        light_spec(spec, Lightweight(block="ghost"))
    assert light_spec(spec, Lightweight(block="ghost", neck=False)).settings.neck_block == "dense"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"block": "dense"}, "block"),
        ({"weights": "pretrained"}, "weights"),
        ({"inheritance_pictures": 0}, "inheritance_pictures"),
        ({"stem": True}, "stem"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(given: dict[str, Any], field: str) -> None:
    """At the door, and the refusal names the field."""
    with pytest.raises(ValidationError) as refused:
        Lightweight.model_validate(given)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_an_edited_detector_is_refused(tiny_detector: Detector, workbench: Workbench) -> None:
    """Ranks of an earlier factoring mean nothing in another architecture: the order is said in the message."""
    edit = Factored(layers={"stages.3.0.0": Ranks(inputs=8, outputs=8)})
    edited = fresh(tiny_detector.spec.edited(edit), 0)
    with pytest.raises(InputError, match="before pruning and low_rank"):
        rebuild(edited, Lightweight(), workbench)
