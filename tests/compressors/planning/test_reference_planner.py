"""Which references a sweep makes, how they are named, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from compressors.lightweight import Lightweight
from compressors.nas import Nas
from compressors.planning.graph import Combinations, Menu, Reference, ReferenceConfig, cells_of, references_of
from compressors.planning.reference_planner import PREFIX
from compressors.planning.references import (
    Narrow,
    NarrowReference,
    RandomPruningReference,
    SmallerInput,
    SmallerInputReference,
)
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.compact.architecture import Architecture
from detection.frozen import InputError
from detection.spec import Spec
from flows.records.schema import REFERENCE_PREFIX, is_reference
from hardware_profiles.schema.library import load_profile

TEACHER = Spec(classes=("a", "b"), input_size=(96, 192), settings=Architecture())
PROFILE = load_profile("raspberry-pi-5")
SMALL = Architecture(
    stem_width=8, stage_widths=(8, 8, 8, 8), stage_depths=(3, 3, 3, 3), neck_width=8, head_width=8, head_depth=3, box_bins=4
)
"""As narrow as can be, and deep."""


def made(
    *wanted: ReferenceConfig, menu: Menu | None = None, teacher: Spec = TEACHER, combinations: Combinations = "all"
) -> dict[str, Reference]:
    """The wanted references by name."""
    own = menu or Menu()
    return {ref.name: ref for ref in references_of(wanted, own, cells_of(own, combinations), teacher, PROFILE)}


def usual(menu: Menu, teacher: Spec = TEACHER) -> list[str]:
    """Names of what is made where nothing is said."""
    return [reference.name for reference in references_of(None, menu, cells_of(menu), teacher, PROFILE)]


def refusal(wanted: ReferenceConfig, **more: Any) -> str:
    """What is said of a reference that cannot be."""
    with pytest.raises(InputError) as caught:
        made(wanted, **more)
    return str(caught.value)


def test_nothing_said_makes_one_of_each_kind() -> None:
    """Sides of 96 x 192 with a stride of 32: thirds fit, and two of them are the largest below 1. All in float."""
    names = usual(Menu())
    assert names == ["reference:random-pruning-0.5", "reference:narrow~nas", "reference:input-0.6667"]
    assert made() == {}


def test_what_the_menu_does_not_allow_of_is_left_out() -> None:
    """No search, no network like it; no share of multiply-adds, no random pruning; no smaller pictures, none that sees them."""
    assert usual(Menu(nas=())) == ["reference:random-pruning-0.5", "reference:input-0.6667"]
    assert usual(Menu(nas=(), pruning=(Pruning(keep_latency=0.5),))) == ["reference:input-0.6667"]
    odd = Spec(classes=("a",), input_size=(96, 128), settings=Architecture())
    assert usual(Menu(nas=(), pruning=()), odd) == []


def test_a_search_that_must_end_below_the_narrowest_gets_no_reference_unasked() -> None:
    """Where no narrow network can be as fast as what is searched for; where one can, there is one."""
    narrow = TEACHER.having(SMALL)
    for share, expected in ((0.5, False), (1.0, True)):
        assert ("reference:narrow~nas" in usual(Menu(nas=(Nas(budget_share=share),)), narrow)) == expected


def test_random_pruning_is_made_once_for_equal_targets() -> None:
    """Two importances of half the multiply-adds are one reference, another share is a second, a share of latency none."""
    menu = Menu(
        pruning=(Pruning(), Pruning(importance="l2"), Pruning(keep_macs=0.3), Pruning(keep_latency=0.5)), nas=(), quantization=()
    )
    found = made(RandomPruningReference(), menu=menu)
    assert list(found) == ["reference:random-pruning-0.5", "reference:random-pruning-0.3"]
    assert found["reference:random-pruning-0.3"].configs == (Pruning(importance="random", keep_macs=0.3),)
    assert found["reference:random-pruning-0.3"].setting == RandomPruningReference(like="taylor-0.3")
    assert found["reference:random-pruning-0.3"].rebuilding is None


def test_random_pruning_keeps_all_but_the_importance() -> None:
    """Grouping, floor and rounding stay, since they decide how many channels go; what differs from the default is in the name."""
    variant = Pruning(keep_macs=0.4, grouping="isomorphic", most_removed=0.9, round_to=4, gradient_pictures=8)
    (own,) = made(RandomPruningReference(like=variant.label()), menu=Menu(pruning=(Pruning(), variant))).values()
    assert own.name == "reference:random-pruning-0.4-isomorphic-round-4-most-0.9"
    assert own.configs == (
        Pruning(importance="random", keep_macs=0.4, grouping="isomorphic", most_removed=0.9, round_to=4),
    )  # fmt: skip


def test_a_random_variant_of_the_menu_is_its_own_reference() -> None:
    """Chance beside chance says nothing."""
    assert usual(Menu(nas=(), pruning=(Pruning(importance="random"),))) == ["reference:input-0.6667"]


def test_narrow_by_share_and_smaller_pictures_begin_anew() -> None:
    """What rebuilds them stands in their step, with what was left open filled in."""
    found = made(NarrowReference(width_share=0.25), SmallerInputReference(), SmallerInputReference(input_share=1 / 3))
    assert list(found) == ["reference:narrow-0.25", "reference:input-0.6667", "reference:input-0.3333"]
    narrow, smaller, _ = found.values()
    assert (narrow.rebuilding, narrow.configs, narrow.like) == (Narrow(width_share=0.25), (), None)
    assert (smaller.rebuilding, smaller.configs) == (SmallerInput(input_share=2 / 3), ())
    assert smaller.setting == SmallerInputReference(input_share=2 / 3)
    (rounded,) = made(SmallerInputReference(input_share=0.6667)).values()
    assert rounded == smaller, "as a message shows it"


def test_quantized_references_are_named_so_and_use_the_first_variant() -> None:
    """PTQ with the menu's first variant: what that trains besides is left out, since no cell's weights see it."""
    first = Quantization(calibrator="mse", qat_epochs=3, qat_learning_rate=1e-3)
    menu = Menu(quantization=(first, Quantization(precision="float16")))
    wanted = (
        NarrowReference(width_share=0.5, quantization=True),
        SmallerInputReference(quantization=True),
        RandomPruningReference(quantization=True),
        NarrowReference(like="nas", quantization=True),
    )
    found = made(*wanted, menu=menu)
    assert list(found) == [
        "reference:narrow-0.5+quantization",
        "reference:input-0.6667+quantization",
        "reference:random-pruning-0.5+quantization",
        "reference:narrow~nas+quantization",
    ]
    for reference in found.values():
        assert reference.config("quantization") == Quantization(calibrator="mse")
        assert f"{reference.float_name}+quantization" == reference.name


def test_a_reference_like_a_quantized_cell_is_quantized_in_the_same_way() -> None:
    """The cell's own variant, not the menu's first; its name says which."""
    menu = Menu(quantization=(Quantization(), Quantization(calibrator="mse")))
    (own,) = made(NarrowReference(like="pruning+quantization:int8-mse"), menu=menu).values()
    assert own.name == own.float_name == "reference:narrow~pruning+quantization:int8-mse"
    assert own.configs == (Quantization(calibrator="mse"),)
    assert own.like is not None
    assert own.like.name == "pruning+quantization:int8-mse"
    assert own.rebuilding == Narrow(width_share=None, latency_in="int8")
    (single,) = made(NarrowReference(like="pruning+quantization", quantization=True)).values()
    assert single.name == "reference:narrow~pruning+quantization"
    assert single.float_name == "reference:narrow~pruning"


@pytest.mark.parametrize(
    ("like", "latency_in"), [("pruning", "float"), ("pruning+quantization", "int8"), ("pruning+quantization:float16", "float")]
)
def test_a_reference_is_as_fast_as_its_cell_in_the_cell_s_numbers(like: str, latency_in: str) -> None:
    """int8 where the cell's files compute in it; float16 weights are widened before anything is multiplied."""
    several = like.endswith("float16")
    menu = Menu(quantization=(Quantization(), Quantization(precision="float16"))) if several else Menu()
    (own,) = made(NarrowReference(like=like), menu=menu).values()
    assert isinstance(own.rebuilding, Narrow)
    assert own.rebuilding.latency_in == latency_in


