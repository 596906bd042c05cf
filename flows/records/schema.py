"""What the stages write and others read: one record per cell, one per (cell, profile). Contracts, versioned by `schema`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from compressors.target import Target
from detection.data.dataset import Prepared
from detection.frozen import Digest, Frozen, InputError

Status = Literal["ok", "failed", "skipped"]
"""Of a cell. `failed`: work that no simpler cell of the sweep needs went wrong. `skipped`: it was not tried, because work that it
shares with a simpler cell, which is `failed`, went wrong."""
Source = Literal["measured", "calibrated", "estimated"]
SpeedVerdict = Literal["faster", "slower", "no difference", "too few rounds", "same file"]
"""Of a measured time beside another one. `faster` and `slower` only where the rounds exclude chance after the correction for
having compared many; `same file`: nothing to test, the ratio is 1."""
FlagKind = Literal["smaller_not_faster", "int8_slower_than_float"]
"""What a compressed network is most often reproached with; `flows.stats.verdicts` says when."""
CONTROL = "none"
"""Name of the cell to which no method was applied."""
REFERENCE_PREFIX = "reference:"
"""Names of references begin with it, and no cell's does."""


class Metrics(Frozen):
    """COCO accuracy of one exported file in its own runtime, all shares in [0, 1]."""

    map_50_95: float
    map_50: float
    map_75: float
    per_class: dict[str, float]
    """mAP 50-95 per class name; a class without ground truth in the split is absent."""
    detections: str
    """Where the per-picture detections lie in the store (COCO result list, JSON)."""


class ArtifactRecord(Frozen):
    """One file (or pair of files) that a runtime loads."""

    url: str
    """Of the file to load; an OpenVINO .xml has its .bin beside it."""
    digest: Digest
    size_bytes: int
    val: Metrics
    test: Metrics


class BudgetRecord(Frozen):
    """What the weights of a cell have seen, over its whole lineage, and what its methods spent besides."""

    train_epochs: int
    train_images: int
    search_images: int
    teacher_forwards: int
    teacher_images: int = 0
    """Pictures that trained a teacher which only distillation asked for."""
    inherited_images: int = 0
    """Pictures that trained the detector whose weights `lightweight` carried over; they come on top of the cell's own."""
    qat_updates: int
    train_s: float


class CellRecord(Frozen):
    """One combination of methods, or a reference beside them: what it became, or why it did not."""

    cell: str
    methods: tuple[str, ...]
    variant: dict[str, dict[str, Any]]
    """Method name -> its configuration; of a reference also its kind -> its setting."""
    seed: int
    status: Status
    error: str | None
    """One line and where the log lies; None when ok."""
    node: Digest
    params: int | None
    macs: int | None
    input_size: tuple[int, int] | None = None
    """(height, width) in pixels that its network sees; None where that was not noted: the data set's."""
    no_effect: tuple[str, ...]
    """Methods of this cell that changed nothing."""
    missed: tuple[Target, ...] = ()
    """What its methods were asked for and did not reach: after others, less may be left to take away. Empty in older records."""
    artifacts: dict[str, ArtifactRecord]
    """Runtime name -> artifact; empty unless ok."""
    budget: BudgetRecord | None


class DatasetRecord(Frozen):
    """The prepared data the sweep ran on."""

    name: str
    digest: Digest
    classes: tuple[str, ...]
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    pictures: dict[str, int]
    """Split -> pictures."""

    @classmethod
    def of(cls, prepared: Prepared) -> DatasetRecord:
        """What the records say of prepared data."""
        return cls(
            name=prepared.name,
            digest=prepared.digest,
            classes=prepared.classes,
            input_size=prepared.input_size,
            pictures={split: about.pictures for split, about in prepared.splits.items()},
        )


