"""Networks and files of every chain, each made once: what is in the run's store is not made again."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from compressors.planning.graph import Foundation
from compressors.planning.versions import VERSIONS
from compressors.quantization.method import Quantization, rows_shown
from detection import checkpoint, export
from detection.checkpoint import Detector
from detection.costs import count_macs, count_params
from detection.data.dataset import Images, Prepared, Split, load_prepared, load_split
from detection.evaluation import Accuracy, accuracy, as_input, detect
from detection.frozen import Digest, Frozen, InputError, read_json
from detection.model_file import reader_of
from detection.training import fit
from flows.grid.nodes import NODES, artifact_files, model_file, read_done
from flows.grid.scoring import SCORED, artifact_digest
from flows.grid.tasks import usable
from flows.progress import SHORT_S, progress
from flows.records.schema import CONTROL, ArtifactRecord, CellRecord, Metrics
from flows.sweep.context import lay_foundation
from hardware_profiles.runtimes.table import open_session, runtime_version
from studies.finished_run import FinishedRun
from studies.peers.chains import CALIBRATION_PICTURES, FloatFile, Network, OrtPtq, Packing, Pruned, Tucker, Untouched, tools
from studies.peers.quantizers import Written, by_nncf, by_onnxruntime
from studies.peers.records import MadeNetwork, Peer, Spent
from studies.peers.torch_pruning import Reduced, prune
from studies.peers.tucker import factor

NETWORKS, FILES = "peer-networks", "peer-files"
"""Sections of the store."""
NETWORK_FILE, FILE_FILE = "network.json", "file.json"
VERSION = 1
"""Raise when this study makes something else."""


class MadeFile(Frozen):
    """What lies next to a file."""

    size_bytes: int
    digest: Digest
    accuracy: dict[Split, Accuracy]
    calibration_images: int
    validation_images: int
    wall_s: float


@dataclass(frozen=True)
class Maker:
    """A finished run, whose checkpoint, recipe and pictures all chains share."""

    run: FinishedRun

    @cached_property
    def base(self) -> Foundation:
        """What all nodes of the run share."""
        return lay_foundation(self.run.plan, self.run.prepared)

    @cached_property
    def control(self) -> CellRecord:
        """The cell without a method; InputError where it was not made."""
        found = self.run.cells.cell(CONTROL)
        if found is None or found.status != "ok":
            raise InputError(f"{self.run.folder}: the control was not made, so there is nothing to begin with. Run `sixfold grid`.")
        return found

    @cached_property
    def start(self) -> Digest:
        """The node from which the control recovered: the checkpoint that the chains begin with."""
        parent = read_done(self.run.store, self.control.node).node.parent
        assert parent is not None, "the control recovers from the root"
        return parent

    @cached_property
    def data(self) -> Prepared:
        """What the prepared folder says of itself."""
        return load_prepared(self.run.prepared)

    @cached_property
    def checkpoint(self) -> Detector:
        """Its weights."""
        return checkpoint.load(self.run.store.open(NODES, self.start))

    def images(self, split: Split) -> Images:
        """A split at the network's size."""
        return load_split(self.run.prepared, split).at(self.checkpoint.spec.input_size)

    def network_key(self, network: Network) -> Digest:
        """The name of a network: all that decides it."""
        if isinstance(network, Untouched):
            return self.control.node if network.recovered else self.start
        return _digest({
            "version": VERSION, "start": self.start, "network": network.model_dump(mode="json"), "seed": self.base.seed,
            "recipe": self.base.recovery.model_dump(mode="json"), "train": self.data.splits["train"].digest,
            "training": VERSIONS["training"], "tools": {own.name: own.version for own in tools()}, "threads": self.base.threads,
        })  # fmt: skip

    def file_key(self, network: Network, packing: Packing) -> Digest:
        """The name of a file and its scores."""
        return _digest({
            "version": VERSION, "network": self.network_key(network), "packing": packing.model_dump(mode="json"),
            "runtime": runtime_version(packing.runtime), "data": {split: own.digest for split, own in self.data.splits.items()},
            "tools": {own.name: own.version for own in tools()}, "pictures": CALIBRATION_PICTURES, "seed": self.base.seed,
        })  # fmt: skip

    def is_made(self, network: Network, packing: Packing) -> bool:
        """Whether the file is in the store, scored."""
        return self.run.store.has(FILES, self.file_key(network, packing))

    def folder(self, network: Network) -> Path:
        """Of a made network: its weights and its float file."""
        return self.run.store.open(NODES if isinstance(network, Untouched) else NETWORKS, self.network_key(network))

    def make_network(self, network: Network) -> MadeNetwork:
        """The network, out of the store where it is there."""
        key, store = self.network_key(network), self.run.store
        if isinstance(network, Untouched):
            done = read_done(store, key)
            spent = Spent()
            if network.recovered and done.training is not None:
                spent = Spent(train_images=done.training.images, wall_s=done.made_s)
            return MadeNetwork(network=network, params=done.params, macs=done.macs, details={}, spent=spent)
        if not usable(store, NETWORKS, key, repair=True):
            torch.set_num_threads(self.base.threads)
            started_s = time.perf_counter()
            with store.writing(NETWORKS, key) as target:
                reduced = self._reduced(network)
                detector, trained_images = self._recovered(network, key, reduced.detector)
                checkpoint.save(detector, target)
                export.export_onnx(detector, target / "model.onnx")
                export.write_interface(detector.spec, target)
                made = MadeNetwork(
                    network=network,
                    params=count_params(detector.spec),
                    macs=count_macs(detector.spec),
                    details=reduced.details,
                    spent=Spent(train_images=trained_images, search_images=reduced.images, wall_s=time.perf_counter() - started_s),
                )
                (target / NETWORK_FILE).write_text(made.model_dump_json(indent=1) + "\n")
        return read_json(store.folder(NETWORKS, key) / NETWORK_FILE, MadeNetwork, "Run `python -m studies.peers make` again.")

    def make_file(self, network: Network, packing: Packing) -> None:
        """The file and its scores, into the store; an error of the tool passes."""
        key, source = self.file_key(network, packing), self.folder(network)
        started_s = time.perf_counter()
        with self.run.store.writing(FILES, key) as target:
            export.write_interface(checkpoint.load_spec(source), target)
            written = self._written(packing, model_file(source), target)
            took_s = time.perf_counter() - started_s  # scoring is not part of what the tool needs
            accuracies = self._scored(packing.runtime, target)
            digest, size_bytes = artifact_digest(target)
            made = MadeFile(
                size_bytes=size_bytes,
                digest=digest,
                accuracy=accuracies,
                calibration_images=written.calibration_images,
                validation_images=written.validation_images,
                wall_s=took_s,
            )
            (target / FILE_FILE).write_text(made.model_dump_json(indent=1) + "\n")

    def read_peer(self, network: Network, packing: Packing) -> Peer:
        """The record of a made file."""
        key, store = self.file_key(network, packing), self.run.store
        folder, found = store.folder(FILES, key), self.make_network(network)
        made = read_json(folder / FILE_FILE, MadeFile, "Run `python -m studies.peers make` again.")

        def metrics(split: Split) -> Metrics:
            detections = (folder / f"{split}.json").relative_to(store.root).as_posix()
            return Metrics(**made.accuracy[split].model_dump(), detections=detections)

        return Peer(
            network=network,
            packing=packing,
            key=key,
            params=found.params,
            macs=found.macs,
            details=found.details,
            spent=found.spent.plus(
                Spent(search_images=made.validation_images, calibration_images=made.calibration_images, wall_s=made.wall_s)
            ),
            artifact=ArtifactRecord(
                url=model_file(folder).relative_to(store.root).as_posix(),
                digest=made.digest,
                size_bytes=made.size_bytes,
                val=metrics("val"),
                test=metrics("test"),
            ),
        )

    def failed_peer(self, network: Network, packing: Packing, error: str) -> Peer:
        """The record of a file that was not made."""
        return Peer(network=network, packing=packing, key=self.file_key(network, packing), error=error)

    def _reduced(self, network: Pruned | Tucker) -> Reduced:
        if isinstance(network, Pruned):
            return prune(self.checkpoint, network, self.images("train"), self.base.seed)
        return factor(self.checkpoint, network)

    def _recovered(self, network: Network, key: Digest, detector: Detector) -> tuple[Detector, int]:
        recipe = self.base.recovery
        with progress(f"train {network.label()}", recipe.epochs, "epochs", first_after_s=SHORT_S) as work:
            trained, record = fit(
                detector,
                self.images("train"),
                recipe,
                seed=self.base.seed,
                device=torch.device(self.base.device),
                resume=self.run.store.scratch(key),
                on_epoch=lambda epoch, _loss: work.advance(epoch - work.done),
            )
        return trained, record.images

    def _written(self, packing: Packing, float_file: Path, target: Path) -> Written:
        if isinstance(packing, FloatFile):
            for part in artifact_files(float_file.parent):
                (target / part.name).write_bytes(part.read_bytes())
            return Written(target / float_file.name, 0)
        train = self.images("train")
        rows = rows_shown(Quantization(pictures=CALIBRATION_PICTURES), len(train), self.base.seed)
        pictures = [as_input(train.pixels[row]) for row in rows]
        if isinstance(packing, OrtPtq):
            return by_onnxruntime(float_file, packing, pictures, target)
        return by_nncf(float_file, packing, pictures, self.images("val"), target)

    def _scored(self, runtime: str, target: Path) -> dict[Split, Accuracy]:
        model = model_file(target)
        session, reader, found = open_session(runtime, model, 1), reader_of(model), dict[Split, Accuracy]()
        for split in SCORED:
            images = self.images(split)
            results = detect(reader.infer(session), images, reader.select)
            found[split] = accuracy(images.ground_truth, results)
            (target / f"{split}.json").write_text(json.dumps(results, separators=(",", ":")))
        return found


def _digest(identity: dict[str, Any]) -> Digest:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
