"""What the study shows of each method: which variant is trained with three seeds, and which reference each variant has to beat.

The reference is chosen by settings, val mAP and measured time; test mAP is looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from compressors.planning.names import MethodName
from detection.frozen import Frozen
from flows.records.schema import (
    REFERENCE_PREFIX,
    CellRecord,
    CellsFile,
    LatencyFile,
    LatencyRow,
    artifact_runtime,
    is_reference,
)
from flows.stats.latency import EQUAL_WITHIN

LEFT_TO_CHANCE = ("importance", "gradient_pictures")
"""Settings of pruning in which random pruning at equal multiply-adds differs."""
Rivalry = Literal["equal_macs", "no_slower", "plain"]
"""What a variant has to beat. `equal_macs`: random pruning with the same settings; `no_slower`: of the references that are measured
no slower than it, the one with the best val mAP; `plain`: the plainest variant of its own method."""


class Subject(Frozen):
    """One method in the study."""

    method: MethodName
    three_seeds: str
    """Label of the variant that is trained with three seeds: one from the middle."""
    rivalry: Rivalry
    references: tuple[str, ...] = ()
    """Kinds of `grid.references` that its table shows."""
    plain: str | None = None
    """Label of the variant that is shown as a reference: without what the method adds."""


SUBJECTS: tuple[Subject, ...] = (
    Subject(
        method="lightweight", three_seeds="ghost", rivalry="no_slower", references=("narrow", "smaller_input")
    ),
    Subject(method="nas", three_seeds="nsga2-0.5", rivalry="no_slower", references=("narrow", "smaller_input")),
    Subject(method="pruning", three_seeds="taylor-0.5", rivalry="equal_macs", references=("random_pruning",)),
    Subject(
        method="low_rank", three_seeds="tucker-macs-0.6-everywhere", rivalry="no_slower", references=("narrow", "smaller_input")
    ),
    Subject(method="distillation", three_seeds="scores+LD+PKD", rivalry="plain", plain="labels"),
    Subject(method="quantization", three_seeds="int8-val", rivalry="plain", plain="int8-minmax"),
)  # fmt: skip
"""In the order of a cell's name."""


def cell_of(method: str, label: str) -> str:
    """The name of the cell with this variant alone, in a menu that has several variants of the method."""
    return f"{method}:{label}"


def label_of(name: str) -> str:
    """The variant in a cell of one method alone (the method itself where the menu has no other), or what a reference is."""
    if is_reference(name):
        return name.removeprefix(REFERENCE_PREFIX)
    return name.partition(":")[2] or name


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
            own, *others = (timed_row(cells, latency, record.cell, runtime) for record in (variant, *references))
            fast = [record for record, row in zip(references, others, strict=True) if _is_no_slower(row, own)]
            return max(fast, key=lambda record: record.artifacts[runtime].val.map_50_95, default=None)
        case "plain":
            plain = cells.cell(cell_of(subject.method, subject.plain or ""))
            return plain if plain is not None and plain.status == "ok" and _is_of_its_kind(variant, plain) else None


def _is_no_slower(row: LatencyRow | None, own: LatencyRow | None) -> bool:
    """Whether a reference takes no longer on the same profile, within what counts as equal."""
    if row is None or own is None or row.p50_s is None or own.p50_s is None:
        return False
    return row.profile == own.profile and row.p50_s <= own.p50_s * EQUAL_WITHIN


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
