"""Which cells are worth having, and which one to ship: val chooses, test reports."""

from __future__ import annotations

import pytest

from compressors.ranking_check import RankingCheck
from flows.records.schema import GIVEN, CellsFile, Metrics
from flows.report.findings import Findings, Panel, Point, choose, panels, pareto, ranking_sentences
from tests.flows.records_factory import (
    ESTIMATED,
    MEASURED,
    cells_file,
    eight_cells,
    estimated_row,
    full_grid,
    latency_file,
    measured_row,
    ok_cell,
)


def test_measured_and_estimated_numbers_never_share_a_panel() -> None:
    """Each panel has one profile and one source, and cells without a number are left out."""
    found = panels(*eight_cells())
    assert [(panel.profile, panel.source, len(panel.points)) for panel in found] == [
        (MEASURED, "measured", 7),
        (ESTIMATED, "estimated", 7),
    ]


def test_one_profile_with_both_sources_makes_two_panels() -> None:
    """A measured row does not pull an estimated row of its profile into its panel."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.5)])
    latency = latency_file([measured_row("none", "p", 0.01, 0.01), estimated_row("pruning", "p", 0.005, 0.01)])
    assert [(panel.source, [point.cell for point in panel.points]) for panel in panels(cells, latency)] == [
        ("measured", ["none"]),
        ("estimated", ["pruning"]),
    ]


def test_front_worked_by_hand() -> None:
    """On the measured profile five cells are beaten by none; `none` loses to `distillation`, as fast and more accurate."""
    panel = panels(*eight_cells())[0]
    assert [point.cell for point in pareto(panel.points)] == [
        "pruning+distillation+quantization",
        "pruning+quantization",
        "quantization",
        "pruning",
        "pruning+distillation",
        "distillation",
    ]


def test_no_point_of_the_grid_beats_a_point_of_its_front() -> None:
    """The definition of the front, checked pair by pair, and every other point is beaten or equalled by someone on it."""
    points = panels(*full_grid())[0].points
    front = pareto(points)
    for one in front:
        assert not any(other.p50_s <= one.p50_s and other.val_map > one.val_map for other in points)
        assert not any(other.p50_s < one.p50_s and other.val_map >= one.val_map for other in points)
    for other in points:
        assert any(one.p50_s <= other.p50_s and one.val_map >= other.val_map for one in front)


def test_fastest_within_the_drop_is_chosen() -> None:
    """0.550 - 0.530 is exactly the permitted 0.02 and qualifies, in spite of floating point; 0.510 does not."""
    choice = choose(panels(*eight_cells())[0], max_drop=0.02)
    assert (choice.verdict, choice.cell, choice.compared, choice.within_drop) == ("recommended", "pruning+quantization", 6, 5)


def test_what_a_search_chose_by_chance_is_not_recommended() -> None:
    """The fastest cell's search checked itself, and the interval holds 0: the next is taken, and a sentence says why."""
    cells, latency = eight_cells()
    fastest = cells.record("pruning+quantization")

    def with_tau(low: float) -> CellsFile:
        ranking = RankingCheck(networks=12, tau=0.3, low=low, high=0.6)
        own = fastest.model_copy(update={"ranking": ranking, "labels": {"nas": "nsga2-0.5"}})
        return cells.model_copy(update={"cells": tuple(own if cell is fastest else cell for cell in cells.cells)})

    chance, proven = with_tau(-0.1), with_tau(0.1)
    assert choose(panels(chance, latency)[0], 0.02).cell == "quantization"
    assert choose(panels(proven, latency)[0], 0.02).cell == "pruning+quantization"
    assert {tier.cell for tier in choose(panels(chance, latency)[0], 0.02).tiers} & {"pruning+quantization"} == set()
    (sentence,) = ranking_sentences(chance)
    assert "nas:nsga2-0.5 may rank networks by chance: tau +0.30 [-0.10, +0.60] over 12 trained networks" in sentence
    assert sentence.endswith("whose interval holds 0. No cell with it is recommended.")
    assert ranking_sentences(proven)[0].startswith("The supernet of nas:nsga2-0.5 ranks networks as their trainings do, by tau")
    assert ranking_sentences(cells) == ()


def test_each_profile_has_its_own_choice() -> None:
    """Where int8 is slow after pruning, plain quantization wins."""
    panel = panels(*eight_cells())[1]
    assert (panel.source, choose(panel, max_drop=0.02).cell) == ("estimated", "quantization")


