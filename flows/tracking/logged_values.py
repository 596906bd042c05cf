"""What a tracked run shows of a record: numbers as metrics, choices as short params, verdicts and flags as tags."""

from __future__ import annotations

import re
from typing import Any

from flows.records.schema import CellRecord, LatencyRow, Source
from flows.stats.verdicts import verdict_text

LATENCY_PREFIX: dict[Source, str] = {"measured": "", "calibrated": "calibrated_", "estimated": "estimated_"}
"""A measured and a modelled latency never share a metric."""


def cell_metrics(cell: CellRecord) -> dict[str, float]:
    """Metrics of a cell that do not depend on a device."""
    counts = {"params": cell.params, "macs": cell.macs}
    metrics = {name: float(count) for name, count in counts.items() if count is not None}
    if cell.budget is not None:
        metrics |= {f"budget_{name}": float(spent) for name, spent in cell.budget.model_dump().items()}
    for runtime, artifact in cell.artifacts.items():
        metrics[_key(f"size_bytes_{runtime}")] = float(artifact.size_bytes)
        metrics[_key(f"map_50_95_val_{runtime}")] = artifact.val.map_50_95
        metrics[_key(f"map_50_95_test_{runtime}")] = artifact.test.map_50_95
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


def _key(name: str) -> str:
    """A key that MLflow takes: letters, digits and _-./ only."""
    return re.sub(r"[^A-Za-z0-9_\-./]", "_", name)
