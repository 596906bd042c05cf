"""Hand-made records for the tests of the report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from flows.records.schema import (
    ArtifactRecord,
    BudgetRecord,
    CellRecord,
    CellsFile,
    DatasetRecord,
    LatencyFile,
    LatencyRow,
    Metrics,
    Source,
    SpeedVerdict,
)
from flows.stats.verdicts import with_verdicts

METHODS = ("lightweight", "nas", "pruning", "low_rank", "distillation", "quantization")
CLASSES = ("disc", "square")
INPUT_SIZE = (96, 128)
RUNTIMES = ("onnxruntime", "openvino")
MEASURED, ESTIMATED = "x86-onnxruntime-1t", "raspberry-pi-5"


def digest(text: str) -> str:
    """A sha256 of some words."""
    return hashlib.sha256(text.encode()).hexdigest()


def cell_name(methods: Sequence[str]) -> str:
    """How the grid names a cell."""
    return "+".join(methods) or "none"


def subsets(methods: Sequence[str]) -> list[tuple[str, ...]]:
    """Every combination, the empty one first."""
    chosen = product((False, True), repeat=len(methods))
    return sorted((tuple(m for m, on in zip(methods, picked, strict=True) if on) for picked in chosen), key=len)


def metrics(value: float, detections: str) -> Metrics:
    """An accuracy whose other numbers follow from the first."""
    return Metrics(
        map_50_95=value, map_50=min(1.0, value * 1.5), map_75=value, per_class=dict.fromkeys(CLASSES, value), detections=detections
    )


def artifact(cell: str, runtime: str, val: float, test: float, size_bytes: int) -> ArtifactRecord:
    """A file of a cell for a runtime, with its detections beside it."""
    suffix = "xml" if runtime == "openvino" else "onnx"
    return ArtifactRecord(
        url=f"{cell}/{runtime}/model.{suffix}",
        digest=digest(cell + runtime),
        size_bytes=size_bytes,
        val=metrics(val, f"{cell}/{runtime}/val.json"),
        test=metrics(test, f"{cell}/{runtime}/test.json"),
    )


def ok_cell(
    methods: Sequence[str],
    val: float,
    test: float | None = None,
    *,
    size_bytes: int = 1 << 20,
    macs: int = 1 << 30,
    runtimes: Sequence[str] = RUNTIMES,
) -> CellRecord:
    """A cell that was made; test accuracy is val's unless given."""
    name = cell_name(methods)
    return CellRecord(
        cell=name,
        methods=tuple(methods),
        variant={method: {"method": method} for method in methods},
        seed=0,
        status="ok",
        error=None,
        node=digest(name),
        params=macs // 400,
        macs=macs,
        no_effect=(),
        artifacts={runtime: artifact(name, runtime, val, val if test is None else test, size_bytes) for runtime in runtimes},
        budget=BudgetRecord(
            train_epochs=60,
            train_images=24000,
            search_images=0,
            teacher_forwards=24000 * ("distillation" in methods),
            qat_updates=0,
            train_s=81.5,
        ),
    )


def float16_cell(methods: Sequence[str], val: float, **more: Any) -> CellRecord:
    """A cell whose quantization narrows its weights to float16 and computes in float32."""
    made = ok_cell(methods, val, **more)
    return made.model_copy(update={"variant": made.variant | {"quantization": {"precision": "float16"}}})


def failed_cell(methods: Sequence[str], error: str) -> CellRecord:
    """A cell that was not made."""
    name = cell_name(methods)
    return CellRecord(
        cell=name,
        methods=tuple(methods),
        variant={method: {"method": method} for method in methods},
        seed=0,
        status="failed",
        error=error,
        node=digest(name),
        params=None,
        macs=None,
        no_effect=(),
        artifacts={},
        budget=None,
    )


def cells_file(cells: Sequence[CellRecord], runtimes: Sequence[str] = RUNTIMES, references: Sequence[CellRecord] = ()) -> CellsFile:
    """A sweep on the two-class toy data."""
    return CellsFile(
        sweep="toy",
        dataset=DatasetRecord(
            name="toy", digest=digest("toy"), classes=CLASSES, input_size=INPUT_SIZE, pictures={"train": 400, "val": 100, "test": 8}
        ),
        runtimes=tuple(runtimes),
        cells=tuple(cells),
        references=tuple(references),
    )


def measured_row(
    cell: str, profile: str, p50_s: float, control_s: float, *, runtime: str = "onnxruntime 1.31.1", spread: float = 0.02
) -> LatencyRow:
    """Eight rounds around p50_s; the speedup's interval is its share `spread` to both sides, and its verdict follows from that."""
    shares = (-1.0, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 1.0)
    speedup = control_s / p50_s
    verdict: SpeedVerdict = (
        "faster" if speedup * (1 - spread) > 1.0 else "slower" if speedup * (1 + spread) < 1.0 else "not significant"
    )
    return LatencyRow(
        cell=cell,
        profile=profile,
        source="measured",
        runtime=runtime,
        artifact_digest=digest(cell + runtime.split(maxsplit=1)[0]),
        rounds_s=tuple(p50_s * (1 + spread * share) for share in shares),
        control_rounds_s=(control_s,) * 8,
        p50_s=p50_s,
        p90_s=p50_s * 1.1,
        speedup=speedup,
        speedup_ci95=(speedup * (1 - spread), speedup * (1 + spread)),
        interval_s=(p50_s * (1 - spread), p50_s * (1 + spread)),
        end_to_end_p50_s=p50_s + 0.0008,
        peak_rss_bytes=96 << 20,
        fits=True,
        environment=digest("host"),
        verdict="same file" if cell == "none" else verdict,
        p_holm=None if cell == "none" else 0.5 if verdict == "not significant" else 1e-6,
        minimum_detectable_effect=None if cell == "none" else 1.0 + spread,
    )


