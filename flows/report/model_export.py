"""Copies the chosen model of each profile to where a deployment picks it up, with all that is needed to run it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from detection.boxes import LETTERBOX_GREY, Resize
from detection.checkpoint import SPEC_FILE, WEIGHTS_FILE, load_spec
from detection.export import BOXES_NAME, INPUT_NAME, SCORES_NAME
from detection.family import family_of
from detection.file_interface.interface import INTERFACE_FILE, FileInterface, read_interface
from detection.frozen import Digest, Frozen
from flows.grid.nodes import NODES, read_done
from flows.records.files import file_digest
from flows.records.schema import ArtifactRecord, CellsFile, LatencyFile, LatencyRow, Metrics, write_records
from flows.records.store import Store
from flows.report.recommendation import RecommendationFile
from hardware_profiles.runtimes.table import file_parts

CARD = "model.json"
RESIZED: dict[Resize, str] = {
    "letterbox": f"aspect ratio kept, centred, padded with grey {LETTERBOX_GREY}",
    "stretch": "none: stretched to all of the input",
}
"""How a picture comes to the size of the input, in words."""


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
    resize: Resize = "letterbox"
    letterbox: str = RESIZED["letterbox"]

    @classmethod
    def of(cls, size: tuple[int, int], resize: Resize, interface: FileInterface | None) -> ModelInput:
        """What the card says of a file with this interface; without one it is ours."""
        if interface is None:
            return cls(size=size, resize=resize, letterbox=RESIZED[resize])
        sides = "channels, height, width" if interface.layout == "nchw" else "height, width, channels"
        return cls(
            name="the only input",
            size=size,
            layout=f"{interface.dtype} (1, {sides})",
            colour=interface.picture.colour.upper(),
            scaling=cls(size=size).scaling if interface.dtype == "uint8" else f"as `picture` in {INTERFACE_FILE} says",
            resize=resize,
            letterbox=RESIZED[resize],
        )


class ModelOutputs(Frozen):
    """What comes back, N candidate boxes and C classes, before any suppression."""

    boxes: str = f"{BOXES_NAME}: float32 (1, N, 4), xyxy in pixels of the letterboxed input"
    scores: str = f"{SCORES_NAME}: float32 (1, N, C) in [0, 1]"
    then: str = "drop scores below score_threshold, then suppress per class above iou_threshold"

    @classmethod
    def of(cls, interface: FileInterface | None) -> ModelOutputs:
        """What the card says of a file with this interface; without one it is ours."""
        if interface is None:
            return cls()
        says = f"as `decoding` in {INTERFACE_FILE} says, from {', '.join(interface.outputs)}"
        then = cls().then if interface.decoding.select == "nms" else "drop scores below score_threshold; each object comes once"
        return cls(boxes=says, scores=says, then=then)


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
    resize: Resize,
    store: Store,
) -> None:
    """Write `<folder>/<profile>/` for every exported recommendation; thresholds are (score, IoU).

    A file that is not fed and read as ours are has its interface next to it. The float network is there as well, for
    `sixfold.load`, unless the detector is an ONNX file.

    folder is empty; the caller puts it in place, so that what others read appears whole.
    """
    for own in recommended.profiles:
        if own.exported_to is None or own.chosen is None:
            continue
        cell = cells.record(own.chosen.cell)
        place = (own.chosen.cell, own.profile, own.source == "measured")
        row = next(row for row in latency.rows if (row.cell, row.profile, row.is_measured) == place)
        (folder / own.exported_to).mkdir()
        artifact = cell.artifacts[own.artifacts_of]
        interface = read_interface(store.file(artifact.url).parent)
        if interface is not None:
            interface.write(folder / own.exported_to)
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
            input=ModelInput.of(cell.input_size or cells.dataset.input_size, resize, interface),
            outputs=ModelOutputs.of(interface),
            score_threshold=thresholds[0],
            iou_threshold=thresholds[1],
            val=artifact.val,
            test=artifact.test,
            latency=row,
        )
        write_records(folder / own.exported_to / CARD, card)
        _copy_network(artifact, store, folder / own.exported_to)


def _copy(artifact: ArtifactRecord, store: Store, folder: Path) -> tuple[ModelFile, ...]:
    """The files of an artifact under the names model.onnx, or model.xml and model.bin."""
    copied = []
    for source in file_parts(store.file(artifact.url)):
        target = folder / f"model{source.suffix}"
        shutil.copyfile(source, target)
        copied.append(ModelFile(name=target.name, size_bytes=target.stat().st_size, sha256=file_digest(target)))
    return tuple(copied)


def _copy_network(artifact: ArtifactRecord, store: Store, folder: Path) -> None:
    """Spec and weights of the float network that an artifact was made from; nothing where that is a file itself."""
    source = store.file(artifact.url).parent
    if not (source / SPEC_FILE).is_file():  # made in other numbers or another format, from the network of the node before
        parent = read_done(store, source.name).node.parent
        assert parent is not None, "every node but the teacher, which has its network, comes from another"
        source = store.open(NODES, parent)
    if family_of(load_spec(source)).write is None:
        for name in (SPEC_FILE, WEIGHTS_FILE):
            shutil.copyfile(source / name, folder / name)
