"""Narrow networks of families that offer none: every channel group at a share of its units."""

from __future__ import annotations

import pytest

from compressors.channels.narrower import group_widths, narrowed_groups
from compressors.latency import estimated_latency
from compressors.planning.references import narrow_at_latency, narrowed, narrowest
from detection.brought import ModuleDetector
from detection.checkpoint import Detector, fresh
from detection.costs import count_macs
from detection.spec import Spec
from flows.sweep.given_network import network_spec
from hardware_profiles.schema.library import load_profile
from tests.places import ROOT

PI = load_profile("raspberry-pi-5")


@pytest.fixture(scope="module")
def module(tiny_detector: Detector) -> Spec:
    """A user's own network with 16 channels in the stem and 32 in the two other groups."""
    asked = ModuleDetector(family="own_points:family", spec={"width": 16})
    return network_spec(asked, ROOT / "tests/module_detector", tiny_detector.spec.input_size, tiny_detector.spec.classes)


@pytest.mark.parametrize(("share", "widths"), [(1.0, (32, 32, 16)), (0.75, (24, 24, 8)), (0.5, (16, 16, 8)), (0.01, (8, 8, 8))])
def test_widths_are_multiples_of_eight(module: Spec, share: float, widths: tuple[int, ...]) -> None:
    """By hand, rounded down and at least 8; the network can be built and its layers have these outputs."""
    assert group_widths(module) == (32, 32, 16)
    weights = fresh(narrowed(module, share), 0).weights
    block, middle, stem = (len(weights[f"network.{layer}.0.weight"]) for layer in ("block", "middle", "stem"))
    assert (block, middle, stem) == widths
    assert len(weights["network.score.weight"]) == len(module.classes)


def test_the_whole_share_changes_nothing(module: Spec) -> None:
    """No edit at all, so a reference at that share is refused."""
    assert narrowed_groups(module, 1.0) is module


def test_the_widest_that_is_fast_enough(module: Spec) -> None:
    """Nothing wider among the seven different ones is as fast, and the narrowest stands where none is."""
    least, most = (estimated_latency(own, PI, "fp32").point_s for own in (narrowest(module), module))
    wanted_s = (least + most) / 2
    found = narrow_at_latency(module, PI, "fp32", wanted_s)
    assert estimated_latency(found, PI, "fp32").point_s <= wanted_s
    others = [narrowed(module, channels / 32) for channels in range(8, 33, 8)]
    wider = [own for own in others if count_macs(own) > count_macs(found)]
    assert wider
    assert all(estimated_latency(own, PI, "fp32").point_s > wanted_s for own in wider)
    assert narrow_at_latency(module, PI, "fp32", least / 2) == narrowest(module)