def test_how_fast_a_search_will_be_is_known_in_its_own_numbers() -> None:
    """A search by int8 latency has a budget in int8, so a reference like its quantized cell is refused where nothing narrow meets
    that; like its float cell, whose time is not limited, it is not."""
    menu = Menu(nas=(Nas(latency_in="int8", budget_share=0.01, width_shares=(0.1, 1.0), space={"least_depth": 0}, evaluations=4),))
    assert "s in int8, that of 'nas+quantization' at most" in refusal(NarrowReference(like="nas+quantization"), menu=menu)
    assert "reference:narrow~nas" in made(NarrowReference(like="nas"), menu=menu)


def test_float_and_quantized_stand_side_by_side() -> None:
    """One reference in both is two, of different names."""
    found = made(NarrowReference(width_share=0.5), NarrowReference(width_share=0.5, quantization=True))
    assert list(found) == ["reference:narrow-0.5", "reference:narrow-0.5+quantization"]


def test_no_cell_is_called_like_a_reference() -> None:
    """The prefix tells them apart, here and in the records."""
    assert PREFIX == REFERENCE_PREFIX
    assert all(is_reference(name) for name in usual(Menu()))
    assert not any(is_reference(cell.name) for cell in cells_of(Menu()))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (NarrowReference(width_share=1.0), "grid.references.0.width_share: 1 leaves every width as it is"),
        (NarrowReference(like="pruned"), "grid.references.0.like: 'pruned' is no cell of this sweep, such as 'lightweight', 'nas'"),
        (NarrowReference(like="none"), "grid.references.0.like: the network of 'none' is the teacher's"),
        (
            NarrowReference(like="distillation"),
            "grid.references.0.like: the network of 'distillation' is the teacher's",
        ),
        (SmallerInputReference(input_share=1.0), "grid.references.0.input_share: 1 leaves the pictures as they are"),
        (
            SmallerInputReference(input_share=0.5),
            "grid.references.0.input_share 0.5: of (96, 192) (height, width) it",
        ),
        (RandomPruningReference(like="l2-0.5"), "grid.references.0.like: 'l2-0.5' is no variant of pruning that keep_macs decides"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_with_the_field(wanted: ReferenceConfig, words: str) -> None:
    """Where the setting stands, what was found there, and what is allowed."""
    assert refusal(wanted).startswith(words)


def test_what_the_menu_cannot_give_is_refused() -> None:
    """No variant to quantize by, none to prune like, no smaller pictures, a cell that only a crossed grid has."""
    odd = Spec(classes=("a",), input_size=(96, 128), settings=Architecture())
    quantized = SmallerInputReference(quantization=True)
    assert refusal(quantized, menu=Menu(quantization=())).startswith("grid.references.0.quantization: the menu has no variant")
    assert refusal(RandomPruningReference(), menu=Menu(pruning=(Pruning(keep_latency=0.5),))).startswith(
        "grid.references.0: the menu has no variant of pruning with keep_macs"
    )
    assert refusal(SmallerInputReference(), teacher=odd).startswith(
        "grid.references.0.input_share: no pictures smaller than (96, 128)"
    )
    crossed = NarrowReference(like="nas+pruning")
    assert "is no cell of this sweep" in refusal(crossed, combinations="alone")
    assert "reference:narrow~nas+pruning" in made(crossed)


def test_nothing_narrow_enough_is_refused_where_it_can_be_known() -> None:
    """Eight channels everywhere cannot be narrower, and a search without the coarse levels ends below that, whatever it finds.

    How fast pruned and factored networks will be is not known beforehand.
    """
    narrow = TEACHER.having(SMALL)
    menu = Menu(nas=(Nas(space={"levels": [8], "stem_stride": 4, "head_depth": 1, "head_branches": "shared"}, evaluations=4),))
    words = refusal(NarrowReference(like="nas"), menu=menu, teacher=narrow)
    assert words.startswith("grid.references.0.like: nothing is narrow enough. On raspberry-pi-5 even the narrowest network takes")
    assert "that of 'nas' at most" in words
    assert "reference:narrow~pruning" in made(NarrowReference(like="pruning"), teacher=narrow)
    assert "reference:narrow~low_rank" in made(NarrowReference(like="low_rank"), teacher=narrow)


def test_a_cell_that_cannot_be_is_told_as_the_menu_s_fault() -> None:
    """The field is the method's; unasked, the reference is left out and the menu's own check says it."""
    impossible = Menu(nas=(Nas(space={"levels": [16, 32]}),))
    assert refusal(NarrowReference(like="nas"), menu=impossible).startswith("grid.methods.nas.space.levels: (16, 32)")
    assert usual(impossible) == usual(Menu(nas=()))


def test_the_same_reference_twice_is_refused() -> None:
    """Also where the settings differ in what the name does not say."""
    with pytest.raises(InputError, match=r"grid\.references\.1: makes 'reference:narrow-0\.5', which the list has already"):
        made(NarrowReference(width_share=0.5), NarrowReference(width_share=0.5))
    with pytest.raises(InputError, match=r"grid\.references\.1: makes 'reference:random-pruning-0\.5'"):
        made(RandomPruningReference(), RandomPruningReference(like="taylor-0.5"))


@pytest.mark.parametrize(("settings", "found"), [({}, "neither"), ({"width_share": 0.5, "like": "nas"}, "both")])
def test_a_narrow_reference_has_one_measure(settings: dict[str, Any], found: str) -> None:
    """A share of the widths, or a cell to be as fast as."""
    with pytest.raises(ValueError, match=f"width_share, like: exactly one must be set, but {found} is"):
        NarrowReference(**settings)


def test_light_blocks_are_looked_up_before_they_are_made() -> None:
    """A reference like a cell of light blocks is checked on the estimate of the very network that the cell will have."""
    assert made(NarrowReference(like="lightweight"), menu=Menu(lightweight=(Lightweight(block="ghost"),)))
