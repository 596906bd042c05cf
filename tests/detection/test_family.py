"""The table of detector families: each line names a module that has the family, and nothing else is a family."""

from __future__ import annotations

import pytest
import torch

from detection.families import FAMILIES
from detection.family import family_named, family_of, random_start
from detection.frozen import InputError
from tests.detection.variants import PLAIN


@pytest.mark.parametrize("name", FAMILIES)
def test_every_line_of_the_table_is_a_family_of_that_name(name: str) -> None:
    """Asked for by its name it is always the same object."""
    assert family_named(name).name == name
    assert family_named(name) is family_named(name)


def test_a_detector_knows_its_family() -> None:
    """By the name in its spec."""
    assert family_of(PLAIN) is family_named("compact")


def test_an_unknown_family_is_refused_with_those_there_are() -> None:
    """The message names what was asked for and what is allowed."""
    with pytest.raises(InputError, match="family 'yolo': no such detector family; have compact"):
        family_named("yolo")


def test_a_random_start_is_the_seeds() -> None:
    """The same seed gives the same weights, another seed others; the global generator is left as it was."""
    build, state = family_of(PLAIN).build, torch.get_rng_state()
    first, again, other = (random_start(build, PLAIN, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])
    assert not any(tensor.requires_grad for tensor in first.values())
