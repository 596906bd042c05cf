"""What the stages write and others read: one record per cell, one per (cell, profile). Contracts, versioned by `schema`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from compressors.ranking_check import RankingCheck
from compressors.target import Target
from detection.data.dataset import Prepared
from detection.frozen import Digest, Frozen, InputError, read_json
from flows.records.files import write_text

Status = Literal["ok", "failed", "skipped"]
"""Of a cell. `failed`: work that no simpler cell of the sweep needs went wrong. `skipped`: it was not tried, because work that it
shares with a simpler cell, which is `failed`, went wrong."""
Source = Literal["measured", "calibrated", "estimated"]
SpeedVerdict = Literal["faster", "slower", "not significant", "too few rounds", "same file"]
"""Of a measured time compared with another one. `faster` and `slower` only where the rounds exclude chance after the correction for
having compared many; `same file`: nothing to test, the ratio is 1."""
FlagKind = Literal["smaller_not_faster", "int8_slower_than_float"]
"""What a compressed network is most often reproached with; `flows.stats.verdicts` says when."""
ScoredSplit = Literal["val", "test"]
ComputeType = Literal["fp32", "int8"]
CONTROL = "none"
"""Name of the cell to which no method was applied."""
REFERENCE_PREFIX = "reference:"
"""Names of references begin with it, and no cell's does."""
GIVEN = "reference:given"
"""Name of the detector that the user brought, as it was, where the sweep compresses one that is trained."""
RENAMED: dict[str, str] = {
    "beside": "reference_comparison",
    "disturbed_blocks": "contended_blocks",
    "is_blind": "control_below_threshold",
    "minimal_effect": "minimum_detectable_effect",
    "not_told_apart": "indistinguishable",
    "null_proxies": "random_baseline",
    "patience_s": "contention_wait_s",
}
"""Field of schema 1 -> its name in schema 2; no two kinds of file use one of them for different things."""
VALUES: dict[str, dict[str, str]] = {
    "verdict": {"no difference": "not significant", "ship": "recommended", "keep_control": "keep_uncompressed"},
}
"""Field -> value of schema 1 -> value of schema 2."""
SPACE_OPTIONS = ("levels", "stem_stride", "head_branches", "head_depth", "block", "least_depth")
"""Settings of `nas` in schema 1 that are options of its `space` in schema 2."""


class RecordFile(Frozen):
    """A file that a stage writes and others read. Files of schema 1 are read as if they were of schema 2."""

    schema_version: Literal[2] = Field(default=2, alias="schema", serialization_alias="schema")

    @model_validator(mode="before")
    @classmethod
    def _of_this_schema(cls, given: Any) -> Any:
        return upgraded(given) if isinstance(given, dict) and given.get("schema") == 1 else given


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
    """Of the file to load; an OpenVINO .xml has its .bin next to it."""
    digest: Digest
    size_bytes: int
    val: Metrics
    test: Metrics

    def on(self, split: ScoredSplit) -> Metrics:
        """Its accuracy on a split."""
        return self.val if split == "val" else self.test


class BudgetRecord(Frozen):
    """What the weights of a cell have seen, over its whole lineage, and what its methods spent in addition."""

    train_epochs: int
    train_images: int
    search_images: int
    teacher_forwards: int
    teacher_images: int = 0
    """Pictures that trained a teacher which only distillation asked for."""
    inherited_images: int = 0
    """In records of earlier versions: pictures that came on top of `train_images`, before `lightweight` carried weights over."""
    qat_updates: int
    train_s: float


class CellRecord(Frozen):
    """One combination of methods, or a reference: what it became, or why it was not made."""

    cell: str
    methods: tuple[str, ...]
    variant: dict[str, dict[str, Any]]
    """Method name -> its configuration; of a reference also its kind -> its setting."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Method name -> its variant in a word; empty in older records."""
    seed: int
    status: Status
    error: str | None
    """One line and where the log lies; None when ok."""
    node: Digest
    params: int | None
    macs: int | None
    input_size: tuple[int, int] | None = None
    """(height, width) in pixels that its network sees; None where that was not noted: the data set's."""
    from_scratch: bool = False
    """Whether its weights take nothing over from the detector that the user brought: its training began with random ones."""
    no_effect: tuple[str, ...]
    """Methods of this cell that changed nothing."""
    missed: tuple[Target, ...] = ()
    """What its methods were asked for and did not reach: after others, less may be left to take away. Empty in older records."""
    ranking: RankingCheck | None = None
    """Of a search that checked itself: whether its supernet ranks networks as their trainings do."""
    artifacts: dict[str, ArtifactRecord]
    """Runtime name -> artifact; empty unless ok."""
    budget: BudgetRecord | None

    @property
    def computes_in(self) -> ComputeType:
        """What the files multiply in. float16 is a width of stored weights: they are widened when the file is loaded."""
        quantization = self.variant.get("quantization")
        return "fp32" if quantization is None or quantization.get("precision", "int8") != "int8" else "int8"


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


