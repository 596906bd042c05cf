"""A network that code of others builds, as a plan's `detector` section names it, and its trained weights where there are some."""

from __future__ import annotations

from pathlib import Path

from detection.brought import NetworkDetector
from detection.checkpoint import Detector
from detection.family import family_named
from detection.spec import Spec


def network_spec(asked: NetworkDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...]) -> Spec:
    """The detector as data, for pictures of input_size (height, width); InputError where what is named cannot be used."""
    read = family_named(asked.family_name).read_spec
    assert read is not None
    return read(asked, base, input_size, classes)


def read_network(
    asked: NetworkDetector, base: Path, input_size: tuple[int, int], classes: tuple[str, ...] | None = None, seed: int = 0
) -> Detector | None:
    """The detector with its trained weights; None where it begins with random ones.

    `classes` are those of the data, in their order; None where it is not prepared yet. The seed draws class heads that are made
    anew. InputError names what does not fit.
    """
    read = family_named(asked.family_name).read_trained
    assert read is not None
    return read(asked, base, input_size, classes, seed)
