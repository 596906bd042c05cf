"""A user's own torch module, as a plan's `detector` section names it: its code, and its trained weights where there are some."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from detection.brought import ModuleDetector
from detection.checkpoint import Detector
from detection.family import family_named
from detection.frozen import InputError
from detection.spec import Spec
from flows.records.formatting import listed

FAMILY = family_named("module")
MOST_NAMES = 6
"""Classes that a message names."""


def module_spec(asked: ModuleDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...]) -> Spec:
    """The detector as data, for pictures of input_size (height, width); InputError where its code cannot be used."""
    assert FAMILY.read_spec is not None
    return FAMILY.read_spec(asked, base, input_size, classes)


def read_module(
    asked: ModuleDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None = None
) -> Detector | None:
    """The trained detector; None where no weights are named, and it begins with random ones.

    `classes` are those of the data, in their order; None where it is not prepared yet. InputError names what does not fit.
    """
    if asked.weights is None:
        return None
    if classes is not None and classes != asked.classes:
        own, theirs = (listed(names, MOST_NAMES, mark="") for names in (asked.classes, classes))
        raise InputError(f"detector.classes: the weights predict {own}, the data has {theirs}, and their order counts.")
    spec = module_spec(asked, base, input_size, asked.classes)
    assert FAMILY.read_weights is not None
    return Detector(spec, MappingProxyType(dict(FAMILY.read_weights(spec, base / asked.weights))))
