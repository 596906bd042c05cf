"""Few cases in which every two values of different settings meet: a fault that needs two settings at once is still found."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any


def pairwise(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows that hold every pair of values of any two factors, chosen greedily; each row has a value of every factor.

    Values are told apart by position, so they may be anything. The same factors give the same rows.
    """
    names = list(factors)
    options = [range(len(factors[name])) for name in names]
    columns = list(itertools.combinations(range(len(names)), 2))
    missing = {(a, b, i, j) for a, b in columns for i in options[a] for j in options[b]}
    candidates = list(itertools.product(*options))
    rows: list[tuple[int, ...]] = []
    while missing:
        best = max(candidates, key=lambda row: sum((a, b, row[a], row[b]) in missing for a, b in columns))
        rows.append(best)
        missing -= {(a, b, best[a], best[b]) for a, b in columns}
    return [{name: factors[name][place] for name, place in zip(names, row, strict=True)} for row in rows]
