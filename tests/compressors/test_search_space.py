"""What the search may choose from."""

from __future__ import annotations

from compressors.search_space import search_space
from detection.blueprint import Architecture

LARGEST = Architecture(stage_widths=(16, 24, 40, 64), stage_depths=(1, 2, 3, 1), neck_width=32, head_width=10)
SHARES = (0.5, 0.75, 1.0)


def test_widths_are_rounded_shares_of_the_largest() -> None:
    """By hand, in multiples of 8: 16 -> 8, 12 rounds to 16; 24 -> 12 and 18 round to 16; 40 -> 20 to 16, 30 to 32; and so on."""
    space = search_space(LARGEST, SHARES, 8)
    assert space.widths == {
        "stage0": (8, 16),
        "stage1": (16, 24),
        "stage2": (16, 32, 40),
        "stage3": (32, 48, 64),
        "neck": (16, 24, 32),
        "head": (8, 10),
    }


def test_depths_reach_from_one_block_to_the_largest() -> None:
    """A stage of three blocks may have one, two or three."""
    assert search_space(LARGEST, SHARES, 8).depths == {"stage0": (1,), "stage1": (1, 2), "stage2": (1, 2, 3), "stage3": (1,)}


def test_a_width_below_the_least_has_no_choice() -> None:
    """Four channels cannot shrink to eight: the layer keeps its own width."""
    narrow = LARGEST.model_copy(update={"neck_width": 4})
    assert search_space(narrow, SHARES, 8).widths["neck"] == (4,)


def test_no_option_exceeds_the_largest() -> None:
    """Whatever the shares and the rounding, a choice never widens a layer, and the largest is always among the options."""
    for round_to in (1, 3, 8, 64):
        space = search_space(LARGEST, SHARES, round_to)
        for i, width in enumerate(LARGEST.stage_widths):
            assert max(space.widths[f"stage{i}"]) == width


def test_the_largest_choice_is_the_architecture_it_started_from() -> None:
    """Taking the last option everywhere gives the largest architecture back, blocks and bins included."""
    largest = LARGEST.model_copy(update={"backbone_block": "depthwise", "box_bins": 5})
    space = search_space(largest, SHARES, 8)
    assert space.architecture({name: options[-1] for name, options in space.options().items()}) == largest


def test_the_smallest_choice_has_the_least_of_everything() -> None:
    """The first option everywhere, by hand; the stem is not searched."""
    space = search_space(LARGEST, SHARES, 8)
    assert space.architecture(space.smallest()) == LARGEST.model_copy(
        update={"stage_widths": (8, 16, 16, 32), "stage_depths": (1, 1, 1, 1), "neck_width": 16, "head_width": 8}
    )


def test_options_name_every_decision() -> None:
    """Six widths and four depths, each named by what it decides."""
    assert list(search_space(LARGEST, SHARES, 8).options()) == [
        "width_stage0", "width_stage1", "width_stage2", "width_stage3", "width_neck", "width_head",
        "depth_stage0", "depth_stage1", "depth_stage2", "depth_stage3",
    ]  # fmt: skip