class CellsFile(Frozen):
    """`results/cells.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    sweep: str
    dataset: DatasetRecord
    runtimes: tuple[str, ...]
    cells: tuple[CellRecord, ...]
    references: tuple[CellRecord, ...]
    """What the cells must beat; never counted among them, never recommended."""

    def in_numbers(self) -> str:
        """How many cells of how many are ok, and references where there are any, in words."""
        nouns = {"cells": self.cells, "references": self.references}
        return " and ".join(f"{sum(r.status == 'ok' for r in of)} of {len(of)} {noun}" for noun, of in nouns.items() if of)

    def cell(self, name: str) -> CellRecord | None:
        """The record of the named cell, or None."""
        return next((cell for cell in self.cells if cell.cell == name), None)


class LatencyRow(Frozen):
    """One cell on one profile. Measured rows have rounds; estimated ones a point, an interval and nothing else."""

    cell: str
    profile: str
    source: Source
    runtime: str
    """Name and version, for instance "onnxruntime 1.31.1"."""
    artifact_digest: Digest | None
    rounds_s: tuple[float, ...]
    """Median network time of each round (one fresh process each); the only numbers of the row that statistics start from."""
    control_rounds_s: tuple[float, ...]
    """The control's medians in the same rounds."""
    p50_s: float | None
    p90_s: float | None
    speedup: float | None
    """Control time over cell time: above 1 when the cell is faster."""
    speedup_ci95: tuple[float, float] | None
    interval_s: tuple[float, float] | None
    """Range of the rounds where measured, interval of the model where estimated."""
    end_to_end_p50_s: float | None
    """With letterboxing before and selection of detections after."""
    peak_rss_bytes: int | None
    fits: bool | None
    why: str | None
    """Why there is no number, or why it does not fit; None where all is well."""
    environment: Digest | None
    verdict: SpeedVerdict | None = None
    """Against the control; None where nothing was measured, or no control beside it."""
    p_holm: float | None = None
    """That cell and control are equally fast, corrected (Holm) for every file measured on the profile; None where untested."""
    minimal_effect: float | None = None
    """The ratio of times, either way, that these rounds find with a probability of 0.8: 1.02 is 2 %. None where untested."""
    first_s: float | None = None
    """The first inference after loading; median over rounds, as are the next three."""
    load_s: float | None = None
    """Reading and compiling the file."""
    postprocess_p50_s: float | None = None
    """The part of end to end that chooses the final detections."""
    runtime_rss_bytes: int | None = None
    """What the process holds with an empty detector open: the part of peak_rss_bytes that is not the file's doing."""
    repeated_blocks: int | None = None
    """Rounds in which this file was timed again because something else disturbed it."""
    disturbed_blocks: int | None = None
    """Of those, how many were still disturbed the last time; their times count all the same."""
    parameter_bytes: int | None = None
    """Weights as stored in the file."""
    peak_activation_bytes: int | None = None
    """Most that must be held at once between operators."""
    validated_on: str | None = None
    """Which kind of networks the error of a modelled time was found on; None where measured, or fitted on none."""
    flags: tuple[FlagKind, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether the time comes from a clock; calibrated and estimated ones come from a model."""
        return self.source == "measured"


class LatencyFile(Frozen):
    """`results/latency.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    environment: dict[str, Any]
    protocol: dict[str, Any] = Field(default_factory=dict)
    """How the measured rows were timed: rounds, calls, thresholds; empty in files older than this field."""
    rows: tuple[LatencyRow, ...]

    def row(self, cell: str, profile: str) -> LatencyRow | None:
        """The row of one cell on one profile, or None."""
        return next((row for row in self.rows if row.cell == cell and row.profile == profile), None)

    def measured(self, cell: str, profile: str) -> LatencyRow | None:
        """The row of one cell or reference on one profile where it was measured, or None."""
        row = self.row(cell, profile)
        return row if row is not None and row.is_measured else None

    def profiles(self) -> tuple[str, ...]:
        """Names of the profiles, in order of first appearance."""
        return tuple(dict.fromkeys(row.profile for row in self.rows))


def is_reference(name: str) -> bool:
    """Whether this is the name of a reference, and not of a cell."""
    return name.startswith(REFERENCE_PREFIX)


def in_numbers(cells: int, references: int) -> str:
    """How many there are of both, in words; references only where there are any."""
    return f"{cells} cells" + (f" and {references} reference{'s' * (references > 1)}" if references else "")


def artifact_runtime(runtimes: Sequence[str], row: LatencyRow) -> str:
    """Of the sweep's runtimes the one whose files speak for a row: its own, or the first where the sweep made no file for it."""
    name = row.runtime.split()[0] if row.runtime.strip() else ""
    return name if name in runtimes else runtimes[0]


RecordFile = TypeVar("RecordFile", CellsFile, LatencyFile)
Model = TypeVar("Model", bound=Frozen)


def read_records(path: Path, kind: type[RecordFile]) -> RecordFile:
    """The records in a file; InputError says which command makes the file where it is missing or of another schema."""
    return read_schema(path, kind, "sixfold grid" if kind is CellsFile else "sixfold measure")


def read_schema(path: Path, kind: type[Model], maker: str) -> Model:
    """What a file of records holds; InputError names the command that makes it where it is missing or of another schema."""
    if not path.is_file():
        raise InputError(f"{path}: no such file. Run `{maker}` first.")
    try:
        return kind.model_validate_json(path.read_text())
    except ValidationError as error:
        raise InputError(
            f"{path}: not a file of schema 1 ({error.error_count()} problems, first: {error.errors()[0]}). Run `{maker}` again."
        ) from error


def write_records(path: Path, records: Frozen) -> None:
    """Write records as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(records.model_dump_json(by_alias=True, indent=1) + "\n")
    partial.replace(path)