@pytest.mark.parametrize(
    ("max_drop", "cell"),
    [(0.05, "pruning+distillation+quantization"), (0.005, "pruning+distillation"), (0.0, "pruning+distillation")],
)
def test_choice_follows_the_permitted_drop(max_drop: float, cell: str) -> None:
    """A wider drop buys speed, a narrower one costs it; at 0.005 `pruning` leads by less than its interval."""
    assert choose(panels(*eight_cells())[0], max_drop).cell == cell


def test_control_stays_when_everything_loses_too_much() -> None:
    """No combination within the drop: keep the control and say how many there were."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.4)])
    latency = latency_file([measured_row("none", "p", 0.01, 0.01), measured_row("pruning", "p", 0.005, 0.01)])
    choice = choose(panels(cells, latency)[0], 0.02)
    assert (choice.verdict, choice.cell, choice.compared, choice.within_drop) == ("keep_uncompressed", "none", 1, 0)


def test_control_stays_when_nothing_is_faster() -> None:
    """A combination that keeps its mAP but is slower is not shipped."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.5)])
    latency = latency_file([measured_row("none", "p", 0.01, 0.01), measured_row("pruning", "p", 0.011, 0.01)])
    choice = choose(panels(cells, latency)[0], 0.02)
    assert (choice.verdict, choice.cell, choice.within_drop) == ("keep_uncompressed", "none", 1)


@pytest.mark.parametrize(("seconds", "cell"), [(0.0096, "none"), (0.0094, "pruning")])
def test_an_estimate_has_to_be_ahead_by_more_than_models_resolve(seconds: float, cell: str) -> None:
    """4 % below the control's estimate is no reason to ship anything, 6 % is; a clock needs no such margin."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("pruning",), 0.51)])
    rows = [estimated_row("none", "p", 0.01, 0.01), estimated_row("pruning", "p", seconds, 0.01)]
    assert choose(panels(cells, latency_file(rows))[0], 0.02).cell == cell
    timed = [measured_row("none", "p", 0.01, 0.01), measured_row("pruning", "p", seconds, 0.01)]
    assert choose(panels(cells, latency_file(timed))[0], 0.02).cell == "pruning"


def test_without_control_nothing_is_chosen() -> None:
    """A drop against a control that failed cannot be judged."""
    choice = choose(
        panels(cells_file([ok_cell(("pruning",), 0.5)]), latency_file([measured_row("pruning", "p", 0.01, 0.01)]))[0], 0.02
    )
    assert (choice.verdict, choice.cell, choice.front) == ("undecided", None, ("pruning",))


def test_tiers_are_shares_of_the_controls_map() -> None:
    """99 % of 0.550 is 0.5445, kept by `pruning`; 95 % is 0.5225, kept by `pruning+quantization`."""
    tiers = choose(panels(*eight_cells())[0], 0.02).tiers
    assert [(tier.share, tier.cell) for tier in tiers] == [(0.99, "pruning"), (0.95, "pruning+quantization")]
    assert tiers[1].speedup == pytest.approx(5.0)


def test_cells_within_noise_of_the_chosen_one_are_named() -> None:
    """5.0x and 4.9x with intervals of 2 % overlap; 2x does not."""
    cells = cells_file([ok_cell(m, 0.5) for m in ((), ("nas",), ("pruning",), ("low_rank",))])
    times = {"none": 0.010, "nas": 0.002, "pruning": 0.00204, "low_rank": 0.005}
    latency = latency_file([measured_row(cell, "p", seconds, 0.010) for cell, seconds in times.items()])
    choice = choose(panels(cells, latency)[0], 0.02)
    assert (choice.cell, choice.indistinguishable) == ("nas", ("pruning",))


def test_a_model_that_does_not_fit_is_not_chosen() -> None:
    """The fastest cell is passed over when it exceeds the profile's memory."""
    cells, latency = eight_cells()
    rows = [
        row.model_copy(update={"fits": False, "why": "too big"}) if row.cell == "pruning+quantization" else row
        for row in latency.rows
    ]
    assert choose(panels(cells, latency_file(rows))[0], 0.02).cell == "quantization"


def test_changing_test_numbers_changes_no_choice() -> None:
    """Front, choice and tiers are the same after every test number was turned upside down."""
    cells, latency = eight_cells()
    before, after = panels(cells, latency), panels(_with_other_test_numbers(cells), latency)
    assert [choose(panel, 0.02) for panel in after] == [choose(panel, 0.02) for panel in before]
    assert [pareto(panel.points) for panel in after] == [pareto(panel.points) for panel in before]


def test_a_point_holds_no_test_number() -> None:
    """The rule holds by construction: what choices see has no field for test."""
    assert not any("test" in field for field in Point.model_fields)


