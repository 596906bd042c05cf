"""The table of detector families: each line names a module that has the family, and nothing else is a family."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detection.compact.network import Network
from detection.costs import operator_costs
from detection.families import FAMILIES
from detection.family import UnsetWeights, family_named, family_of, random_start
from detection.frozen import InputError
from tests.detection.variants import PLAIN, VARIANTS, lively


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


@pytest.mark.parametrize("name", VARIANTS)
def test_unset_weights_are_not_drawn(name: str) -> None:
    """The global generator stays where it was, edits included; without it, and again after it, building draws."""
    state = torch.get_rng_state()
    with UnsetWeights():
        built = Network(VARIANTS[name])
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        drawn = Network(VARIANTS[name])
        assert not torch.equal(torch.get_rng_state(), state)
    assert {n: t.shape for n, t in built.state_dict().items()} == {n: t.shape for n, t in drawn.state_dict().items()}
    assert all(parameter.requires_grad for parameter in built.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_detectors_network_has_exactly_its_weights(name: str) -> None:
    """Whatever its construction left out: every parameter and statistic is the detector's, and the buffers that no file holds are
    those of a network that was built as ever. The global generator is left alone."""
    detector, state = lively(VARIANTS[name]), torch.get_rng_state()
    network = detector.network()
    assert torch.equal(torch.get_rng_state(), state)
    held = network.state_dict()
    assert held.keys() == detector.weights.keys()
    assert all(torch.equal(held[name], tensor) for name, tensor in detector.weights.items())
    buffers, expected = (dict(own.named_buffers()) for own in (network, Network(VARIANTS[name])))
    assert buffers.keys() == expected.keys()
    for own in ("points_px", "strides_px", "bins"):
        assert torch.equal(buffers[own], expected[own])


def test_nothing_else_changes_while_weights_stay_unset() -> None:
    """Chance, arithmetic and fills are what they are outside; of torch.nn.init nothing is drawn, however it is called."""
    network, pictures = lively(PLAIN).network(), torch.rand(1, 3, 64, 96)

    def computed() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.randn(3, generator=generator), torch.empty(3).normal_(generator=generator), torch.zeros(3), torch.ones(2, 3)]
        with torch.no_grad():
            return [*drawn, nn.functional.conv1d(drawn[0].reshape(1, 1, 3), drawn[1].reshape(1, 1, 3)), *network(pictures)[:2]]

    outside, kernel = computed(), torch.arange(6.0).reshape(2, 3)
    with UnsetWeights():
        inside = computed()
        assert nn.init.normal_(kernel) is kernel
        assert nn.init.kaiming_uniform_(tensor=kernel, a=1.0) is kernel
    assert all(torch.equal(*pair) for pair in zip(outside, inside, strict=True))
    assert kernel.flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    nn.init.constant_(kernel, 7.0)
    assert kernel.unique().tolist() == [7.0]


def test_unset_weights_nest_and_end() -> None:
    """Nothing is drawn before the outermost ends; an error ends it too, and then weights are the seed's again."""
    start, state = random_start(Network, PLAIN, 0), torch.get_rng_state()
    with UnsetWeights():
        with UnsetWeights():
            Network(PLAIN)
        Network(PLAIN)
        operator_costs(PLAIN)
    with pytest.raises(ZeroDivisionError), UnsetWeights():
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), state)
    again = random_start(Network, PLAIN, 0)
    assert all(torch.equal(again[name], tensor) for name, tensor in start.items())
