"""The architectures that a search may choose from, narrower ones, and ones from light blocks."""

from __future__ import annotations

from typing import Any

import pytest

from detection.compact.architecture import Architecture, architecture_of
from detection.compact.space import PARTS, Space, light_spec, narrowed, space_of, widths_of
from detection.frozen import InputError
from detection.spec import Spec
from tests.conftest import TINY

LARGEST = Architecture(stage_widths=(16, 24, 40, 64), stage_depths=(1, 2, 3, 1), neck_width=32, head_width=10)
SHARES = (0.5, 0.75, 1.0)


def spec_of(architecture: Architecture) -> Spec:
    return Spec(classes=("a",), input_size=(64, 96), settings=architecture)


def below(architecture: Architecture, shares: tuple[float, ...] = SHARES, round_to: int = 8, **options: Any) -> Space:
    """The space below an architecture."""
    return space_of(spec_of(architecture), shares, round_to, options)


def smallest(space: Space) -> Architecture:
    return architecture_of(space.spec({name: options[0] for name, options in space.options().items()}))


def test_widths_are_rounded_shares_of_the_largest() -> None:
    """By hand, in multiples of 8: 16 -> 8, 12 rounds to 16; 24 -> 12 and 18 round to 16; 40 -> 20 to 16, 30 to 32; and so on."""
    assert below(LARGEST).widths == {
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
    assert below(LARGEST).depths == {"stage0": (1,), "stage1": (1, 2), "stage2": (1, 2, 3), "stage3": (1,)}


def test_a_width_below_the_least_has_no_choice() -> None:
    """Four channels cannot shrink to eight: the layer keeps its own width."""
    assert below(LARGEST.model_copy(update={"neck_width": 4})).widths["neck"] == (4,)


def test_no_option_exceeds_the_largest() -> None:
    """Whatever the shares and the rounding, a choice never widens a layer, and the largest is always among the options."""
    for round_to in (1, 3, 8, 64):
        space = below(LARGEST, round_to=round_to)
        for i, width in enumerate(LARGEST.stage_widths):
            assert max(space.widths[f"stage{i}"]) == width


@pytest.mark.parametrize(
    ("width", "round_to", "options"),
    [(16, 16, (16,)), (64, 512, (64,)), (48, 16, (16, 32, 48)), (80, 32, (32, 64, 80)), (24, 16, (16, 24))],
)
def test_widths_are_whole_multiples(width: int, round_to: int, options: tuple[int, ...]) -> None:
    """Of shares 0.25, 0.5 and 1: never less than one multiple, and a width below one multiple stays as it is."""
    assert below(LARGEST.model_copy(update={"neck_width": width}), (0.25, 0.5, 1.0), round_to).widths["neck"] == options


def test_the_largest_choice_is_the_architecture_it_started_from() -> None:
    """Taking the last option everywhere gives the largest architecture back, blocks and bins included."""
    largest = LARGEST.model_copy(update={"backbone_block": "depthwise", "box_bins": 5})
    space = below(largest)
    assert space.largest == spec_of(largest)
    assert space.spec({name: options[-1] for name, options in space.options().items()}) == space.largest


def test_the_smallest_choice_has_the_least_of_everything() -> None:
    """The first option everywhere, by hand."""
    assert smallest(below(LARGEST)) == LARGEST.model_copy(
        update={"stem_width": 8, "stage_widths": (8, 16, 16, 32), "stage_depths": (1, 1, 1, 1), "neck_width": 16, "head_width": 8}
    )


def test_options_name_every_decision() -> None:
    """Seven widths and four depths, each named by what it decides."""
    assert list(below(LARGEST).options()) == [
        "width_stem", "width_stage0", "width_stage1", "width_stage2", "width_stage3", "width_neck", "width_head",
        "depth_stage0", "depth_stage1", "depth_stage2", "depth_stage3",
    ]  # fmt: skip


def test_a_stem_that_takes_the_first_step_decides_for_the_first_stage() -> None:
    """With stem_stride 4 there is one width for both, and the architectures of the space are valid."""
    largest = Architecture(levels=(8, 16), stem_stride=4, stem_width=16, stage_widths=(16, 24, 40), stage_depths=(0, 1, 2))
    space = below(largest, least_depth=0)
    assert "stage0" not in space.widths
    assert space.depths == {"stage0": (0,), "stage1": (0, 1), "stage2": (0, 1, 2)}
    least = smallest(space)
    assert (least.stem_width, least.stage_widths) == (8, (8, 16, 16))
    assert Architecture.model_validate(least.model_dump()) == least


def test_the_space_may_be_of_another_shape() -> None:
    """What is named holds for every architecture of the space; without a level its stage goes, a longer step widens the stem."""
    space = below(LARGEST, levels=[8, 16], stem_stride=4, head_branches="shared", head_depth=1, block="depthwise")
    assert space.largest == spec_of(
        Architecture(
            levels=(8, 16), stem_stride=4, stem_width=16, stage_widths=(16, 24, 40), stage_depths=(1, 2, 3), neck_width=32,
            head_width=10, head_branches="shared", head_depth=1, backbone_block="depthwise", neck_block="depthwise",
            head_block="depthwise",
        )
    )  # fmt: skip
    assert below(LARGEST, levels=None, stem_stride=None) == below(LARGEST)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": ()}, r"nas\.space\.levels: .*at least 1 item"),
        ({"levels": (16, 32)}, r"nas\.space\.levels: \(16, 32\) is no beginning of the detector's levels \(8, 16, 32\)"),
        ({"stem_stride": 3}, r"nas\.space\.stem_stride: Input should be 2 or 4 \(found 3\)"),
        ({"head_branches": "both"}, r"nas\.space\.head_branches: .*'separate' or 'shared' \(found 'both'\)"),
        ({"head_depth": 0}, r"nas\.space\.head_depth: .*greater than 0"),
        ({"block": "fused"}, r"nas\.space\.block: .*'dense', 'depthwise' or 'ghost'"),
        ({"least_depth": -1}, r"nas\.space\.least_depth: .*greater than or equal to 0"),
        ({"stride": 2}, r"nas\.space\.stride: .*settings are levels, stem_stride, head_branches, head_depth, block, least_depth\."),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, Any], words: str) -> None:
    """The message names the setting, what was found and what is allowed."""
    with pytest.raises(InputError, match=words):
        below(LARGEST, **options)


