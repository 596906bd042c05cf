"""Tests of the pairwise covering that contract suites choose their cases by."""

from __future__ import annotations

import itertools

import pytest

from tests.covering import pairwise


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2, 2), (6, 2, 2, 3), (5, 5, 4)])
def test_every_pair_is_in_a_row(sizes: tuple[int, ...]) -> None:
    """Of any two factors every two values meet, in fewer rows than there are combinations, and none twice."""
    factors = {f"factor {i}": list(range(size)) for i, size in enumerate(sizes)}
    rows = pairwise(factors)
    for (a, own), (b, other) in itertools.combinations(factors.items(), 2):
        assert {(row[a], row[b]) for row in rows} == set(itertools.product(own, other))
    assert len({tuple(row.values()) for row in rows}) == len(rows)
    largest = sorted(sizes)[-2:]
    assert largest[0] * largest[1] <= len(rows) <= 1.5 * largest[0] * largest[1]
