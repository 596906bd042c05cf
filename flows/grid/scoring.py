"""Accuracy of a node's artifact in its own runtime, stored under what decides it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from detection.data.dataset import Prepared, Split, load_prepared, load_split
from detection.evaluation import IOU_THRESHOLD, MOST_DETECTIONS, SCORE_THRESHOLD, Accuracy, accuracy, detect
from detection.frozen import Digest, Frozen, read_json
from detection.model_file import reader_of
from flows.grid.nodes import NODES, artifact_files, model_file
from flows.progress import SHORT_S, Work, progress
from flows.records.files import file_digest
from flows.records.schema import ArtifactRecord, Metrics
from flows.records.store import Store
from hardware_profiles.runtimes.table import Array, Pixels, Session, open_session, runtime_version

SCORES = "scores"
SCORE_FILE = "score.json"
SCORED: tuple[Split, ...] = ("val", "test")
PROTOCOL = 1
"""Raise when detection or scoring changes what it gives."""


class Score(Frozen):
    """What one artifact reached in one runtime."""

    runtime: str
    artifact: Digest
    size_bytes: int
    accuracy: dict[Split, Accuracy]


def score_key(node_key: Digest, runtime: str, data: Prepared) -> Digest:
    """The name of a score: artifact (by the node that made it), runtime and its version, data, thresholds."""
    identity = {
        "node": node_key,
        "runtime": [runtime, runtime_version(runtime)],
        "splits": {split: data.splits[split].digest for split in SCORED},
        "protocol": [PROTOCOL, SCORE_THRESHOLD, IOU_THRESHOLD, MOST_DETECTIONS],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def score(node_key: Digest, runtime: str, prepared: Path, store: Store) -> Score:
    """Run the artifact over val and test, one picture at a time, and store metrics and detections."""
    folder = store.open(NODES, node_key)
    session, reader = open_session(runtime, model_file(folder), 1), reader_of(model_file(folder))
    found: dict[Split, Accuracy] = {}
    key = score_key(node_key, runtime, load_prepared(prepared))
    if store.has(SCORES, key):  # of a file that was made again since, perhaps with other bytes
        shutil.rmtree(store.quarantine(SCORES, key))
    with store.writing(SCORES, key) as target:
        for split in SCORED:
            images = load_split(prepared, split).at(session.input_size)
            with progress(f"score in {runtime}, {split}", len(images), "pictures", first_after_s=SHORT_S) as work:
                results = detect(reader.infer(_counted(session, work)), images, reader.select)
            found[split] = accuracy(images.ground_truth, results)
            (target / f"{split}.json").write_text(json.dumps(results, separators=(",", ":")))
        digest, size_bytes = artifact_digest(folder)
        result = Score(runtime=runtime, artifact=digest, size_bytes=size_bytes, accuracy=found)
        (target / SCORE_FILE).write_text(result.model_dump_json(indent=1) + "\n")
    return result


def _counted(session: Session, work: Work) -> Callable[[Pixels], tuple[Array, ...]]:
    """The session, which tells of every picture."""

    def call(pixels: Pixels) -> tuple[Array, ...]:
        found = session(pixels)
        work.advance()
        return found

    return call


def read_artifact(node_key: Digest, runtime: str, data: Prepared, store: Store) -> ArtifactRecord:
    """The record of a scored artifact; URLs are relative to the store."""
    folder = store.folder(SCORES, score_key(node_key, runtime, data))
    result = read_json(folder / SCORE_FILE, Score, "Run `sixfold grid` again: it replaces what is damaged.")

    def metrics(split: Split) -> Metrics:
        detections = (folder / f"{split}.json").relative_to(store.root).as_posix()
        return Metrics(**result.accuracy[split].model_dump(), detections=detections)

    return ArtifactRecord(
        url=model_file(store.folder(NODES, node_key)).relative_to(store.root).as_posix(),
        digest=result.artifact,
        size_bytes=result.size_bytes,
        val=metrics("val"),
        test=metrics("test"),
    )


def artifact_digest(folder: Path) -> tuple[Digest, int]:
    """sha256 over the files of a node's artifact, and their bytes together."""
    files = artifact_files(folder)
    return file_digest(*files), sum(path.stat().st_size for path in files)
