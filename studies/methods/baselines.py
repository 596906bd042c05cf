"""Which reference each variant has to beat. Decided by settings, val mAP and measured time; test mAP is looked at afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.records.schema import CellRecord, CellsFile, LatencyFile, LatencyRow, artifact_runtime
from flows.report.findings import ReferenceTime, best_no_slower
from studies.methods.subjects import Subject, cell_of

LEFT_TO_CHANCE = ("importance", "gradient_pictures")
"""Settings of pruning in which random pruning at equal multiply-adds differs."""


def baselines(
    subject: Subject, variants: Sequence[CellRecord], references: Sequence[CellRecord], cells: CellsFile, latency: LatencyFile
) -> dict[tuple[str, str], CellRecord]:
    """(name of the variant, runtime) -> the record it has to beat; a variant without one is left out."""
    found = {}
    for variant in variants:
        for runtime in cells.runtimes:
            baseline = _baseline(subject, variant, references, runtime, cells, latency)
            if baseline is not None and runtime in baseline.artifacts and runtime in variant.artifacts:
                found[variant.cell, runtime] = baseline
    return found


def timed_row(cells: CellsFile, latency: LatencyFile, cell: str, runtime: str) -> LatencyRow | None:
    """The measured row of a file of this runtime, on the first profile that has one."""
    rows = (row for row in latency.rows if row.cell == cell and row.is_measured and row.rounds_s)
    return next((row for row in rows if artifact_runtime(cells.runtimes, row) == runtime), None)


def _baseline(
    subject: Subject,
    variant: CellRecord,
    references: Sequence[CellRecord],
    runtime: str,
    cells: CellsFile,
    latency: LatencyFile,
) -> CellRecord | None:
    match subject.rivalry:
        case "equal_macs":
            return next((own for own in references if _without_chance(own) == _without_chance(variant)), None)
        case "no_slower":
            rows = {own.cell: timed_row(cells, latency, own.cell, runtime) for own in (variant, *references)}
            return _no_slower(rows.pop(variant.cell), references, runtime, rows)
        case "plain":
            plain = cells.cell(cell_of(subject.method, subject.plain or ""))
            return plain if plain is not None and plain.status == "ok" and _is_of_its_kind(variant, plain) else None


def _no_slower(
    own: LatencyRow | None, references: Sequence[CellRecord], runtime: str, rows: Mapping[str, LatencyRow | None]
) -> CellRecord | None:
    """Of the references that take no longer (within what counts as equal) the one with the best val mAP."""
    if own is None or own.p50_s is None:
        return None
    records = {reference.cell: reference for reference in references}
    timed = [
        ReferenceTime(row.cell, row.p50_s, records[row.cell].artifacts[runtime].val.map_50_95)
        for row in rows.values()
        if row is not None and row.p50_s is not None and row.profile == own.profile
    ]
    best = best_no_slower(own.p50_s, timed)
    return None if best is None else records[best.name]


def _without_chance(record: CellRecord) -> dict[str, Any] | None:
    """The pruning of a record, but for what decides which channels go; None where it is not pruned."""
    pruning = record.variant.get("pruning")
    return None if pruning is None else {name: value for name, value in pruning.items() if name not in LEFT_TO_CHANCE}


def _is_of_its_kind(variant: CellRecord, plain: CellRecord) -> bool:
    """Whether the two differ in nothing but what the plain one lacks: float16 weights are no other way to int8, and a network of
    quantization-aware training is compared with its float sibling."""
    own, other = (record.variant.get("quantization") for record in (variant, plain))
    if own is None or other is None:
        return True
    return bool(own["precision"] == other["precision"] and own["qat_epochs"] == other["qat_epochs"])
