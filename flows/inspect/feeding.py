"""How pictures may have to come into an unknown file: numbers that detectors are trained on, orders of colours, ways to resize."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from detection.boxes import Resize
from detection.file_interface.interface import Colour, PictureForm

NUMBERS: dict[str, dict[str, Any]] = {
    "0 to 1": {},
    "0 to 255": {"scale": 1.0},
    "-1 to 1": {"scale": 127.5, "mean": (1.0, 1.0, 1.0)},
    "ImageNet's mean and deviation": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "ImageNet's of the other colour order": {"mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229)},
    "0 to 255 less ImageNet's mean": {"scale": 1.0, "mean": (123.675, 116.28, 103.53)},
    "0 to 255 less that of the other colour order": {"scale": 1.0, "mean": (103.53, 116.28, 123.675)},
}
"""What detectors are trained on -> the settings of `detector.input` that give it for red, green, blue; for blue, green, red the
lists are turned round. Some were trained with a mean of one order and pictures of the other."""
ONE_CHANNEL = ("0 to 1", "0 to 255", "-1 to 1")
DECLARED = "as declared"
"""Numbers that the plan gives and that are none of those."""
COLOURS: tuple[Colour, ...] = ("rgb", "bgr")
RESIZES: tuple[Resize, ...] = ("letterbox", "stretch")
AXES = ("numbers", "colour", "resize")
"""Parts of a feeding that are judged one by one."""


class Feeding(NamedTuple):
    """One way of bringing pictures into a file."""

    numbers: str
    colour: Colour
    resize: Resize
    form: PictureForm
    """What of it stands in `detector.input`."""

    def __str__(self) -> str:
        """In words, for a sentence."""
        resized = {"letterbox": "letterboxed", "stretch": "stretched"}[self.resize]
        return f"{self.colour.upper() if self.colour != 'grey' else 'grey'}, {self.numbers}, {resized}"


def feedings(dtype: str, channels: int, declared: PictureForm, resize: Resize) -> list[Feeding]:
    """Every way that such an input takes, what the plan declares first: among equals that is chosen."""
    forms = list(_forms(dtype, channels))
    known = {form for _, form in forms}
    if dtype != "uint8" and declared.model_copy(update={"colour": _colours(channels)[0]}) not in known and declared not in known:
        forms += [(DECLARED, declared.model_copy(update={"colour": colour})) for colour in _colours(channels)]
    found = [Feeding(numbers, form.colour, how, form) for (numbers, form), how in product(forms, RESIZES)]
    return sorted(found, key=lambda own: (own.form != declared, own.resize != resize))


def _forms(dtype: str, channels: int) -> Iterator[tuple[str, PictureForm]]:
    """Names of numbers and their settings, in each order of colours."""
    names = ("bytes",) if dtype == "uint8" else ONE_CHANNEL if channels == 1 else tuple(NUMBERS)
    for numbers, colour in product(names, _colours(channels)):
        taken = {"rgb": slice(None), "bgr": slice(None, None, -1), "grey": slice(1)}[colour]
        settings = {name: own[taken] if isinstance(own, tuple) else own for name, own in NUMBERS.get(numbers, {}).items()}
        yield numbers, PictureForm(colour=colour, **settings)


def _colours(channels: int) -> tuple[Colour, ...]:
    return ("grey",) if channels == 1 else COLOURS
