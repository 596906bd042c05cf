"""Narrower networks to compare with: at a share of the widths, and at an estimated latency."""

from __future__ import annotations

import pytest

from compressors.latency import estimated_latency
from compressors.references import narrow_at_latency, narrowed
from detection.blueprint import Architecture, Blueprint, Factored, Ranks
from detection.frozen import InputError
from hardware_profiles.library import load_profile

ARCHITECTURE = Architecture(stem_width=16, stage_widths=(24, 40, 64, 60), stage_depths=(1, 2, 0, 1), neck_width=48, head_width=10)
WIDE = Blueprint(classes=("a", "b"), input_size=(64, 96), architecture=ARCHITECTURE)
PI = load_profile("raspberry-pi-5")


def widths(blueprint: Blueprint) -> tuple[int, ...]:
    """Stem, stages, neck, head."""
    own = blueprint.architecture
    return (own.stem_width, *own.stage_widths, own.neck_width, own.head_width)


def latency_s(blueprint: Blueprint) -> float:
    return estimated_latency(blueprint, PI, "fp32").point_s


def test_widths_at_half_by_hand() -> None:
    """Rounded down to eights: 24 -> 12 -> 8, 40 -> 20 -> 16, 60 -> 30 -> 24; 5 is below the least, which is 8."""
    half = narrowed(WIDE, 0.5)
    assert widths(half) == (8, 8, 16, 32, 24, 24, 8)
    assert half.architecture.stage_depths == ARCHITECTURE.stage_depths
    assert (half.classes, half.input_size) == (WIDE.classes, WIDE.input_size)


def test_all_of_the_widths_is_the_blueprint_itself() -> None:
    """60 and 10 are no multiples of eight and stay as they are."""
    assert narrowed(WIDE, 1.0) == WIDE


def test_a_stem_that_takes_the_first_step_stays_as_wide_as_the_first_stage() -> None:
    """What comes out is a valid architecture: both are narrowed alike."""
    architecture = Architecture(levels=(8, 16), stem_stride=4, stem_width=24, stage_widths=(24, 40, 64), stage_depths=(0, 1, 1))
    assert widths(narrowed(WIDE.model_copy(update={"architecture": architecture}), 0.7))[:2] == (16, 16)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=rf"share {share}: .* above 0 and at most 1"):
        narrowed(WIDE, share)


def test_an_edited_blueprint_is_refused() -> None:
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


def test_a_latency_out_of_reach_is_refused() -> None:
    """The message says what the narrowest would take."""
    least_s = latency_s(narrowed(WIDE, 0.01))
    with pytest.raises(InputError, match=rf"even the narrowest network takes an estimated {least_s:.3g} s"):
        narrow_at_latency(WIDE, PI, "fp32", least_s / 2)
