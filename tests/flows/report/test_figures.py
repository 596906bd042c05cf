"""The figures show what the analysis found, and never mix measured with estimated."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flows.report.figures import as_html, effects_figure, interactions_figure, pareto_figure, plotly_script
from flows.report.findings import choose, panels
from flows.stats.factorial import interactions, main_effects
from tests.flows.records_factory import (
    MEASURED,
    METHODS,
    cells_file,
    eight_cells,
    float16_cell,
    full_grid,
    latency_file,
    measured_row,
    ok_cell,
)


def _pareto(number: int) -> Any:
    panel = panels(*eight_cells())[number]
    return pareto_figure(panel, choose(panel, 0.02))


def test_every_cell_is_one_point_at_its_place() -> None:
    """Hover data names each of the seven cells; latency is in ms."""
    clouds = [trace for trace in _pareto(0).data if trace.mode == "markers"]
    shown = {row[0]: (x, y) for trace in clouds for row, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)}
    assert len(shown) == 7
    assert shown["pruning+quantization"] == (pytest.approx(2.0), pytest.approx(0.53))


def test_int8_and_float_are_two_series() -> None:
    """Each point's series says what it computes in."""
    named = {trace.name: trace for trace in _pareto(0).data}
    assert {row[0] for row in named["int8"].customdata} == {
        "quantization",
        "pruning+quantization",
        "pruning+distillation+quantization",
    }
    assert len(named["float"].x) == 4


def test_float16_files_are_drawn_as_float() -> None:
    """They compute in float32: a float point in the page's figure and in the still one."""
    cells = cells_file([ok_cell((), 0.5), float16_cell(("quantization",), 0.5)])
    latency = latency_file([measured_row("none", MEASURED, 0.01, 0.01), measured_row("quantization", MEASURED, 0.009, 0.01)])
    panel = panels(cells, latency)[0]
    named = {trace.name: trace for trace in pareto_figure(panel, choose(panel, 0.02)).data}
    assert {row[0] for row in named["float"].customdata} == {"none", "quantization"}
    assert len(named["int8"].x) == 0


def test_ticks_of_accuracies_that_lie_close_are_not_all_the_same() -> None:
    """Two digits where the cells differ by more than 0.1 of mAP, three below."""
    panel = panels(*eight_cells())[0]
    wide = panel.model_copy(update={"points": (panel.points[0].model_copy(update={"val_map": 0.3}), *panel.points[1:])})
    formats = [pareto_figure(own, choose(own, 0.02)).layout.yaxis.tickformat for own in (wide, panel)]
    assert formats == [".2f", ".3f"]


def test_references_are_a_series_of_their_own_and_not_on_the_front() -> None:
    """Hollow and grey, however good they are; without any there is no such series."""
    cells, latency = eight_cells()
    panel = panels(cells, latency)[0]
    best = panel.points[0].model_copy(update={"cell": "reference:narrow-0.5", "val_map": 0.9, "p50_s": 1e-4})
    figure = pareto_figure(panel.model_copy(update={"references": (best,)}), choose(panel, 0.02))
    (series,) = [trace for trace in figure.data if trace.name == "references"]
    assert [row[0] for row in series.customdata] == ["reference:narrow-0.5"]
    assert (series.marker.symbol, series.marker.size) == ("diamond-open", 9)
    line, before = (next(trace for trace in own.data if trace.mode == "lines") for own in (figure, _pareto(0)))
    assert line.x == before.x
    assert "references" not in [trace.name for trace in _pareto(0).data]


def test_front_is_drawn_fastest_first() -> None:
    """The line runs through the front with rising latency and rising mAP."""
    line = next(trace for trace in _pareto(0).data if trace.mode == "lines")
    assert list(line.x) == sorted(line.x)
    assert list(line.y) == sorted(line.y)
    assert len(line.x) == 6


def test_control_and_chosen_cell_are_named_on_the_log_axis() -> None:
    """Annotations of a log axis stand at the logarithm."""
    notes = {note.text: note for note in _pareto(0).layout.annotations}
    assert notes["<b>control</b>"].x == pytest.approx(math.log10(10))
    assert notes["<b>pruning+quantization</b>"].x == pytest.approx(math.log10(2))


def test_estimates_are_called_estimates_and_carry_their_interval() -> None:
    """The estimated profile's axis, series and marks differ from the measured one's, and bars span interval_s."""
    measured, estimated = _pareto(0), _pareto(1)
    assert "ESTIMATED" in estimated.layout.xaxis.title.text
    assert "ESTIMATED" not in measured.layout.xaxis.title.text
    cloud = next(trace for trace in estimated.data if trace.name == "float (estimate)")
    control = [row[0] for row in cloud.customdata].index("none")
    assert cloud.error_x.array[control] == pytest.approx(60)  # 100 ms x 1.6
    assert cloud.error_x.arrayminus[control] == pytest.approx(37.5)  # 100 ms / 1.6
    assert all(trace.error_x.array is None for trace in measured.data if trace.mode == "markers")


def test_effects_are_drawn_in_points_and_powers_of_two() -> None:
    """Lightweight costs 3 points; it quarters the size, which is -2 on the axis of doublings."""
    quantities = main_effects(*full_grid())
    maps = effects_figure([quantity for quantity in quantities if quantity.kind == "val_map"])
    sizes = effects_figure([quantity for quantity in quantities if quantity.kind == "size"])
    assert len(maps.data) == 2
    assert dict(zip(maps.data[0].y, maps.data[0].x, strict=True))["lightweight"] == pytest.approx(-3.0)
    assert dict(zip(sizes.data[0].y, sizes.data[0].x, strict=True))["lightweight"] == pytest.approx(-2.0)
    assert "×0.25" in sizes.layout.xaxis.ticktext


def test_interactions_are_a_lower_triangle_in_points() -> None:
    """Fifteen pairs of six methods are shown once each."""
    cells, _ = full_grid(noise=lambda methods: 0.01 if {"pruning", "distillation"} <= set(methods) else 0.0)
    heat = interactions_figure(interactions(cells)[0]).data[0]
    shown = {
        (y, x): value
        for y, row in zip(heat.y, heat.z, strict=True)
        for x, value in zip(heat.x, row, strict=True)
        if value is not None
    }
    assert len(shown) == math.comb(len(METHODS), 2)
    assert shown["distillation", "pruning"] == pytest.approx(1.0)
    assert shown["nas", "lightweight"] == pytest.approx(0.0, abs=1e-9)


def test_a_figure_in_a_page_loads_nothing() -> None:
    """The piece of page holds no script address; Plotly itself comes inlined."""
    html = as_html(_pareto(0), "front")
    assert 'id="front"' in html
    assert "src=" not in html
    assert len(plotly_script()) > 1_000_000
