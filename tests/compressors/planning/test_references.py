"""Narrower networks to compare with, at a share of the widths and at an estimated latency, and the teacher for smaller pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compressors.contract import Workbench
from compressors.latency import estimated_latency
from compressors.planning.references import Narrow, SmallerInput, narrow, narrow_at_latency, narrowed, narrowest, see_smaller
from detection.checkpoint import Detector, fresh
from detection.compact.architecture import Architecture, architecture_of
from detection.costs import count_macs, count_params
from detection.frozen import InputError
from detection.spec import Factored, Ranks, Spec
from hardware_profiles.schema.library import load_profile

ARCHITECTURE = Architecture(stem_width=16, stage_widths=(24, 40, 64, 60), stage_depths=(1, 2, 0, 1), neck_width=48, head_width=10)
WIDE = Spec(classes=("a", "b"), input_size=(64, 96), settings=ARCHITECTURE)
PI = load_profile("raspberry-pi-5")


def widths(spec: Spec) -> tuple[int, ...]:
    """Stem, stages, neck, head."""
    own = architecture_of(spec)
    return (own.stem_width, *own.stage_widths, own.neck_width, own.head_width)


def latency_s(spec: Spec) -> float:
    return estimated_latency(spec, PI, "fp32").point_s


def test_widths_at_half_by_hand() -> None:
    """Rounded down to eights: 24 -> 12 -> 8, 40 -> 20 -> 16, 60 -> 30 -> 24; 5 is below the least, which is 8."""
    half = narrowed(WIDE, 0.5)
    assert widths(half) == (8, 8, 16, 32, 24, 24, 8)
    assert architecture_of(half).stage_depths == ARCHITECTURE.stage_depths
    assert (half.classes, half.input_size) == (WIDE.classes, WIDE.input_size)


def test_all_of_the_widths_is_the_spec_itself() -> None:
    """60 and 10 are no multiples of eight and stay as they are."""
    assert narrowed(WIDE, 1.0) == WIDE


def test_a_quotient_of_two_widths_meets_its_multiple() -> None:
    """176 times 120 / 176 is a little less than 120 in floating point; the width is 120 all the same, and not 112."""
    assert 176 * (120 / 176) < 120
    wide = WIDE.having(ARCHITECTURE.model_copy(update={"head_width": 176}))
    assert architecture_of(narrowed(wide, 120 / 176)).head_width == 120


def test_a_stem_that_takes_the_first_step_stays_as_wide_as_the_first_stage() -> None:
    """What comes out is a valid architecture: both are narrowed alike."""
    architecture = Architecture(levels=(8, 16), stem_stride=4, stem_width=24, stage_widths=(24, 40, 64), stage_depths=(0, 1, 1))
    assert widths(narrowed(WIDE.having(architecture), 0.7))[:2] == (16, 16)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=rf"share {share}: .* above 0 and at most 1"):
        narrowed(WIDE, share)


def test_an_edited_spec_is_refused() -> None:
    """Its layers have widths of their own."""
    with pytest.raises(InputError, match="before its edits"):
        narrowed(WIDE.edited(Factored(layers={"stages.3.0.0": Ranks(inputs=8, outputs=8)})), 0.5)


def test_the_widest_that_is_fast_enough() -> None:
    """Of all shares on a fine grid, none that is as fast as wanted is wider than what was found."""
    wanted_s = (latency_s(WIDE) + latency_s(narrowed(WIDE, 0.1))) / 2
    found = narrow_at_latency(WIDE, PI, "fp32", wanted_s)
    assert latency_s(found) <= wanted_s < latency_s(WIDE)
    wider = [own for own in (narrowed(WIDE, share / 100) for share in range(1, 101)) if sum(widths(own)) > sum(widths(found))]
    assert wider
    assert all(latency_s(own) > wanted_s for own in wider)


def test_a_latency_that_it_has_already_needs_no_narrowing() -> None:
    assert narrow_at_latency(WIDE, PI, "fp32", latency_s(WIDE)) == WIDE


def test_at_a_latency_out_of_reach_it_is_the_narrowest() -> None:
    """Nothing is faster."""
    assert narrow_at_latency(WIDE, PI, "fp32", latency_s(narrowest(WIDE)) / 2) == narrowest(WIDE)


def test_the_narrowest_by_hand() -> None:
    """Eight channels everywhere, as far as there are so many; narrowed further, nothing changes."""
    assert widths(narrowest(WIDE)) == (8, 8, 8, 8, 8, 8, 8)
    assert narrowed(narrowest(WIDE), 0.01) == narrowest(WIDE)


@pytest.fixture(scope="module")
def beside(workbench: Workbench) -> Workbench:
    """A workbench whose teacher is the wide network, with the design profile of a device."""
    return replace(workbench, teacher=fresh(WIDE, seed=1), design_profile=PI)


def is_fresh(detector: Detector, seed: int) -> bool:
    """Whether its weights are the ones that the seed alone gives."""
    wanted = fresh(detector.spec, seed).weights
    return all(torch.equal(tensor, wanted[name]) for name, tensor in detector.weights.items())


def test_narrow_by_share_is_fresh_and_says_how_narrow(beside: Workbench) -> None:
    """Widths as worked out above; counts of the teacher before and of the narrow network after."""
    own, change = narrow(beside.teacher, Narrow(width_share=0.5), beside)
    assert widths(own.spec) == (8, 8, 16, 32, 24, 24, 8)
    assert is_fresh(own, beside.seed)
    assert change.details == {"widths": (8, 8, 16, 32, 24, 24, 8)}
    assert (change.macs_before, change.macs_after) == (count_macs(WIDE), count_macs(own.spec))
    assert (change.params_before, change.params_after) == (count_params(WIDE), count_params(own.spec))
    assert (change.method, change.no_effect, change.spent.search_images) == ("narrow", False, 0)


def test_narrow_like_another_detector_is_no_slower(beside: Workbench) -> None:
    """The teacher's shape and pictures, whatever the other's are: as wide as the other's estimated float latency allows."""
    other = fresh(narrowed(WIDE, 0.7).at((32, 96)), seed=2)
    own, change = narrow(other, Narrow(width_share=None), beside)
    assert own.spec == narrow_at_latency(WIDE, PI, "fp32", latency_s(other.spec))
    assert own.spec.input_size == WIDE.input_size
    assert is_fresh(own, beside.seed)
    assert change.details["design_profile"] == PI.id
    assert change.details["wanted_s"] == latency_s(other.spec)
    assert change.details["reached_s"] == latency_s(own.spec) <= latency_s(other.spec)
    assert change.details["target_reached"] is True
    assert change.details["latency_in"] == "float"


