"""The state in which MLflow's page of runs opens."""

from __future__ import annotations

from flows.shared_view import shared_view
from tests.flows.records_factory import ESTIMATED, MEASURED, empty_row, estimated_row, measured_row

METRICS = ("params", "map_50_95_val_onnxruntime", "map_50_95_val_openvino", f"speedup_{MEASURED}")
TIME, ESTIMATE = f"latency_p50_ms_{MEASURED}", f"estimated_latency_p50_ms_{ESTIMATED}"
ROWS = (
    measured_row("none", MEASURED, 0.01, 0.01),
    measured_row("nas", MEASURED, 0.005, 0.01),
    estimated_row("none", ESTIMATED, 0.1, 0.1),
)


def test_measured_and_modelled_times_have_charts_of_their_own() -> None:
    """One per profile, however many cells have a row there; each shows the accuracy of the files that were timed."""
    rows = (*ROWS, ROWS[0].model_copy(update={"profile": "zen", "runtime": "openvino 2026.4"}))
    charts = shared_view("p", METRICS, rows)["compareRunCharts"]
    drawn = [(chart["xaxis"]["key"], chart["yaxis"]["key"].removeprefix("map_50_95_val_")) for chart in charts]
    assert drawn == [(TIME, "onnxruntime"), (ESTIMATE, "onnxruntime"), ("latency_p50_ms_zen", "openvino")]
    assert len({chart["uuid"] for chart in charts}) == 3


def test_the_fastest_of_the_sweep_stands_first() -> None:
    """Sorted by the first profile; runs of other sweeps are left out, columns that no run has too."""
    view = shared_view("parent", METRICS, ROWS)
    assert view["searchFilter"] == "tags.`mlflow.parentRunId` = 'parent'"
    assert (view["orderByKey"], view["orderByAsc"]) == (f"metrics.`{TIME}`", True)
    assert f"metrics.`speedup_{MEASURED}`" in view["selectedColumns"]
    assert f"metrics.`estimated_speedup_{ESTIMATED}`" not in view["selectedColumns"]


def test_without_times_the_most_accurate_stands_first() -> None:
    """And nothing is drawn; a row without a number is none, and a sweep of which all failed has a page too."""
    for rows in ((), (empty_row("none", MEASURED, "no core"),)):
        view = shared_view("parent", METRICS, rows)
        assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`map_50_95_val_onnxruntime`", False)
        assert view["compareRunCharts"] == []
    assert shared_view("parent", (), ROWS)["compareRunCharts"] == []
