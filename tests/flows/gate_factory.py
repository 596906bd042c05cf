"""Hand-made sweeps for the tests of the gate: one box in each of forty pictures, and detectors that find some of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flows.records.store
from flows.check.verdict import Item
from flows.records.schema import (
    ArtifactRecord,
    BudgetRecord,
    CellRecord,
    CellsFile,
    DatasetRecord,
    LatencyFile,
    LatencyRow,
    Metrics,
)

PICTURES = 40
TRUTH: dict[str, Any] = {
    "images": [{"id": picture, "width": 100, "height": 100} for picture in range(1, PICTURES + 1)],
    "categories": [{"id": 1, "name": "disc"}],
    "annotations": [
        {"id": picture, "image_id": picture, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        for picture in range(1, PICTURES + 1)
    ],
}
"""One box in each picture."""
ALL, HALF = range(1, PICTURES + 1), range(1, PICTURES // 2 + 1)
SWAPPED = [*range(1, 18), *range(21, 24)]
"""20 found like HALF, but 3 of them in other pictures: the same mAP, another detector."""
ROUNDS_S = (0.010, 0.0101, 0.0099, 0.0102, 0.0098, 0.0101, 0.0099, 0.010)
CONTROL_S = (0.020, 0.0201, 0.0199, 0.0200, 0.0200, 0.0199, 0.0201, 0.0200)
"""Twice as fast as the control, give or take 1.5 %."""


def digest(text: str) -> str:
    """A sha256 of some words."""
    return hashlib.sha256(text.encode()).hexdigest()


class Store(flows.records.store.Store):
    """A store of detections."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        root.mkdir()

    def metrics(self, pictures: Sequence[int]) -> Metrics:
        """Accuracy of a detector that finds the boxes of these pictures and nothing else: a share f reaches f of 101 recalls."""
        detections = [
            {"image_id": picture, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 1.0 - picture / 100} for picture in pictures
        ]
        text = json.dumps(detections)
        (self.root / f"{digest(text)}.json").write_text(text)
        value = (100 * len(pictures) // PICTURES + 1) / 101
        return Metrics(map_50_95=value, map_50=value, map_75=value, per_class={"disc": value}, detections=f"{digest(text)}.json")

    def cell(
        self, name: str, pictures: Sequence[int] = HALF, size_bytes: int = 1000, macs: int = 500, params: int = 50
    ) -> CellRecord:
        """A finished cell whose val detections never change."""
        artifact = ArtifactRecord(
            url="file", digest=digest(name), size_bytes=size_bytes, val=self.metrics(HALF), test=self.metrics(pictures)
        )
        budget = BudgetRecord(train_epochs=1, train_images=1, search_images=0, teacher_forwards=0, qat_updates=0, train_s=1.0)
        return CellRecord(cell=name, methods=(), variant={}, seed=0, status="ok", error=None, node=digest(name),
                          params=params, macs=macs, no_effect=(), artifacts={"onnxruntime": artifact}, budget=budget)  # fmt: skip


OK = Item(cell="none", quantity="macs", verdict="ok", before=5, now=5, change=0)
WORSE = Item(cell="nas", where="onnxruntime", quantity="size_bytes", verdict="regressed", before=1000, now=2000, change=1000)
GONE = Item(cell="pruning", quantity="cell", verdict="missing", why="failed: out of memory\nsee | log")
UNSURE = Item(
    cell="nas", where="x86-1t", quantity="speedup", verdict="inconclusive", before=2.0, now=1.9, change=0.95,
    interval=(0.9, 1.01), p_holm=0.0634, minimum_detectable_effect=1.074,
)  # fmt: skip
DOUBTFUL = UNSURE.model_copy(update={"verdict": "unconfirmed"})
DROPPED = Item(
    cell="nas", where="openvino", quantity="map_50_95", verdict="regressed", before=0.5, now=0.4, change=-0.1,
    interval=(-0.12, -0.08), p_holm=1e-9, minimum_detectable_effect=0.031,
)  # fmt: skip


def unchanged(cell: str, effect: float, quantity: str = "speedup") -> Item:
    """Tested, and no change found."""
    where = "x86-1t" if quantity == "speedup" else "openvino"
    about = {
        "cell": cell,
        "where": where,
        "quantity": quantity,
        "verdict": "ok",
        "minimum_detectable_effect": effect,
        "p_holm": 1.0,
    }
    return Item.model_validate(about)


def failed(name: str) -> CellRecord:
    """A cell that broke, with an error that would break a table."""
    return CellRecord(cell=name, methods=(), variant={}, seed=0, status="failed", error="out of memory\nsee | log",
                      node=digest(name), params=None, macs=None, no_effect=(), artifacts={}, budget=None)  # fmt: skip


def cells_of(*cells: CellRecord, data: str = "data") -> CellsFile:
    """A sweep of these cells."""
    dataset = DatasetRecord(
        name=data, digest=digest(data), classes=("disc",), input_size=(100, 100), pictures={"val": PICTURES, "test": PICTURES}
    )
    return CellsFile(sweep="nightly", dataset=dataset, runtimes=("onnxruntime",), cells=cells, references=())


def row_of(cell: str, rounds_s: Sequence[float] = ROUNDS_S, control_s: Sequence[float] = CONTROL_S, **other: Any) -> LatencyRow:
    """A measured row; `other` replaces fields."""
    fields: dict[str, Any] = {
        "cell": cell, "profile": "x86-1t", "source": "measured", "runtime": "onnxruntime 1.0", "artifact_digest": digest(cell),
        "rounds_s": tuple(rounds_s), "control_rounds_s": tuple(control_s), "p50_s": 0.01, "p90_s": 0.011, "speedup": 2.0,
        "speedup_ci95": (1.9, 2.1), "interval_s": (0.009, 0.011), "end_to_end_p50_s": 0.012, "peak_rss_bytes": 1,
        "fits": True, "why": None, "environment": digest("here"),
    }  # fmt: skip
    return LatencyRow(**(fields | other))


def latency_of(*rows: LatencyRow) -> LatencyFile:
    """Latencies of a sweep."""
    return LatencyFile(environment={}, rows=rows)
