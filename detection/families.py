"""Which detector families there are, and the little that a spec has to know of its own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from detection.frozen import Frozen, InputError

FAMILIES: dict[str, str] = {
    "compact": "detection.compact.family",
    "onnx": "detection.onnx_file.family",
    "module": "detection.module.family",
    "transformers": "detection.transformers.family",
}
"""Name -> the module that has it as `FAMILY`; imported when it is asked for."""


class Rules(Protocol):
    """What makes a spec one of a family; `detection.family.Family` has it, and more."""

    @property
    def settings(self) -> type[Frozen]:
        """What a spec of this family holds besides classes, input size and edits."""
        ...

    @property
    def stride_px(self) -> Callable[[Frozen], int]:
        """The sides of its input are multiples of this."""
        ...


def rules_of(name: str) -> Rules:
    """Those of the family of a name; InputError where there is none."""
    if name not in FAMILIES:
        raise InputError(f"family {name!r}: no such detector family; have {', '.join(FAMILIES)}.")
    return cast(Rules, import_module(FAMILIES[name]).FAMILY)