class CellsFile(RecordFile):
    """`results/cells.json`."""

    sweep: str
    dataset: DatasetRecord
    runtimes: tuple[str, ...]
    cells: tuple[CellRecord, ...]
    references: tuple[CellRecord, ...]
    """What the cells must beat; never counted among them, never recommended."""
    not_applicable: dict[str, str] = Field(default_factory=dict)
    """Method that the detector's family cannot do -> why. It makes no cells."""

    def in_numbers(self) -> str:
        """How many cells of how many are ok, and references where there are any, in words."""
        nouns = {"cells": self.cells, "references": self.references}
        return " and ".join(f"{sum(r.status == 'ok' for r in of)} of {len(of)} {noun}" for noun, of in nouns.items() if of)

    def baseline(self, runtime: str) -> CellRecord | None:
        """What drops are told against: the control, or the detector as it was brought where that has the better val mAP."""
        control = self.cell(CONTROL)
        given = next((own for own in self.references if own.cell == GIVEN and runtime in own.artifacts), None)
        if control is None or runtime not in control.artifacts or given is None:
            return control
        return max(control, given, key=lambda own: own.artifacts[runtime].val.map_50_95)  # the control among equals

    def cell(self, name: str) -> CellRecord | None:
        """The record of the named cell, or None."""
        return next((cell for cell in self.cells if cell.cell == name), None)

    def record(self, name: str) -> CellRecord:
        """The record of the named cell or reference, which is there."""
        return next(own for own in (*self.cells, *self.references) if own.cell == name)


class LatencyRow(Frozen):
    """One cell on one profile. Measured rows have rounds; estimated ones a point, an interval and nothing else."""

    cell: str
    profile: str
    source: Source
    runtime: str
    """Name and version, for instance "onnxruntime 1.31.1"."""
    artifact_digest: Digest | None = None
    rounds_s: tuple[float, ...] = ()
    """Median network time of each round (one fresh process each); the only numbers of the row that statistics start from."""
    control_rounds_s: tuple[float, ...] = ()
    """The control's medians in the same rounds."""
    p50_s: float | None = None
    p90_s: float | None = None
    speedup: float | None = None
    """Control time over cell time: above 1 when the cell is faster."""
    speedup_ci95: tuple[float, float] | None = None
    interval_s: tuple[float, float] | None = None
    """Range of the rounds where measured, interval of the model where estimated."""
    end_to_end_p50_s: float | None = None
    """With letterboxing before and selection of detections after."""
    peak_rss_bytes: int | None = None
    fits: bool | None = None
    why: str | None = None
    """Why there is no number, or why it does not fit; None where all is well."""
    environment: Digest | None = None
    verdict: SpeedVerdict | None = None
    """Against the control; None where nothing was measured, or no control in the same rounds."""
    p_holm: float | None = None
    """That cell and control are equally fast, corrected (Holm) for every file measured on the profile; None where untested."""
    minimum_detectable_effect: float | None = None
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
    """Rounds in which this file was timed again because of interference."""
    contended_blocks: int | None = None
    """Of those, how many were contended the last time as well; their times count all the same."""
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


class LatencyFile(RecordFile):
    """`results/latency.json`."""

    environment: dict[str, Any]
    protocol: dict[str, Any] = Field(default_factory=dict)
    """How the measured rows were timed: rounds, calls, thresholds; empty in files older than this field."""
    rows: tuple[LatencyRow, ...]

    def row(self, cell: str, profile: str) -> LatencyRow | None:
        """The row of one cell on one profile, or None."""
        return next((row for row in self.rows if row.cell == cell and row.profile == profile), None)

    def measured(self, cell: str, profile: str) -> LatencyRow | None:
        """The row of one cell or reference on one profile where it was measured, or None; estimates do not count."""
        return next((row for row in self.rows if (row.cell, row.profile, row.is_measured) == (cell, profile, True)), None)

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


Records = TypeVar("Records", CellsFile, LatencyFile)
Model = TypeVar("Model", bound=Frozen)


def read_records(path: Path, kind: type[Records]) -> Records:
    """The records in a file; InputError says which command makes the file where it is missing or of another schema."""
    return read_schema(path, kind, "sixfold grid" if kind is CellsFile else "sixfold measure")


def read_schema(path: Path, kind: type[Model], maker: str) -> Model:
    """What a file of records holds; the command that makes it is named where it is missing, damaged or of another schema."""
    if not path.is_file():
        raise InputError(f"{path}: no such file. Run `{maker}` first.")
    return read_json(path, kind, f"Run `{maker}` again.")


def write_records(path: Path, records: Frozen) -> None:
    """Write records as JSON, whole or not at all."""
    write_text(path, records.model_dump_json(by_alias=True, indent=1) + "\n")


def upgraded(tree: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of schema 1 in the words of schema 2; the one given stays as it was."""
    found = _renamed(tree)
    assert isinstance(found, dict)
    for cell in (*found.get("cells", ()), *found.get("references", ())):
        if isinstance(cell, dict) and isinstance(search := cell.get("variant", {}).get("nas"), dict):
            cell["variant"]["nas"] = _with_space(search)
    return found | {"schema": 2}


def _renamed(node: Any) -> Any:
    """The same with other names of fields and values, all the way down."""
    if isinstance(node, list | tuple):
        return [_renamed(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {RENAMED.get(key, key): VALUES.get(key, {}).get(value, value) if isinstance(value, str) else _renamed(value)
            for key, value in node.items()}  # fmt: skip


def _with_space(search: dict[str, Any]) -> dict[str, Any]:
    """Settings of a search with the options of its space in a mapping of their own; what was left open stays out."""
    options = {name: search[name] for name in SPACE_OPTIONS if search.get(name) is not None}
    if options.get("least_depth") == 1:  # the default, which was written out
        del options["least_depth"]
    return {name: value for name, value in search.items() if name not in SPACE_OPTIONS} | {"space": dict(sorted(options.items()))}
