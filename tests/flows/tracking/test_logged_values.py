"""The state in which MLflow's page of runs opens."""

from __future__ import annotations

from flows.tracking.logged_values import shared_view as view_of
from tests.flows.records_factory import ESTIMATED, MEASURED, empty_row, estimated_row, measured_row

METRICS = ("params", "map_50_95_val_onnxruntime", "map_50_95_val_openvino", f"speedup_{MEASURED}")
TIME, ESTIMATE = f"latency_p50_ms_{MEASURED}", f"estimated_latency_p50_ms_{ESTIMATED}"
RUNTIMES = ("openvino", "onnxruntime")
ROWS = (
    measured_row("none", MEASURED, 0.01, 0.01),
    measured_row("nas", MEASURED, 0.005, 0.01),
    estimated_row("none", ESTIMATED, 0.1, 0.1),
)


def test_measured_and_modelled_times_have_charts_of_their_own() -> None:
    """One per profile, however many cells have a row there; each shows the accuracy of the files that were timed."""
    others = {"zen": "openvino 2026.4", "nano": "tensorrt"}  # the sweep made no file for the last: its first runtime's speaks
    rows = (*ROWS, *(ROWS[0].model_copy(update={"profile": name, "runtime": runtime}) for name, runtime in others.items()))
    charts = view_of("p", RUNTIMES, METRICS, rows)["compareRunCharts"]
    drawn = [(chart["xaxis"]["key"], chart["yaxis"]["key"].removeprefix("map_50_95_val_")) for chart in charts]
    assert drawn[:2] == [(TIME, "onnxruntime"), (ESTIMATE, "onnxruntime")]
    assert drawn[2:] == [("latency_p50_ms_zen", "openvino"), ("latency_p50_ms_nano", "openvino")]
    assert len({chart["uuid"] for chart in charts}) == 4


def test_the_fastest_of_the_sweep_stands_first() -> None:
    """Sorted by the first profile; runs of other sweeps are left out, columns that no run has too."""
    view = view_of("parent", RUNTIMES, METRICS, ROWS)
    assert view["searchFilter"] == "tags.`mlflow.parentRunId` = 'parent'"
    assert (view["orderByKey"], view["orderByAsc"]) == (f"metrics.`{TIME}`", True)
    assert f"metrics.`speedup_{MEASURED}`" in view["selectedColumns"]
    assert f"metrics.`estimated_speedup_{ESTIMATED}`" not in view["selectedColumns"]


def test_without_times_the_most_accurate_stands_first() -> None:
    """And nothing is drawn; a row without a number is none, and a sweep of which all failed has a page too."""
    for rows in ((), (empty_row("none", MEASURED, "no core"),)):
        view = view_of("parent", RUNTIMES, METRICS, rows)
        assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`map_50_95_val_openvino`", False)
        assert view["compareRunCharts"] == []
    assert view_of("parent", (), (), ROWS)["compareRunCharts"] == []
