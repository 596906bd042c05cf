"""A user's module as a plan names it: its code as data, and its trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from torch import Tensor

from detection.brought import ModuleDetector
from detection.module.adapter import NETWORK, Adapted
from detection.module.settings import ModuleSettings
from detection.module.user_code import read_code, user_object
from detection.module.weights import read_weights
from detection.spec import Spec

FAMILY = "module"
STRIDE_PX = 32
"""Of a network whose author does not say it: that of the coarsest level of nearly all detectors."""
MOST_NAMES = 6
"""Files or libraries that a line names."""


def spec_of(asked: ModuleDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...]) -> Spec:
    """The detector as data, for pictures of input_size (height, width); InputError where its code cannot be used.

    Modules and files are looked for from `base` on.
    """
    code = read_code(asked.family, base, asked.spec)
    stride_px = getattr(user_object(code), "stride_px", STRIDE_PX)
    settings = ModuleSettings(code=code, spec=asked.spec, stride_px=stride_px)
    return Spec(family=FAMILY, classes=classes, input_size=input_size, settings=settings)


def weights_of(spec: Spec, path: Path) -> dict[str, Tensor]:
    """The trained weights in a file, which names layers as the user's network does; InputError where they do not fit."""
    wanted = {name.removeprefix(f"{NETWORK}."): own for name, own in Adapted(spec).state_dict().items()}
    return {f"{NETWORK}.{name}": tensor for name, tensor in read_weights(path, wanted).items()}


def about(spec: Spec) -> Iterator[str]:
    """What was read, in lines for people."""
    code = cast(ModuleSettings, spec.settings).code
    yield f"{code.reference}: files read: {_some(list(code.files))}"
    if code.data:
        yield f"files that `spec` names: {_some(list(code.data))}"
    if code.libraries:
        yield f"with {_some([f'{name} {version}' for name, version in code.libraries.items()])}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
