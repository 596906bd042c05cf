"""How MLflow's page of runs opens on a sweep: cells and references, the columns that matter, accuracy drawn against latency."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from flows.records.schema import LatencyRow, artifact_runtime
from flows.tracking.logged_values import latency_key

VIEW_TAG = "mlflow.sharedViewState."
"""Tag of an experiment that MLflow's page reads where its address says `viewStateShareKey`, as its own button "Share" writes it."""
ACCURACY, TEST_ACCURACY, SIZE = "map_50_95_val_", "map_50_95_test_", "size_bytes_"
SECTION = "accuracy-against-latency"
LAYOUT = {"columns": 2, "cardHeight": 400}
"""Charts in a row, and pixels: with MLflow's three in a row neither axis shows its whole name."""
MOST_RUNS = 200
"""In a chart: the 64 cells of a full grid with references and variants."""


def shared_view(parent_id: str, runtimes: Sequence[str], metrics: Collection[str], rows: Iterable[LatencyRow]) -> dict[str, Any]:
    """State of the page for one sweep, in MLflow's own words: one chart per profile and kind of latency, val mAP upwards.

    `runtimes` are the sweep's, in its order; `metrics` are names that its runs have. Without rows there are no charts, and the most
    accurate cell comes first.
    """
    timed = [row for row in rows if row.p50_s is not None] if runtimes else []
    axes = {latency_key("latency_p50_ms", row): ACCURACY + artifact_runtime(runtimes, row) for row in timed}
    speedups = [name.replace("latency_p50_ms", "speedup") for name in axes]
    accuracies = [prefix + runtime for runtime in runtimes for prefix in (ACCURACY, TEST_ACCURACY, SIZE)]
    first = next(iter(axes), accuracies[0] if accuracies else "params")
    section = {"uuid": SECTION, "name": "Accuracy against latency", "display": True, "isReordered": False} | LAYOUT
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}'",
        "orderByKey": _column(first),
        "orderByAsc": first in axes,
        "selectedColumns": [_column(name) for name in (*accuracies, *axes, *(name for name in speedups if name in metrics))],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [section],
        "compareRunCharts": [_chart(latency, accuracy) for latency, accuracy in axes.items()],
    }


def _chart(latency: str, accuracy: str) -> dict[str, Any]:
    return {
        "uuid": f"{SECTION}-{latency}",
        "type": "SCATTER",
        "runsCountToCompare": MOST_RUNS,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "xaxis": {"key": latency, "type": "METRIC"},
        "yaxis": {"key": accuracy, "type": "METRIC"},
    }


def _column(metric: str) -> str:
    return f"metrics.`{metric}`"
