"""Cells with real tiny files, and three plain pictures, for the tests of measuring."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detection.boxes import fit_of, fitted
from detection.data.dataset import Images
from flows.records.schema import ArtifactRecord, BudgetRecord, CellRecord, CellsFile, DatasetRecord, Metrics, Status
from hardware_profiles.estimate.model import Operator
from tests.hardware_profiles.tiny_model import INPUT_SIZE

DENSE = Operator(
    kind="conv3x3s1",
    macs=50_000_000,
    input_elements=64_000,
    output_elements=64_000,
    weight_elements=9_216,
    input_channels=32,
    output_channels=32,
)
THIN = dataclasses.replace(DENSE, macs=10_000_000)
METRICS = Metrics(map_50_95=0.5, map_50=0.7, map_75=0.5, per_class={}, detections="val.json")


def record(name: str, files: dict[str, Path] | None = None, status: Status = "ok", error: str | None = None) -> CellRecord:
    """A cell whose artifacts are the files, by runtime; their digests are those of the bytes."""
    artifacts = {
        runtime: ArtifactRecord(
            url=str(path),
            digest=hashlib.sha256(path.read_bytes()).hexdigest(),
            size_bytes=path.stat().st_size,
            val=METRICS,
            test=METRICS,
        )
        for runtime, path in (files or {}).items()
    }
    budget = BudgetRecord(train_epochs=1, train_images=1, search_images=0, teacher_forwards=0, qat_updates=0, train_s=1.0)
    return CellRecord(
        cell=name,
        methods=() if name == "none" else tuple(name.split("+")),
        variant={},
        seed=0,
        status=status,
        error=error,
        node="0" * 64,
        params=1,
        macs=1,
        no_effect=(),
        artifacts=artifacts,
        budget=budget,
    )


def sweep(*cells: CellRecord, references: Sequence[CellRecord] = ()) -> CellsFile:
    """A cells file of the records."""
    dataset = DatasetRecord(name="toy", digest="1" * 64, classes=("a", "b"), input_size=INPUT_SIZE, pictures={"val": 3})
    return CellsFile(sweep="toy", dataset=dataset, runtimes=("onnxruntime",), cells=cells, references=tuple(references))


def three_pictures() -> Images:
    """Three pictures taken at 24 x 20 (height, width), of which one is dark, one grey, one light; letterboxed to the input."""
    taken = [np.full((24, 20, 3), value, np.uint8) for value in (10, 120, 230)]
    truth = {"images": [{"id": i + 1, "height": 24, "width": 20} for i in range(3)], "annotations": [], "categories": []}
    return Images(
        split="val",
        pixels=np.stack([fitted(picture, INPUT_SIZE) for picture in taken]),
        boxes_xyxy_px=(np.zeros((0, 4), np.float32),) * 3,
        labels=(np.zeros(0, np.int64),) * 3,
        picture_ids=(1, 2, 3),
        fits=(fit_of((24, 20), INPUT_SIZE),) * 3,
        classes=("a", "b"),
        ground_truth=truth,
        digest="2" * 64,
    )