def test_a_cell_is_shipped_only_if_it_is_faster_beyond_chance() -> None:
    """The fastest by its point is no different for all the rounds show, so the next is chosen; without it nobody is."""
    cells = cells_file([ok_cell(m, 0.5) for m in ((), ("nas",), ("pruning",))])
    rows = [measured_row(cell, "p", seconds, 0.01) for cell, seconds in (("none", 0.01), ("nas", 0.007), ("pruning", 0.008))]
    rows[1] = rows[1].model_copy(update={"verdict": "not significant", "p_holm": 0.2, "speedup_ci95": (0.9, 2.2)})
    (panel,) = panels(cells, latency_file(rows))
    assert choose(panel, 0.02).cell == "pruning"
    (alone,) = panels(cells, latency_file(rows[:2]))
    assert choose(alone, 0.02).verdict == "keep_uncompressed"


def test_what_no_test_could_say_is_chosen_by_its_point() -> None:
    """With too few rounds for a test the faster point is taken; the answer says that it was not tested."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("nas",), 0.5)])
    rows = [measured_row(cell, "p", seconds, 0.01) for cell, seconds in (("none", 0.01), ("nas", 0.007))]
    few = rows[1].model_copy(update={"verdict": "too few rounds", "rounds_s": (0.007,) * 3, "control_rounds_s": (0.01, 0.02, 0.01)})
    (panel,) = panels(cells, latency_file([rows[0], few]))
    assert choose(panel, 0.02).cell == "nas"


def test_a_profile_calibrated_in_float_only_is_one_panel() -> None:
    """Calibrated and estimated times of one device stand together, under the weaker name; each point keeps its own."""
    cells = cells_file([ok_cell((), 0.5), ok_cell(("quantization",), 0.5)])
    control = estimated_row("none", "p", 0.01, 0.01).model_copy(update={"source": "calibrated"})
    (panel,) = panels(cells, latency_file([control, estimated_row("quantization", "p", 0.005, 0.01)]))
    assert (panel.source, [point.source for point in panel.points]) == ("estimated", ["calibrated", "estimated"])
    assert choose(panel, 0.02).cell == "quantization"


def test_profile_of_a_foreign_runtime_borrows_accuracy_from_the_first() -> None:
    """TensorRT files are not made here: the panel says whose accuracy it shows."""
    cells = cells_file([ok_cell((), 0.5)])
    panel: Panel = panels(cells, latency_file([estimated_row("none", "jetson-nano", 0.1, 0.1, runtime="tensorrt")]))[0]
    assert (panel.artifacts_of, panel.has_own_artifacts) == ("onnxruntime", False)


def _with_other_test_numbers(cells: CellsFile) -> CellsFile:
    def turned(metrics: Metrics) -> Metrics:
        return metrics.model_copy(update={"map_50_95": 1.0 - metrics.map_50_95, "per_class": {}})

    return cells.model_copy(
        update={
            "cells": tuple(
                cell.model_copy(
                    update={
                        "artifacts": {
                            runtime: artifact.model_copy(update={"test": turned(artifact.test)})
                            for runtime, artifact in cell.artifacts.items()
                        }
                    }
                )
                for cell in cells.cells
            )
        }
    )


def with_given(given_map: float) -> tuple[Panel, CellsFile]:
    """A control at 0.50, a faster cell at 0.49, and the user's detector as it was brought."""
    given = ok_cell((), given_map).model_copy(update={"cell": GIVEN})
    cells = cells_file([ok_cell((), 0.50), ok_cell(("pruning",), 0.49)], references=[given])
    rows = [measured_row(name, MEASURED, time, 0.01) for name, time in (("none", 0.01), ("pruning", 0.005), (GIVEN, 0.01))]
    return Findings.of(cells, latency_file(rows), 0.02).panels[0], cells


def test_drops_are_told_against_the_better_of_control_and_given() -> None:
    """Further training may have cost more than a method does: then what was brought is what a combination must not lose against."""
    worse, cells = with_given(0.45)
    assert worse.baseline == worse.point("none")
    assert cells.baseline("onnxruntime") == cells.cell("none")
    assert choose(worse, 0.02).cell == "pruning"
    better, cells = with_given(0.53)
    assert better.baseline == better.point(GIVEN)
    assert cells.baseline("onnxruntime") == cells.record(GIVEN)
    kept = choose(better, 0.02)
    assert (kept.verdict, kept.cell, kept.within_drop) == ("keep_uncompressed", GIVEN, 0)
    assert choose(better, 0.04).cell == "pruning"


def test_the_given_detector_is_no_reference_to_beat() -> None:
    """It is as large as the control."""
    panel, _ = with_given(0.53)
    assert [point.cell for point in panel.references] == [GIVEN]
    assert panel.simpler == ()
