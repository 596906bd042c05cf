"""What the files of ours took from the checkpoint on, counted as the peers' are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from compressors.quantization import Quantization
from detection.data.dataset import load_prepared
from detection.frozen import Digest
from flows.grid.nodes import Done, read_done
from flows.records.schema import GIVEN, CellRecord
from studies.finished_run import FinishedRun
from studies.peers.making import Maker
from studies.peers.records import Spent

CALIBRATION_PASSES = 2
"""Of a calibration of ours: for the ends of histograms, then for their bins."""


def own_spent(run: FinishedRun, records: Iterable[CellRecord]) -> dict[str, dict[str, Spent]]:
    """Cell -> runtime -> what its file took: trainings, searches, teachers, calibration, and the seconds of all its nodes."""
    start = Maker(run).start
    return {
        record.cell: {
            runtime: Spent() if record.cell == GIVEN else _spent(run, record, PurePosixPath(artifact.url).parent.name, start)
            for runtime, artifact in record.artifacts.items()
        }
        for record in records
    }


def _spent(run: FinishedRun, record: CellRecord, node: Digest, start: Digest) -> Spent:
    assert record.budget is not None, "an ok record has one"
    lineage = tuple(_lineage(run, node, start))
    trained = sum(own.training.images for own in lineage if own.training is not None)
    search = sum(own.search_images + own.teacher_forwards for own in lineage) + record.budget.teacher_images
    validated = calibrated = 0
    data = load_prepared(run.prepared)
    for own in lineage:
        for step in own.node.steps:
            if isinstance(step, Quantization) and own.quantization is not None and own.quantization.ranges is not None:
                calibrated += CALIBRATION_PASSES * min(step.pictures, data.splits["train"].pictures)
                validated += len(own.quantization.val_map) * data.splits["val"].pictures
    return Spent(
        train_images=trained,
        search_images=search + validated,
        calibration_images=calibrated,
        wall_s=sum(own.made_s for own in lineage),
    )


def _lineage(run: FinishedRun, node: Digest, until: Digest) -> Iterator[Done]:
    """The node and what it was made from, one after the other, to the one before `until`."""
    key: Digest | None = node
    while key is not None and key != until:
        done = read_done(run.store, key)
        yield done
        key = done.node.parent
