"""What the search may choose from."""

from __future__ import annotations

import pytest

from compressors.nas.space import input_shares, search_space, smaller_input
from detection.compact.blueprint import Architecture, Blueprint
from detection.frozen import InputError

LARGEST = Architecture(stage_widths=(16, 24, 40, 64), stage_depths=(1, 2, 3, 1), neck_width=32, head_width=10)
SHARES = (0.5, 0.75, 1.0)


def test_widths_are_rounded_shares_of_the_largest() -> None:
    """By hand, in multiples of 8: 16 -> 8, 12 rounds to 16; 24 -> 12 and 18 round to 16; 40 -> 20 to 16, 30 to 32; and so on."""
    space = search_space(LARGEST, SHARES, 8)
    assert space.widths == {
        "stem": (8, 16),
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


@pytest.mark.parametrize(
    ("width", "round_to", "options"),
    [(16, 16, (16,)), (64, 512, (64,)), (48, 16, (16, 32, 48)), (80, 32, (32, 64, 80)), (24, 16, (16, 24))],
)
def test_widths_are_whole_multiples(width: int, round_to: int, options: tuple[int, ...]) -> None:
    """Of shares 0.25, 0.5 and 1: never less than one multiple, and a width below one multiple stays as it is."""
    largest = LARGEST.model_copy(update={"neck_width": width})
    assert search_space(largest, (0.25, 0.5, 1.0), round_to).widths["neck"] == options


def test_the_largest_choice_is_the_architecture_it_started_from() -> None:
    """Taking the last option everywhere gives the largest architecture back, blocks and bins included."""
    largest = LARGEST.model_copy(update={"backbone_block": "depthwise", "box_bins": 5})
    space = search_space(largest, SHARES, 8)
    assert space.architecture({name: options[-1] for name, options in space.options().items()}) == largest


def test_the_smallest_choice_has_the_least_of_everything() -> None:
    """The first option everywhere, by hand."""
    space = search_space(LARGEST, SHARES, 8)
    assert space.architecture(space.smallest()) == LARGEST.model_copy(
        update={"stem_width": 8, "stage_widths": (8, 16, 16, 32), "stage_depths": (1, 1, 1, 1), "neck_width": 16, "head_width": 8}
    )


def test_options_name_every_decision() -> None:
    """Seven widths and four depths, each named by what it decides."""
    assert list(search_space(LARGEST, SHARES, 8).options()) == [
        "width_stem", "width_stage0", "width_stage1", "width_stage2", "width_stage3", "width_neck", "width_head",
        "depth_stage0", "depth_stage1", "depth_stage2", "depth_stage3",
    ]  # fmt: skip


def test_a_stem_that_takes_the_first_step_decides_for_the_first_stage() -> None:
    """With stem_stride 4 there is one width for both, and the architectures of the space are valid."""
    largest = Architecture(levels=(8, 16), stem_stride=4, stem_width=16, stage_widths=(16, 24, 40), stage_depths=(0, 1, 2))
    space = search_space(largest, SHARES, 8, least_depth=0)
    assert "stage0" not in space.widths
    assert space.depths == {"stage0": (0,), "stage1": (0, 1), "stage2": (0, 1, 2)}
    smallest = space.architecture(space.smallest())
    assert (smallest.stem_width, smallest.stage_widths) == (8, (8, 16, 16))
    assert Architecture.model_validate(smallest.model_dump()) == smallest


def test_the_size_is_the_product_of_the_options() -> None:
    """Widths 2 x 2 x 2 x 3 x 3 x 3 x 2 and depths 1 x 2 x 3 x 1."""
    assert search_space(LARGEST, SHARES, 8).size == 2 * 2 * 2 * 3 * 3 * 3 * 2 * 1 * 2 * 3 * 1


def seen(height_px: int, width_px: int, *levels: int) -> Blueprint:
    """A blueprint of this input."""
    stages = (16, 24, 40, 64)[: len(levels) + 1]
    architecture = Architecture(levels=levels, stage_widths=stages, stage_depths=(1,) * len(stages))
    return Blueprint(classes=("a",), input_size=(height_px, width_px), architecture=architecture)


def test_the_shares_that_a_pyramid_fits_by_hand() -> None:
    """192 x 256 with stride 32 is 6 x 8 cells: only halves keep both whole. Without that level there are 12 x 16: quarters."""
    assert input_shares(seen(192, 256, 8, 16, 32)) == (0.5, 1.0)
    assert input_shares(seen(192, 256, 8, 16)) == (0.25, 0.5, 0.75, 1.0)


def test_a_smaller_input_changes_nothing_else() -> None:
    """Three quarters of 192 x 256 are 144 x 192."""
    blueprint = seen(192, 256, 8, 16)
    smaller = smaller_input(blueprint, 0.75)
    assert smaller.input_size == (144, 192)
    assert smaller.architecture == blueprint.architecture


@pytest.mark.parametrize("share", [0.75, 0.3, 1.5])
def test_an_input_that_does_not_fit_is_refused(share: float) -> None:
    """The field, what was found, why, and every share that is allowed."""
    with pytest.raises(InputError) as caught:
        smaller_input(seen(192, 256, 8, 16, 32), share)
    assert str(caught.value) == (
        f"input_share {share}: of (192, 256) (height, width) it leaves no whole multiple of 32, the coarsest stride; "
        "allowed are 0.5, 1."
    )
