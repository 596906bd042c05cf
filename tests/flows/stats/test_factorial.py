"""Main effects and interactions are read off the grid as a full factorial experiment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flows.records.schema import CellRecord
from flows.stats.factorial import Effect, interactions, main_effects, methods_of
from tests.flows.records_factory import (
    HALVINGS,
    MAP_EFFECT,
    MEASURED,
    METHODS,
    cells_file,
    eight_cells,
    full_grid,
    latency_file,
    ok_cell,
)


def test_methods_keep_the_order_of_cell_names() -> None:
    """The order does not depend on which cell comes first in the file."""
    cells, _ = full_grid()
    assert methods_of(cells.model_copy(update={"cells": cells.cells[::-1]})) == METHODS


def test_references_take_no_part() -> None:
    """Whatever stands beside the cells, effects and interactions are the cells'."""
    cells, latency = full_grid()
    reference = ok_cell(("pruning",), 0.1).model_copy(update={"cell": "reference:random-pruning-0.5"})
    beside = cells.model_copy(update={"references": (reference,)})
    assert main_effects(beside, latency) == main_effects(cells, latency)
    assert interactions(beside) == interactions(cells)


def test_additive_effects_are_recovered_from_64_cells() -> None:
    """Each of the six mAP effects comes back exactly, without spread, over 32 pairs."""
    quantity = main_effects(*full_grid())[0]
    assert (quantity.kind, quantity.of) == ("val_map", "onnxruntime")
    for effect in quantity.effects:
        assert effect.mean == pytest.approx(MAP_EFFECT[effect.method], abs=1e-12)
        assert (effect.sd, effect.pairs) == (pytest.approx(0, abs=1e-12), 32)


@pytest.mark.parametrize(("kind", "count", "sign"), [("size", 2, -1), ("macs", 1, -1), ("speed", 2, 1)])
def test_ratios_are_recovered_as_logarithms(kind: str, count: int, sign: int) -> None:
    """A method that halves h times has a log ratio of h log 2, on every runtime or profile: below 0 for size and MACs."""
    found = [quantity for quantity in main_effects(*full_grid()) if quantity.kind == kind]
    assert len(found) == count
    for quantity in found:
        assert {e.method: e.mean for e in quantity.effects} == pytest.approx(
            {method: sign * HALVINGS[method] * math.log(2) for method in METHODS}, abs=1e-9
        )


def test_estimated_profiles_have_no_effects() -> None:
    """Speed is stated for measured profiles only."""
    assert [q.of for q in main_effects(*full_grid()) if q.kind == "speed"] == [MEASURED, "x86-openvino-1t"]


def test_effect_equals_the_regression_coefficient() -> None:
    """On noisy cells the mean over 32 pairs is the least-squares coefficient of the full design (numpy's lstsq as oracle)."""
    random = np.random.default_rng(7)
    cells, latency = full_grid(noise=lambda methods: float(random.normal(0, 0.01)))
    design = np.array([[1.0] + [float(method in cell.methods) for method in METHODS] for cell in cells.cells])
    values = np.array([cell.artifacts["onnxruntime"].val.map_50_95 for cell in cells.cells])
    expected = np.linalg.lstsq(design, values, rcond=None)[0][1:]
    effects = main_effects(cells, latency)[0].effects
    np.testing.assert_allclose([effect.mean for effect in effects], expected, atol=1e-12)
    assert all(effect.low < effect.mean < effect.high and effect.sd > 0 for effect in effects)


def test_one_interaction_is_found_where_it_is() -> None:
    """A bonus of 1 point to every cell with pruning and distillation shows in that one entry; the rest add up."""
    cells, _ = full_grid(noise=lambda methods: 0.01 if {"pruning", "distillation"} <= set(methods) else 0.0)
    found = interactions(cells)[0]
    for row, first in enumerate(METHODS):
        for column, second in enumerate(METHODS):
            expected = None if first == second else 0.01 if {first, second} == {"pruning", "distillation"} else 0.0
            actual = found.matrix[row][column]
            assert actual == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_partial_grid_uses_the_pairs_it_has() -> None:
    """With `distillation+quantization` failed, quantization is judged on 3 of 4 pairs: -1, -1.5 and -4.2 points."""
    effects = {effect.method: effect for effect in main_effects(*eight_cells())[0].effects}
    assert effects["quantization"].pairs == 3
    assert effects["quantization"].mean == pytest.approx((-0.010 - 0.015 - 0.042) / 3)
    assert effects["quantization"].sd == pytest.approx(np.std([-0.010, -0.015, -0.042], ddof=1))
    assert (effects["quantization"].low, effects["quantization"].high) == (pytest.approx(-0.042), pytest.approx(-0.010))


def test_pairs_differ_in_one_method_alone() -> None:
    """A cell with another pruning variant is no partner for the effect of distillation."""
    other = ok_cell(("pruning", "distillation"), 0.7).model_copy(
        update={"variant": {"pruning": {"keep_macs": 0.3}, "distillation": {"method": "distillation"}}}
    )
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.4), ok_cell(("distillation",), 0.6), other])
    effects: dict[str, Effect] = {effect.method: effect for effect in main_effects(cells, latency_file([]))[0].effects}
    assert (effects["distillation"].pairs, effects["distillation"].mean) == (1, pytest.approx(0.1))
    assert (effects["pruning"].pairs, effects["pruning"].mean) == (2, pytest.approx((-0.1 + 0.1) / 2))


def unchanged(methods: tuple[str, ...], val: float, by: str) -> CellRecord:
    """A cell in which one method had nothing to do."""
    return ok_cell(methods, val).model_copy(update={"no_effect": (by,)})


def test_effects_are_told_with_and_without_cells_that_changed_nothing() -> None:
    """By hand, low_rank without effect on the pruned network: its mean is (-4 + 0) / 2 = -2 points with that cell, -4 without.

    Pruning: -3 (alone) and +1 (beside low_rank) make -1; the second is no effect of pruning on a factored network, so -3 without.
    """
    cells = cells_file(
        [
            ok_cell((), 0.50),
            ok_cell(("pruning",), 0.47),
            ok_cell(("low_rank",), 0.46),
            unchanged(("pruning", "low_rank"), 0.47, "low_rank"),
        ]
    )
    found = {effect.method: effect for effect in main_effects(cells, latency_file([]))[0].effects}
    own, other = found["low_rank"], found["pruning"]
    assert (own.mean, own.pairs) == (pytest.approx(-0.02), 2)
    assert (own.effective_mean, own.effective_pairs) == (pytest.approx(-0.04), 1)
    assert (other.mean, other.effective_mean, other.effective_pairs) == (pytest.approx(-0.01), pytest.approx(-0.03), 1)


def test_without_such_cells_both_means_agree() -> None:
    """Every cell of the full grid changed something: the two means and counts are equal."""
    effects = [effect for quantity in main_effects(*full_grid()) for effect in quantity.effects]
    assert [(own.effective_mean, own.effective_pairs) for own in effects] == [(own.mean, own.pairs) for own in effects]


def test_a_method_that_never_changed_anything_has_no_effective_mean() -> None:
    """Its mean over all pairs is 0, and no pair is left without its cells."""
    cells = cells_file([ok_cell((), 0.50), unchanged(("low_rank",), 0.50, "low_rank")])
    (effect,) = main_effects(cells, latency_file([]))[0].effects
    assert (effect.mean, effect.effective_mean, effect.effective_pairs) == (0.0, None, 0)