def test_narrow_like_an_int8_detector_is_no_slower_in_int8(beside: Workbench) -> None:
    """The widest of those that are as fast in int8; by float estimates another one would be."""
    other = fresh(narrowed(WIDE, 0.7).at((32, 96)), seed=2)
    own, change = narrow(other, Narrow(width_share=None, latency_in="int8"), beside)
    wanted_s = estimated_latency(other.spec, PI, "int8").point_s
    assert own.spec == narrow_at_latency(WIDE, PI, "int8", wanted_s)
    assert own.spec != narrow_at_latency(WIDE, PI, "fp32", latency_s(other.spec))
    assert (change.details["wanted_s"], change.details["latency_in"]) == (wanted_s, "int8")
    assert "in int8 (at most" in change.summary


def test_int8_is_refused_where_the_device_has_none(beside: Workbench) -> None:
    """Before anything is estimated."""
    bench = replace(beside, design_profile=load_profile("jetson-nano"))
    with pytest.raises(InputError, match=r"narrow\.latency_in: int8 is asked for, but the design profile 'jetson-nano'"):
        narrow(bench.teacher, Narrow(width_share=None, latency_in="int8"), bench)


def test_a_detector_as_slow_as_the_teacher_leaves_nothing_to_narrow(beside: Workbench) -> None:
    """The record says that nothing changed."""
    own, change = narrow(beside.teacher, Narrow(width_share=None), beside)
    assert own.spec == WIDE
    assert change.no_effect


def test_beside_a_detector_that_none_keeps_up_with_stands_the_narrowest(beside: Workbench) -> None:
    """And the record says that it is slower than wanted."""
    fast = fresh(narrowest(WIDE).at((32, 32)), seed=2)
    own, change = narrow(fast, Narrow(width_share=None), beside)
    assert own.spec == narrowest(WIDE)
    assert change.details["reached_s"] > change.details["wanted_s"] == latency_s(fast.spec)
    assert change.details["target_reached"] is False
    assert "nothing is narrower" in change.summary


def test_seeing_smaller_is_the_teacher_s_architecture_and_fresh(beside: Workbench) -> None:
    """Half the sides, a quarter of the multiply-adds of every layer, the same parameters."""
    square = replace(beside, teacher=fresh(WIDE.at((64, 64)), seed=1))
    own, change = see_smaller(square.teacher, SmallerInput(input_share=0.5), square)
    assert own.spec == WIDE.at((32, 32))
    assert is_fresh(own, beside.seed)
    assert change.params_before == change.params_after
    assert change.macs_after == change.macs_before / 4
    assert not change.no_effect
    with pytest.raises(InputError, match=r"input_share 0\.75: .* allowed are 0\.5, 1"):
        see_smaller(square.teacher, SmallerInput(input_share=0.75), square)
