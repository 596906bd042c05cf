"""A user's module as a plan names it: its code as data, and its trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import cast

from detection.adapted.network import NETWORK
from detection.brought import ModuleDetector
from detection.checkpoint import Detector
from detection.family import Selection
from detection.frozen import InputError, some_of
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


def trained_of(
    asked: ModuleDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None, seed: int
) -> Detector | None:
    """The detector with the weights that are named; None where none are. InputError where they or their classes do not fit."""
    if asked.weights is None:
        return None
    if classes is not None and classes != asked.classes:
        own, theirs = some_of(asked.classes), some_of(classes)
        raise InputError(f"detector.classes: the weights predict {own}, the data has {theirs}, and their order counts.")
    spec = spec_of(asked, base, input_size, asked.classes)
    wanted = {name.removeprefix(f"{NETWORK}."): own for name, own in build(spec).state_dict().items()}
    weights = read_weights(base / asked.weights, wanted)
    return Detector(spec, MappingProxyType({f"{NETWORK}.{name}": tensor for name, tensor in weights.items()}))


def about(spec: Spec) -> Iterator[str]:
    """What was read, in lines for people."""
    settings = cast(ModuleSettings, spec.settings)
    code = settings.code
    yield f"{code.reference}: files read: {some_of(list(code.files))}"
    if code.data:
        yield f"files that `spec` names: {some_of(list(code.data))}"
    if code.libraries:
        yield f"with {some_of([f'{name} {version}' for name, version in code.libraries.items()])}"
    if settings.select == "best":
        yield "final detections are the best scores as they are: `suppress` says none"
