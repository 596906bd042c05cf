"""Main effects and interactions of the methods, from the grid as a full factorial experiment (val accuracy only)."""

from __future__ import annotations

import json
import math
from itertools import combinations
from typing import Literal

import numpy as np

from detection.frozen import Frozen
from flows.records.schema import CellRecord, CellsFile, LatencyFile

QuantityKind = Literal["val_map", "size", "macs", "speed"]
Factor = tuple[str, str]  # method, its configuration as JSON
Key = tuple[int, frozenset[Factor]]  # seed, the methods of a cell


class Effect(Frozen):
    """Mean over all pairs of cells that differ in this method alone, and the spread of those pairs."""

    method: str
    mean: float
    sd: float
    """Standard deviation over the pairs: how much the effect depends on the other methods. 0 where there is one pair."""
    low: float
    high: float
    pairs: int
    effective_mean: float | None
    """The mean without cells that are marked `no_effect`, None where no pair is left. Where a method changed nothing, its cell is
    the one without it made twice: that draws the method's mean towards 0, and counts a pair of the other methods twice."""
    effective_pairs: int
    """How many pairs are left then."""


class Quantity(Frozen):
    """The effects of all methods on one number."""

    kind: QuantityKind
    of: str
    """Runtime for val_map and size, profile for speed, empty for macs."""
    effects: tuple[Effect, ...]
    """val_map: difference of mAP, in shares. Else natural logarithm of a ratio: with over without; speed is above 0 when faster."""


class Interactions(Frozen):
    """How the effect of one method on val mAP changes when another is present."""

    runtime: str
    methods: tuple[str, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    """Effect of the row's method with the column's method, minus without it: mean over the rest; 0 where effects add up."""


def methods_of(cells: CellsFile) -> tuple[str, ...]:
    """Every method of the sweep, in the order that cell names use."""
    longest_first = sorted(cells.cells, key=lambda cell: -len(cell.methods))
    return tuple(dict.fromkeys(method for cell in longest_first for method in cell.methods))


def main_effects(cells: CellsFile, latency: LatencyFile) -> tuple[Quantity, ...]:
    """Effects on val mAP and file size per runtime, on MACs, and on the speed of each measured profile; only of what has pairs."""
    found = [_quantity("val_map", runtime, cells, _val_maps(cells, runtime)) for runtime in cells.runtimes]
    made = [(_key(cell), cell) for cell in cells.cells if cell.status == "ok"]
    for runtime in cells.runtimes:
        sizes = {key: math.log(own.artifacts[runtime].size_bytes) for key, own in made if runtime in own.artifacts}
        found.append(_quantity("size", runtime, cells, sizes))
    found.append(_quantity("macs", "", cells, {key: math.log(own.macs) for key, own in made if own.macs}))
    for profile in latency.profiles():
        measured = [row for row in latency.rows if row.profile == profile and row.source == "measured"]
        if speeds := {row.cell: math.log(row.speedup) for row in measured if row.speedup}:
            found.append(_quantity("speed", profile, cells, {key: speeds[own.cell] for key, own in made if own.cell in speeds}))
    return tuple(own for own in found if own.effects)


def interactions(cells: CellsFile) -> tuple[Interactions, ...]:
    """Two-way interactions on val mAP, one matrix per runtime."""
    methods = methods_of(cells)
    return tuple(
        Interactions(runtime=runtime, methods=methods, matrix=_interaction_matrix(methods, _val_maps(cells, runtime)))
        for runtime in cells.runtimes
    )


def _val_maps(cells: CellsFile, runtime: str) -> dict[Key, float]:
    made = [cell for cell in cells.cells if cell.status == "ok" and runtime in cell.artifacts]
    return {_key(cell): cell.artifacts[runtime].val.map_50_95 for cell in made}


def _quantity(kind: QuantityKind, of: str, cells: CellsFile, values: dict[Key, float]) -> Quantity:
    unchanged = {_key(cell) for cell in cells.cells if cell.no_effect}
    effective = {key: number for key, number in values.items() if key not in unchanged}
    effects = (_effect(own, _differences(own, values), _differences(own, effective)) for own in methods_of(cells))
    return Quantity(kind=kind, of=of, effects=tuple(effect for effect in effects if effect is not None))


def _effect(method: str, differences: list[float], effective: list[float]) -> Effect | None:
    if not differences:
        return None
    pairs = np.asarray(differences, dtype=np.float64)
    return Effect(
        method=method,
        mean=float(pairs.mean()),
        sd=float(pairs.std(ddof=1)) if len(pairs) > 1 else 0.0,
        low=float(pairs.min()),
        high=float(pairs.max()),
        pairs=len(pairs),
        effective_mean=float(np.mean(effective)) if effective else None,
        effective_pairs=len(effective),
    )


def _key(cell: CellRecord) -> Key:
    return cell.seed, frozenset((method, json.dumps(cell.variant.get(method, {}), sort_keys=True)) for method in cell.methods)


def _differences(method: str, values: dict[Key, float]) -> list[float]:
    """With minus without, for every pair of cells that share the seed and all other methods with their configurations."""
    found = []
    for (seed, factors), value in values.items():
        without = (seed, factors - _named(factors, method))
        if without[1] != factors and without in values:
            found.append(value - values[without])
    return found


def _interaction_matrix(methods: tuple[str, ...], values: dict[Key, float]) -> tuple[tuple[float | None, ...], ...]:
    matrix: dict[tuple[str, str], float | None] = {}
    for first, second in combinations(methods, 2):
        squares = []
        for (seed, factors), both in values.items():
            one, other = _named(factors, first), _named(factors, second)
            corners = [(seed, factors - one), (seed, factors - other), (seed, factors - one - other)]
            if one and other and all(corner in values for corner in corners):
                squares.append(both - values[corners[0]] - values[corners[1]] + values[corners[2]])
        matrix[first, second] = matrix[second, first] = float(np.mean(squares)) if squares else None
    return tuple(tuple(matrix.get((row, column)) for column in methods) for row in methods)


def _named(factors: frozenset[Factor], method: str) -> frozenset[Factor]:
    return frozenset(factor for factor in factors if factor[0] == method)