def estimated_row(
    cell: str, profile: str, p50_s: float, control_s: float, *, runtime: str = "onnxruntime", factor: float = 1.6
) -> LatencyRow:
    """A modelled latency with its interval."""
    return LatencyRow(
        cell=cell,
        profile=profile,
        source="estimated",
        runtime=runtime,
        p50_s=p50_s,
        speedup=control_s / p50_s,
        interval_s=(p50_s / factor, p50_s * factor),
        fits=True,
    )


def empty_row(cell: str, profile: str, why: str, source: Source = "measured") -> LatencyRow:
    """A row without a number."""
    return LatencyRow(
        cell=cell,
        profile=profile,
        source=source,
        runtime="onnxruntime 1.31.1",
        why=why,
    )


def latency_file(rows: Sequence[LatencyRow]) -> LatencyFile:
    """Rows of one host."""
    return LatencyFile(environment={"cpu": "AMD EPYC 9R14", "cores": 2, "versions": {"onnxruntime": "1.31.1"}}, rows=tuple(rows))


def eight_cells() -> tuple[CellsFile, LatencyFile]:
    """Three methods, worked by hand: at most 2 points lost, `pruning+quantization` is the fastest; all three lose 4 points.

    | cell                               | val mAP | ms measured | ms estimated | size KiB |
    |------------------------------------|---------|-------------|--------------|----------|
    | none                               | 0.550   | 10          | 100          | 4096     |
    | pruning                            | 0.545   | 5           | 50           | 2048     |
    | distillation                       | 0.560   | 10          | 100          | 4096     |
    | quantization                       | 0.540   | 4           | 40           | 1024     |
    | pruning+distillation               | 0.552   | 5.1         | 51           | 2048     |
    | pruning+quantization               | 0.530   | 2           | 60           | 512      |
    | distillation+quantization          | failed  |             |              |          |
    | pruning+distillation+quantization  | 0.510   | 1.9         | 20           | 512      |
    """
    table: list[tuple[tuple[str, ...], float, float, float, int]] = [
        ((), 0.550, 10.0, 100.0, 4096),
        (("pruning",), 0.545, 5.0, 50.0, 2048),
        (("distillation",), 0.560, 10.0, 100.0, 4096),
        (("quantization",), 0.540, 4.0, 40.0, 1024),
        (("pruning", "distillation"), 0.552, 5.1, 51.0, 2048),
        (("pruning", "quantization"), 0.530, 2.0, 60.0, 512),
        (("pruning", "distillation", "quantization"), 0.510, 1.9, 20.0, 512),
    ]
    made = [ok_cell(methods, val, size_bytes=kib << 10) for methods, val, _, _, kib in table]
    made.append(failed_cell(("distillation", "quantization"), "RuntimeError: <calibration> found no ranges; log: logs/q.txt"))
    rows = [measured_row(cell_name(methods), MEASURED, ms / 1e3, 0.010) for methods, _, ms, _, _ in table]
    rows.append(empty_row("distillation+quantization", MEASURED, "the cell failed"))
    rows += [estimated_row(cell_name(methods), ESTIMATED, ms / 1e3, 0.100) for methods, _, _, ms, _ in table]
    cells = cells_file(made)
    return cells, latency_file(with_verdicts(cells, rows))


MAP_EFFECT = dict(zip(METHODS, (-0.03, 0.01, -0.02, -0.005, 0.015, -0.004), strict=True))
HALVINGS = dict(zip(METHODS, (2, 1, 1, 0, 0, 2), strict=True))
"""How often each method halves size, MACs and time in `full_grid`: exact in binary."""


def full_grid(noise: Callable[[tuple[str, ...]], float] = lambda methods: 0.0) -> tuple[CellsFile, LatencyFile]:
    """All 64 cells with additive effects on mAP and multiplicative ones on the rest; `noise` adds to a cell's mAP."""
    made, rows = [], []
    for methods in subsets(METHODS):
        halvings = sum(HALVINGS[method] for method in methods)
        val = 0.55 + sum(MAP_EFFECT[method] for method in methods) + noise(methods)
        made.append(ok_cell(methods, val, size_bytes=(1 << 22) >> halvings, macs=(1 << 30) >> halvings))
        seconds = 0.016 / 2**halvings
        rows.append(measured_row(cell_name(methods), MEASURED, seconds, 0.016))
        rows.append(measured_row(cell_name(methods), "x86-openvino-1t", seconds, 0.016, runtime="openvino 2026.4"))
        rows.append(estimated_row(cell_name(methods), ESTIMATED, seconds * 10, 0.16))
    cells = cells_file(made)
    return cells, latency_file(with_verdicts(cells, rows))
