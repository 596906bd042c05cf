"""What a tracked run shows of a record, and how MLflow's page of runs opens on a sweep.

Numbers are metrics, choices short params, verdicts and flags tags; the page opens with cells and references, the columns that
matter, and accuracy drawn against latency.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from flows.records.schema import CellRecord, LatencyRow, Source, artifact_runtime
from flows.stats.verdicts import verdict_text

LATENCY_PREFIX: dict[Source, str] = {"measured": "", "calibrated": "calibrated_", "estimated": "estimated_"}
"""A measured and a modelled latency never share a metric."""
VIEW_TAG = "mlflow.sharedViewState."
"""Tag of an experiment that MLflow's page reads where its address says `viewStateShareKey`, as its own button "Share" writes it."""
ACCURACY, TEST_ACCURACY, SIZE = "map_50_95_val_", "map_50_95_test_", "size_bytes_"
SECTION = "accuracy-against-latency"
LAYOUT = {"columns": 2, "cardHeight": 400}
"""Charts in a row, and pixels: with MLflow's three in a row neither axis shows its whole name."""
MOST_RUNS = 200
"""In a chart: the 64 cells of a full grid with references and variants."""


def cell_metrics(cell: CellRecord) -> dict[str, float]:
    """Metrics of a cell that do not depend on a device."""
    counts = {"params": cell.params, "macs": cell.macs}
    metrics = {name: float(count) for name, count in counts.items() if count is not None}
    if cell.budget is not None:
        metrics |= {f"budget_{name}": float(spent) for name, spent in cell.budget.model_dump().items()}
    for runtime, artifact in cell.artifacts.items():
        metrics[_key(SIZE + runtime)] = float(artifact.size_bytes)
        metrics[_key(ACCURACY + runtime)] = artifact.val.map_50_95
        metrics[_key(TEST_ACCURACY + runtime)] = artifact.test.map_50_95
    return metrics


def latency_metrics(row: LatencyRow) -> dict[str, float]:
    """Metrics of a row: time, speedup, and the smallest ratio that its rounds would probably have found."""
    shown = {
        "latency_p50_ms": None if row.p50_s is None else row.p50_s * 1000.0,
        "speedup": row.speedup,
        "minimum_detectable_effect": row.minimum_detectable_effect,
    }
    return {latency_key(name, row): value for name, value in shown.items() if value is not None}


def latency_key(name: str, row: LatencyRow) -> str:
    """The key of one of a row's numbers, or tags: its name, the profile, and whether it was modelled."""
    return _key(f"{LATENCY_PREFIX[row.source]}{name}_{row.profile}")


def latency_tags(row: LatencyRow) -> dict[str, str]:
    """Tags of a row with a time: its verdict in words, and its flags or "none"."""
    if row.p50_s is None:
        return {}
    tags = {latency_key("flags", row): ", ".join(row.flags) or "none"}
    if row.verdict is not None:
        tags[latency_key("verdict", row)] = verdict_text(row.verdict, row.minimum_detectable_effect)
    return tags


def choice(method: str, cell: CellRecord) -> str:
    """The method's variant in a word, "none" where it is absent.

    Older records have no labels: then the first setting of the method that is a word, "on" where all are numbers.
    """
    if method not in cell.methods:
        return "none"
    if method in cell.labels:
        return cell.labels[method]
    settings: dict[str, Any] = cell.variant.get(method, {})
    return next((value for key, value in settings.items() if key != "method" and isinstance(value, str)), "on")


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


def _key(name: str) -> str:
    """A key that MLflow takes: letters, digits and _-./ only."""
    return re.sub(r"[^A-Za-z0-9_\-./]", "_", name)
