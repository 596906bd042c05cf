"""The search prefers what is accurate and fast, and keeps to its budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from compressors.contract import in_turn
from compressors.nas.candidates import Candidate, Latency
from compressors.nas.exploration import Explorer, front, most_accurate
from compressors.nas.space import draw, size_of, smallest
from detection.compact.architecture import Architecture, architecture_of
from detection.compact.space import space_of
from detection.family import SearchSpace
from detection.spec import Spec

LARGEST = Architecture(
    stem_width=32, stage_widths=(32, 64, 96, 128), stage_depths=(1, 3, 3, 3), neck_width=64, head_width=64, head_depth=1
)
START = Spec(classes=("a",), input_size=(64, 96), settings=LARGEST)
SPACE = space_of(START, (0.25, 0.5, 0.75, 1.0), 8, {})
"""Seven widths of four options, three depths of three, and one depth of one."""
SEEDS = range(5)


def decisions(spec: Spec) -> list[int]:
    """What was chosen in every respect of this space."""
    own = architecture_of(spec)
    return [own.stem_width, *own.stage_widths, own.neck_width, own.head_width, *own.stage_depths]


def likeness(seed: int, space: SearchSpace = SPACE) -> Callable[[Spec], float]:
    """Network -> the share of its decisions that are those of a hidden one."""
    hidden = decisions(space.spec(draw(space, np.random.default_rng((seed, 99)))))

    def share(spec: Spec) -> float:
        return float(np.mean([own == wanted for own, wanted in zip(decisions(spec), hidden, strict=True)]))

    return share


def size(spec: Spec) -> float:
    """A latency that every decision adds to, in [0, 1]."""
    largest = decisions(START)
    return float(np.mean([own / most for own, most in zip(decisions(spec), largest, strict=True)]))


def evenly(_: Spec) -> float:
    """All are alike."""
    return 0.5


def explored(explorer: Explorer, val_map: Callable[[Spec], float], seed: int) -> list[Candidate]:
    """A search in generations of ten."""
    return explorer.explore(val_map, in_turn, 10, seed)


def candidate(latency_s: float, val_map: float) -> Candidate:
    return Candidate(START, val_map, latency_s)


A, B, C, D, E, F, G = (candidate(*own) for own in ((1, 0.1), (2, 0.3), (2, 0.2), (3, 0.3), (4, 0.5), (5, 0.5), (6, 0.4)))
"""A, B and E are beaten by none: C is as fast as B, D and F as accurate as a faster one, G is neither."""


@pytest.mark.parametrize(
    "order", [(A, B, C, D, E, F, G), (G, F, E, D, C, B, A), (D, C, F, G, B, E, A)], ids=["up", "down", "mixed"]
)
def test_front_and_winner_by_hand(order: tuple[Candidate, ...]) -> None:
    """The front goes from the fastest to the most accurate; of equals the fastest counts, in whatever order they were found."""
    assert front(order) == [A, B, E]
    assert most_accurate(order) is E


def test_a_front_of_one() -> None:
    """What is fastest and most accurate stands alone; of nobody there is no front."""
    assert front([F, candidate(0.5, 0.6), A]) == [candidate(0.5, 0.6)]
    assert front([]) == []


@pytest.mark.parametrize("what", ["accuracy", "latency"])
def test_the_search_learns(what: str) -> None:
    """Where one of both is the likeness to a hidden architecture, and the other says nothing, it gets nearer than random draws.

    Means over five seeds of the best of 150: the share of eleven decisions that agree.
    """
    best: dict[str, list[float]] = {"search": [], "random": []}
    for seed in SEEDS:
        like = likeness(seed)
        latency_s: Latency = evenly if what == "accuracy" else lambda own, like=like: 1 - like(own)
        val_map = like if what == "accuracy" else evenly
        explorer = Explorer(SPACE, latency_s, budget_s=1.0, evaluations=150)
        best["search"].append(max(like(own.spec) for own in explored(explorer, val_map, seed)))
        best["random"].append(max(like(own) for own in explorer.random(seed)))
    assert np.mean(best["search"]) > np.mean(best["random"]) + 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_smallest_is_always_among_the_candidates(seed: int) -> None:
    """Also where it is the least accurate, and where there is room for one candidate only."""
    least = SPACE.spec(smallest(SPACE))
    for evaluations in (1, 20):
        found = explored(Explorer(SPACE, size, 0.6, evaluations), size, seed)
        assert least in [own.spec for own in found]
        assert len(found) == evaluations


@pytest.mark.parametrize("seed", SEEDS)
def test_only_what_keeps_to_the_budget_is_judged_and_once(seed: int) -> None:
    """All 40 are different, none is asked for twice, and each has its own latency and accuracy."""
    asked: list[Spec] = []

    def val_map(spec: Spec) -> float:
        asked.append(spec)
        return likeness(0)(spec)

    found = explored(Explorer(SPACE, size, 0.6, 40), val_map, seed)
    assert [own.spec for own in found] == asked
    assert len({own.spec.model_dump_json() for own in found}) == len(asked) == 40
    for own in found:
        assert own.latency_s == size(own.spec) <= 0.6
        assert own.val_map == likeness(0)(own.spec)


def test_a_converged_population_is_stirred() -> None:
    """Of 64 architectures all are found, however much one is preferred; crossing those like it would never lead to the others."""
    two = Architecture(stem_width=16, stage_widths=(16, 16, 16, 16), stage_depths=(1, 1, 1, 1), neck_width=16, head_width=8)
    space = space_of(START.having(two), (0.5, 1.0), 8, {})
    assert size_of(space) == 64
    found = explored(Explorer(space, evenly, 1.0, 64), likeness(0, space), 0)
    assert len({own.spec.model_dump_json() for own in found}) == 64


@pytest.mark.parametrize("limit", [0.3, 0.45, 0.6, 0.75, 1.0])
def test_the_largest_is_the_largest_there_is(limit: float) -> None:
    """In a space small enough to look through, where no decision's multiply-adds go with its latency: none within the limit has
    more, and two searches of one seed find the same."""
    space = space_of(START, (0.5, 1.0), 8, {})
    prices = dict(zip(space.options(), np.random.default_rng(7).uniform(0.5, 2.0, 11), strict=True))

    def latency(spec: Spec) -> float:
        own, most = decisions(spec), decisions(START)
        return sum(price * value / top for price, value, top in zip(prices.values(), own, most, strict=True)) / sum(prices.values())

    def macs(spec: Spec) -> int:
        return int(1e6 * sum(place * value for place, value in enumerate(decisions(spec), start=1)))

    explorer = Explorer(space, latency, 1.0, 5)
    least_s = latency(space.spec(smallest(space)))
    limit_s = least_s + limit * (1 - least_s)
    names = list(space.options())
    every = [space.spec(dict(zip(names, own, strict=True))) for own in itertools.product(*space.options().values())]
    most = max(macs(own) for own in every if latency(own) <= limit_s)
    found = explorer.largest(limit_s, macs, 0)
    assert latency(found) <= limit_s
    assert macs(found) == most
    assert explorer.largest(limit_s, macs, 0) == found
    assert len(explorer.known_s) < len(every) / 2


def test_at_the_limit_of_the_smallest_it_is_the_smallest() -> None:
    """Nothing may go up."""
    explorer = Explorer(SPACE, size, 1.0, 5)
    least = SPACE.spec(smallest(SPACE))
    assert explorer.largest(size(least), lambda own: int(1e6 * size(own)), 0) == least


def test_random_draws_use_the_budget() -> None:
    """All 40 are different and within it, half of them by a tenth at most; a seed repeats them, another draws others."""
    explorer = Explorer(SPACE, size, 0.5, 40)
    first, again, other = (explorer.random(seed) for seed in (0, 0, 1))
    assert first == again != other
    assert all(a != b for a, b in itertools.combinations(first, 2))
    latencies = [size(own) for own in first]
    assert len(latencies) == 40
    assert max(latencies) <= 0.5
    assert np.median(latencies) > 0.45
