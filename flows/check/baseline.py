"""A baseline: the accepted results of a sweep, with the detections that a paired comparison needs."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from detection.frozen import DamagedError, Digest, InputError, read_json
from flows.records.files import whole_folder
from flows.records.schema import CellsFile, LatencyFile, RecordFile, read_records, write_records
from flows.records.store import Store

MANIFEST = "baseline.json"
"""Written last: a folder with it is whole."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Manifest(RecordFile):
    """`baseline.json`: where the detections of each file named in cells.json lie."""

    name: str
    detections: dict[str, Digest]
    """Store url -> sha256 of the JSON, which lies in `detections/<sha256>.json.gz`."""


@dataclass(frozen=True)
class Baseline:
    """Accepted results, read back."""

    folder: Path
    manifest: Manifest
    cells: CellsFile
    latency: LatencyFile

    def detections(self, url: str) -> bytes:
        """The JSON text of stored detections; DamagedError where it is missing or damaged."""
        digest = self.manifest.detections[url]
        path = _detections_path(self.folder, digest)
        try:
            text = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise DamagedError(f"{path}: cannot be read ({error}). {_accept_again(self.folder)}") from error
        if hashlib.sha256(text).hexdigest() != digest:
            raise DamagedError(f"{path}: its content is not what its name says. {_accept_again(self.folder)}")
        return text


def accept(name: str, cells: CellsFile, latency: LatencyFile, store: Store, folder: Path) -> Path:
    """The folder of the new baseline, `folder/name`; one of that name is replaced. It appears whole or not at all."""
    if not NAME.fullmatch(name):
        raise InputError(f"baseline name {name!r}: letters, digits, _ - and . are allowed, not starting with - or a dot.")
    if not any(cell.status == "ok" for cell in cells.cells):
        raise InputError(f"sweep {cells.sweep!r} has no finished cell, so there is nothing to accept. Run `sixfold grid` first.")
    with whole_folder(folder / name) as fresh:
        (fresh / "detections").mkdir()
        artifacts = [artifact for cell in cells.cells for artifact in cell.artifacts.values()]
        urls = [split.detections for artifact in artifacts for split in (artifact.val, artifact.test)]
        detections = {url: _copy_detections(store, url, fresh) for url in urls}
        write_records(fresh / "cells.json", cells)
        write_records(fresh / "latency.json", latency)
        write_records(fresh / MANIFEST, Manifest(name=name, detections=detections))
    return folder / name


def read_baseline(folder: Path) -> Baseline:
    """The baseline in a folder; InputError where a file of it is missing or of another schema, DamagedError where it is cut off."""
    manifest = read_json(folder / MANIFEST, Manifest, _accept_again(folder))
    try:
        cells, latency = read_records(folder / "cells.json", CellsFile), read_records(folder / "latency.json", LatencyFile)
    except (InputError, DamagedError) as error:
        raise type(error)(f"baseline {folder.name!r} cannot be read ({error}). {_accept_again(folder)}") from error
    return Baseline(folder, manifest, cells, latency)


def baseline_names(folder: Path) -> tuple[str, ...]:
    """Names of the baselines in a folder, sorted."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")))


def _copy_detections(store: Store, url: str, folder: Path) -> Digest:
    """The digest of the copied text. Compressed, without a time, so that equal detections are equal files."""
    text = store.file(url).read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    path = _detections_path(folder, digest)
    if not path.exists():
        path.write_bytes(gzip.compress(text, mtime=0))
    return digest


def _detections_path(folder: Path, digest: Digest) -> Path:
    return folder / "detections" / f"{digest}.json.gz"


def _accept_again(folder: Path) -> str:
    return f"Accept it again: `sixfold check --accept {folder.name}`, from results you trust."
