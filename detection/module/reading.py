"""A user's module as a plan names it: its code as data, and its trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from torch import Tensor

from detection.adapted.network import NETWORK
from detection.brought import ModuleDetector
from detection.family import Selection
from detection.frozen import InputError
from detection.module.building import build
from detection.module.settings import ModuleSettings
from detection.module.user_code import read_code, user_object
from detection.module.weights import read_weights
from detection.spec import Spec

FAMILY = "module"
STRIDE_PX = 32
"""Of a network whose author does not say it: that of the coarsest level of nearly all detectors."""
SUPPRESS: dict[str, Selection] = {"nms": "nms", "none": "best"}
"""What its author says of suppression -> how final detections are chosen."""
MOST_NAMES = 6
"""Files or libraries that a line names."""


def spec_of(asked: ModuleDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...]) -> Spec:
    """The detector as data, for pictures of input_size (height, width); InputError where its code cannot be used.

    Modules and files are looked for from `base` on.
    """
    code = read_code(asked.family, base, asked.spec)
    user = user_object(code)
    if (suppress := getattr(user, "suppress", "nms")) not in SUPPRESS:
        raise InputError(
            f"detector.family: {code.reference}: suppress is {suppress!r}; allowed are 'nms', and 'none' where the network gives "
            f"each object once. Set it to one of them, or leave it out for 'nms'."
        )
    stride_px = getattr(user, "stride_px", STRIDE_PX)
    settings = ModuleSettings(code=code, spec=asked.spec, stride_px=stride_px, select=SUPPRESS[suppress])
    return Spec(family=FAMILY, classes=classes, input_size=input_size, settings=settings)


def weights_of(spec: Spec, path: Path) -> dict[str, Tensor]:
    """The trained weights in a file, which names layers as the user's network does; InputError where they do not fit."""
    wanted = {name.removeprefix(f"{NETWORK}."): own for name, own in build(spec).state_dict().items()}
    return {f"{NETWORK}.{name}": tensor for name, tensor in read_weights(path, wanted).items()}


def about(spec: Spec) -> Iterator[str]:
    """What was read, in lines for people."""
    settings = cast(ModuleSettings, spec.settings)
    code = settings.code
    yield f"{code.reference}: files read: {_some(list(code.files))}"
    if code.data:
        yield f"files that `spec` names: {_some(list(code.data))}"
    if code.libraries:
        yield f"with {_some([f'{name} {version}' for name, version in code.libraries.items()])}"
    if settings.select == "best":
        yield "final detections are the best scores as they are: `suppress` says none"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
