"""The ways of feeding an input: how many, in which order, and what stands in `detector.input` for each."""

from __future__ import annotations

import pytest

from detection.file_interface.interface import PictureForm
from flows.inspect.feeding import DECLARED, NUMBERS, Feeding, feedings

PLAIN = PictureForm()


def forms(found: list[Feeding]) -> dict[tuple[str, str], PictureForm]:
    """Settings by numbers and colour."""
    return {(own.numbers, own.colour): own.form for own in found}


@pytest.mark.parametrize(
    ("dtype", "channels", "count"), [("float32", 3, 28), ("float16", 3, 28), ("uint8", 3, 4), ("float32", 1, 6), ("uint8", 1, 2)]
)
def test_every_input_has_its_ways(dtype: str, channels: int, count: int) -> None:
    """Seven kinds of numbers, two orders of colours and two ways to resize; bytes have no numbers, grey pictures no order."""
    found = feedings(dtype, channels, PLAIN, "letterbox")
    assert len(set(found)) == len(found) == count
    assert {own.colour for own in found} == ({"rgb", "bgr"} if channels == 3 else {"grey"})
    assert {len(own.form.mean) for own in found if own.form.mean[0] != 0} <= {channels}


def test_lists_are_in_the_order_of_the_channels() -> None:
    """ImageNet's red mean is 0.485: first for red, green, blue, last for blue, green, red; the other order exchanges them."""
    found = forms(feedings("float32", 3, PLAIN, "letterbox"))
    means = {key: form.mean for key, form in found.items()}
    own, other = "ImageNet's mean and deviation", "ImageNet's of the other colour order"
    assert means[own, "rgb"] == means[other, "bgr"] == (0.485, 0.456, 0.406)
    assert means[own, "bgr"] == means[other, "rgb"] == (0.406, 0.456, 0.485)
    assert found[own, "bgr"].std == (0.225, 0.224, 0.229)


def test_what_the_plan_declares_comes_first() -> None:
    """Its numbers in its order of colours and its way to resize: among equals the first is taken."""
    declared = PictureForm(colour="bgr", scale=1.0)
    found = feedings("float32", 3, declared, "stretch")
    assert found[0] == Feeding("0 to 255", "bgr", "stretch", declared)
    assert found[1] == Feeding("0 to 255", "bgr", "letterbox", declared)
    assert {own.resize for own in found[2:15]} == {"stretch"}


def test_numbers_of_ones_own_are_tried_too() -> None:
    """A mean that no table has, in both orders of colours."""
    declared = PictureForm(scale=1.0, mean=(120.0, 110.0, 100.0), std=(60.0, 60.0, 60.0))
    found = feedings("float32", 3, declared, "letterbox")
    assert len(found) == 4 * (len(NUMBERS) + 1)
    assert found[0] == Feeding(DECLARED, "rgb", "letterbox", declared)
    assert forms(found)[DECLARED, "bgr"] == declared.model_copy(update={"colour": "bgr"})


@pytest.mark.parametrize(("dtype", "channels", "count"), [("float32", 1, 6), ("uint8", 3, 4)])
def test_a_declaration_for_another_input_adds_nothing(dtype: str, channels: int, count: int) -> None:
    """Colours of a grey input, or numbers of bytes, that the plan has by default."""
    assert len(feedings(dtype, channels, PLAIN, "letterbox")) == count
