"""Copies the chosen model of each profile to where a deployment picks it up, with all that is needed to run it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from detection.boxes import LETTERBOX_GREY
from detection.export import BOXES_NAME, INPUT_NAME, SCORES_NAME
from detection.frozen import Digest, Frozen, InputError
from flows.records.files import file_digest
from flows.records.schema import ArtifactRecord, CellsFile, LatencyFile, LatencyRow, Metrics
from flows.records.store import Store
from flows.report.recommendation import RecommendationFile
from hardware_profiles.runtimes.table import file_parts


class ModelFile(Frozen):
    """One copied file."""

    name: str
    size_bytes: int
    sha256: Digest


class ModelInput(Frozen):
    """How to feed the model."""

    name: str = INPUT_NAME
    size: tuple[int, int]
    """(height, width) in pixels."""
    layout: str = "uint8 (1, height, width, 3)"
    colour: str = "RGB"
    scaling: str = "none: 0 to 255 as stored"
    letterbox: str = f"aspect ratio kept, centred, padded with grey {LETTERBOX_GREY}"


class ModelOutputs(Frozen):
    """What comes back, N candidate boxes and C classes, before any suppression."""

    boxes: str = f"{BOXES_NAME}: float32 (1, N, 4), xyxy in pixels of the letterboxed input"
    scores: str = f"{SCORES_NAME}: float32 (1, N, C) in [0, 1]"
    then: str = "drop scores below score_threshold, then suppress per class above iou_threshold"


class ModelCard(Frozen):
    """`models/best/<profile>/model.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    profile: str
    runtime: str
    """The one it was measured with, or the one its estimate is for."""
    cell: str
    methods: tuple[str, ...]
    variant: dict[str, dict[str, Any]]
    seed: int
    node: Digest
    artifact_digest: Digest
    files: tuple[ModelFile, ...]
    """The first is the one to load."""
    classes: tuple[str, ...]
    input: ModelInput
    outputs: ModelOutputs
    score_threshold: float
    iou_threshold: float
    val: Metrics
    test: Metrics
    latency: LatencyRow


def export_best(
    cells: CellsFile,
    latency: LatencyFile,
    recommended: RecommendationFile,
    folder: Path,
    *,
    thresholds: tuple[float, float],
    store: Store,
) -> None:
    """Write `<folder>/<profile>/` for every exported recommendation; thresholds are (score, IoU).

    folder is empty; the caller puts it in place, so that what others read appears whole.
    """
    for own in recommended.profiles:
        if own.exported_to is None or own.chosen is None:
            continue
        cell = cells.cell(own.chosen.cell)
        place = (own.chosen.cell, own.profile, own.source == "measured")
        row = next(row for row in latency.rows if (row.cell, row.profile, row.is_measured) == place)
        assert cell is not None, f"{own.chosen.cell} came from these records"
        (folder / own.exported_to).mkdir()
        artifact = cell.artifacts[own.artifacts_of]
        card = ModelCard(
            profile=own.profile,
            runtime=own.runtime,
            cell=cell.cell,
            methods=cell.methods,
            variant=cell.variant,
            seed=cell.seed,
            node=cell.node,
            artifact_digest=artifact.digest,
            files=_copy(artifact, store, folder / own.exported_to),
            classes=cells.dataset.classes,
            input=ModelInput(size=cell.input_size or cells.dataset.input_size),
            outputs=ModelOutputs(),
            score_threshold=thresholds[0],
            iou_threshold=thresholds[1],
            val=artifact.val,
            test=artifact.test,
            latency=row,
        )
        (folder / own.exported_to / "model.json").write_text(card.model_dump_json(by_alias=True, indent=1) + "\n")


def _copy(artifact: ArtifactRecord, store: Store, folder: Path) -> tuple[ModelFile, ...]:
    """The files of an artifact under the names model.onnx, or model.xml and model.bin."""
    copied = []
    for source in file_parts(store.file(artifact.url)):
        if not source.is_file():
            raise InputError(f"{source}: a model named in cells.json is not in the store. Run `sixfold grid` to make it again.")
        target = folder / f"model{source.suffix}"
        shutil.copyfile(source, target)
        copied.append(ModelFile(name=target.name, size_bytes=target.stat().st_size, sha256=file_digest(target)))
    return tuple(copied)