def test_ghost_blocks_need_widths_that_can_be_halved() -> None:
    """Multiples of 4 at least, and a neck of 17 channels has no half: the message names field and width."""
    with pytest.raises(InputError, match=r"nas\.round_to: 6: ghost blocks halve their width, so it must be a multiple of 4"):
        below(LARGEST, round_to=6, block="ghost")
    with pytest.raises(InputError, match=r"nas\.space\.block: ghost: ghost blocks halve their width, .* found 17"):
        below(LARGEST.model_copy(update={"neck_width": 17}), block="ghost")


@pytest.mark.parametrize("parts", [PARTS, ("backbone",), ("neck", "head"), ()])
def test_only_the_chosen_parts_are_light(parts: tuple[str, ...]) -> None:
    """Blocks of the parts are replaced, and nothing else changes."""
    before = spec_of(TINY)
    after = light_spec(before, "depthwise", parts)
    assert after == before.having(TINY.model_copy(update={f"{part}_block": "depthwise" for part in parts}))


def test_a_width_that_cannot_be_halved_is_refused() -> None:
    """A ghost block makes half of its maps: a neck of 17 channels has no half, and the message names the field and the width."""
    odd = spec_of(TINY.model_copy(update={"neck_width": 17}))
    with pytest.raises(InputError, match=r"lightweight\.block: ghost: ghost blocks halve their width, .* found 17"):
        light_spec(odd, "ghost", PARTS)
    assert architecture_of(light_spec(odd, "ghost", ("backbone", "head"))).neck_block == "dense"


def test_narrowed_widths_by_hand() -> None:
    """Half of stem 16, stages 16, 24, 40 and 64, neck 32 and head 10, down to multiples of 8, at least 8; the rest stays."""
    before = spec_of(LARGEST)
    assert widths_of(before) == (16, 16, 24, 40, 64, 32, 10)
    after = narrowed(before, 0.5)
    assert widths_of(after) == (8, 8, 8, 16, 32, 16, 8)
    changed = {"stem_width", "stage_widths", "neck_width", "head_width"}
    assert after.settings.model_dump(exclude=changed) == LARGEST.model_dump(exclude=changed)
    assert narrowed(before, 1) is before
