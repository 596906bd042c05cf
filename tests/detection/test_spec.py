"""A spec says everything, refuses what cannot be built, and never changes."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from detection.compact.architecture import Architecture
from detection.frozen import Frozen, InputError
from detection.spec import (
    Factored,
    KeptChannels,
    LayerWidth,
    Ranks,
    Separated,
    Skipped,
    Spec,
    input_shares,
    parse_settings,
    smaller_input,
)  # fmt: skip
from tests.detection.variants import NARROWER, PLAIN, THINNER, VARIANTS


@pytest.mark.parametrize("name", VARIANTS)
def test_json_says_everything(name: str) -> None:
    """Written and read again it is equal, edits and their order included."""
    spec = VARIANTS[name]
    text = spec.model_dump_json(by_alias=True)
    assert Spec.model_validate_json(text) == spec
    assert json.loads(text)["schema"] == 2
    assert json.loads(text)["settings"] == json.loads(spec.settings.model_dump_json())


def test_edits_keep_their_order() -> None:
    """Pruned then factored is another detector than factored then pruned, and the original stays without edits."""
    assert PLAIN.edited(NARROWER).edited(THINNER).edits == (NARROWER, THINNER)
    assert PLAIN.edited(THINNER).edited(NARROWER).edits == (THINNER, NARROWER)
    assert PLAIN.edits == ()


def test_edits_of_layers_that_go_go_too() -> None:
    """Of each edit the layers that stay, no edit without any; asked by the names of their weights."""
    width, gone = LayerWidth(inputs=8, outputs=4), "head.2"
    edits = (
        KeptChannels(layers={"stem": width, "head.1": width, gone: width}),
        Factored(layers={gone: Ranks(inputs=None, outputs=2)}),
        Separated(layers=("stem", gone)),
        Skipped(blocks=("head.1", gone)),
    )
    spec = PLAIN.model_copy(update={"edits": edits})
    assert spec.only(lambda weight: weight != f"{gone}.weight").edits == (
        KeptChannels(layers={"stem": width, "head.1": width}),
        Separated(layers=("stem",)),
        Skipped(blocks=("head.1",)),
    )
    assert spec.only(lambda _weight: True) == spec


@pytest.mark.parametrize("input_size", [(64, 100), (100, 64), (48, 64), (64, 48)])
def test_both_sides_are_multiples_of_the_coarsest_stride(input_size: tuple[int, int]) -> None:
    """Else the pyramid's levels would not add up; the message says what is allowed, and which side is which."""
    with pytest.raises(ValidationError, match=r"\(height, width\): both must be multiples of 32"):
        Spec(classes=("a",), input_size=input_size, settings=Architecture())


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": []},
        {"classes": ["ring", "ring"]},
        {"input_size": [0, 32]},
        {"family": "large"},
        {"schema": 1},
        {"settings": {"stem_breadth": 8}},
        {"edits": [{"edit": "sharpened", "layers": {}}]},
        {"edits": [{"edit": "kept_channels", "layers": {"stem.0": {"inputs": 3, "outputs": 0}}}]},
        {"edits": [{"edit": "factored", "layers": {"stem.0": {"outputs": 4}}}]},
        {"edits": [{"edit": "separated", "layers": []}]},
        {"colour": "blue"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_cannot_be_built_is_refused(wrong: dict[str, object]) -> None:
    """No or equal classes, no pixels, an unknown family, schema, setting, edit or key, a layer without channels, an open rank."""
    whole = json.loads(PLAIN.model_dump_json(by_alias=True))
    Spec.model_validate(whole)
    with pytest.raises(ValidationError):
        Spec.model_validate(whole | wrong)


class Foreign(Frozen):
    """Settings of no family."""

    width: int = 8


def test_settings_belong_to_the_family() -> None:
    """Those of another kind are refused with the family's name, whether as an object or as data."""
    with pytest.raises(ValidationError, match="Foreign are not those of family 'compact'"):
        Spec(classes=("a",), input_size=(64, 96), settings=Foreign())
    with pytest.raises(ValidationError, match="width"):
        parse_settings("compact", {"width": 8})
    with pytest.raises(InputError, match="family 'large': no such detector family; have compact"):
        parse_settings("large", {})


def test_other_settings_and_another_size_are_checked_and_change_nothing_else() -> None:
    """Classes and edits stay; settings whose strides the input does not fit, and an input that does not fit, are refused."""
    spec = VARIANTS["pruned"]
    wider = Architecture.model_validate(spec.settings.model_dump() | {"neck_width": 24})
    assert spec.having(wider) == spec.model_copy(update={"settings": wider})
    assert spec.at((32, 64)) == spec.model_copy(update={"input_size": (32, 64)})
    short = VARIANTS["short"].at((48, 96))
    with pytest.raises(ValidationError, match="both must be multiples of 32"):
        short.having(PLAIN.settings)
    with pytest.raises(ValidationError, match="both must be multiples of 32"):
        PLAIN.at((48, 96))


def test_nothing_in_it_can_be_assigned() -> None:
    """Specs are shared between cells: one cannot be changed under another's feet."""
    with pytest.raises(ValidationError, match="frozen"):
        PLAIN.input_size = (32, 32)  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Ranks(inputs=1, outputs=1).outputs = 2  # type: ignore[misc]


def seen(height_px: int, width_px: int, *levels: int) -> Spec:
    """A spec of this input."""
    stages = (16, 24, 40, 64)[: len(levels) + 1]
    architecture = Architecture(levels=levels, stage_widths=stages, stage_depths=(1,) * len(stages))
    return Spec(classes=("a",), input_size=(height_px, width_px), settings=architecture)


def test_the_shares_that_a_pyramid_fits_by_hand() -> None:
    """192 x 256 with stride 32 is 6 x 8 cells: only halves keep both whole. Without that level there are 12 x 16: quarters."""
    assert input_shares(seen(192, 256, 8, 16, 32)) == (0.5, 1.0)
    assert input_shares(seen(192, 256, 8, 16)) == (0.25, 0.5, 0.75, 1.0)


def test_a_smaller_input_changes_nothing_else() -> None:
    """Three quarters of 192 x 256 are 144 x 192."""
    spec = seen(192, 256, 8, 16)
    smaller = smaller_input(spec, 0.75)
    assert smaller.input_size == (144, 192)
    assert smaller.settings == spec.settings


@pytest.mark.parametrize("share", [0.75, 0.3, 1.5])
def test_an_input_that_does_not_fit_is_refused(share: float) -> None:
    """The field, what was found, why, and every share that is allowed."""
    with pytest.raises(InputError) as caught:
        smaller_input(seen(192, 256, 8, 16, 32), share)
    assert str(caught.value) == (
        f"input_share {share}: of (192, 256) (height, width) it leaves no whole multiple of the coarsest stride, 32; "
        "allowed are 0.5, 1."
    )
