"""A blueprint says everything, refuses what cannot be built, and never changes."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from detection.compact.blueprint import Architecture, Blueprint, Ranks
from tests.detection.variants import NARROWER, PLAIN, THINNER, VARIANTS


@pytest.mark.parametrize("name", VARIANTS)
def test_json_says_everything(name: str) -> None:
    """Written and read again it is equal, edits and their order included."""
    blueprint = VARIANTS[name]
    text = blueprint.model_dump_json(by_alias=True)
    assert Blueprint.model_validate_json(text) == blueprint
    assert json.loads(text)["schema"] == 1


def test_edits_keep_their_order() -> None:
    """Pruned then factored is another detector than factored then pruned, and the original stays without edits."""
    assert PLAIN.edited(NARROWER).edited(THINNER).edits == (NARROWER, THINNER)
    assert PLAIN.edited(THINNER).edited(NARROWER).edits == (THINNER, NARROWER)
    assert PLAIN.edits == ()


@pytest.mark.parametrize("input_size", [(64, 100), (100, 64), (48, 64), (64, 48)])
def test_both_sides_are_multiples_of_the_coarsest_stride(input_size: tuple[int, int]) -> None:
    """Else the pyramid's levels would not add up; the message says what is allowed, and which side is which."""
    with pytest.raises(ValidationError, match=r"\(height, width\): both must be multiples of 32"):
        Blueprint(classes=("a",), input_size=input_size, architecture=Architecture())


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": []},
        {"input_size": [0, 32]},
        {"family": "large"},
        {"schema": 2},
        {"edits": [{"edit": "sharpened", "layers": {}}]},
        {"edits": [{"edit": "kept_channels", "layers": {"stem.0": {"inputs": 3, "outputs": 0}}}]},
        {"edits": [{"edit": "factored", "layers": {"stem.0": {"outputs": 4}}}]},
        {"colour": "blue"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_cannot_be_built_is_refused(wrong: dict[str, object]) -> None:
    """No classes, no pixels, an unknown family, schema, edit or key, a layer without channels, a rank left open."""
    whole = json.loads(PLAIN.model_dump_json(by_alias=True))
    Blueprint.model_validate(whole)
    with pytest.raises(ValidationError):
        Blueprint.model_validate(whole | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stem_width": 0}, "greater than 0"),
        ({"stage_widths": (8, 8, 8)}, "4 are needed, one for each stride from 4 to 32"),
        ({"levels": (8, 16)}, "3 are needed, one for each stride from 4 to 16"),
        ({"levels": (8, 32)}, "each twice the one before"),
        ({"levels": ()}, "from 8, 16 or 32 on"),
        ({"levels": (16, 32, 64)}, "32 is the coarsest"),
        ({"stem_stride": 4}, "the first is stem_width, 16"),
        ({"box_bins": 1}, "greater than or equal to 2"),
        ({"head_block": "thick"}, "'dense', 'depthwise' or 'ghost'"),
    ],
)
def test_an_impossible_architecture_is_refused(wrong: dict[str, object], message: str) -> None:
    """Widths are positive, every stage has one, levels double, distributions have two bins at least, blocks are of a known kind."""
    with pytest.raises(ValidationError, match=message):
        Architecture.model_validate(wrong)


def test_nothing_in_it_can_be_assigned() -> None:
    """Blueprints are shared between cells: one cannot be changed under another's feet."""
    with pytest.raises(ValidationError, match="frozen"):
        PLAIN.input_size = (32, 32)  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Ranks(inputs=1, outputs=1).outputs = 2  # type: ignore[misc]
