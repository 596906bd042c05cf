"""A baseline: the accepted results of a sweep, with the detections that a paired comparison needs."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from detection.frozen import Digest, Frozen, InputError
from flows.records.schema import CellsFile, LatencyFile, Metrics, read_records, write_records

MANIFEST = "baseline.json"
"""Written last: a folder with it is whole."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Manifest(Frozen):
    """`baseline.json`: where the detections of each file named in cells.json lie."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
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
        """The JSON text of stored detections; InputError where it is missing or damaged."""
        digest = self.manifest.detections[url]
        path = _detections_path(self.folder, digest)
        try:
            text = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be read ({error}). {_accept_again(self.folder)}") from error
        if hashlib.sha256(text).hexdigest() != digest:
            raise InputError(f"{path}: its content is not what its name says. {_accept_again(self.folder)}")
        return text


def accept(name: str, cells: CellsFile, latency: LatencyFile, resolve: Callable[[str], Path], folder: Path) -> Path:
    """The folder of the new baseline, `folder/name`; one of that name is replaced. It appears whole or not at all."""
    if not NAME.fullmatch(name):
        raise InputError(f"baseline name {name!r}: letters, digits, _ - and . are allowed, not starting with - or a dot.")
    if not any(cell.status == "ok" for cell in cells.cells):
        raise InputError(f"sweep {cells.sweep!r} has no finished cell, so there is nothing to accept. Run `sixfold grid` first.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".accepting-") as scratch:
        fresh = Path(scratch) / name
        (fresh / "detections").mkdir(parents=True)
        detections = {url: _copy_detections(resolve, url, fresh) for url in _detection_urls(cells)}
        write_records(fresh / "cells.json", cells)
        write_records(fresh / "latency.json", latency)
        write_records(fresh / MANIFEST, Manifest(name=name, detections=detections))
        if (folder / name).exists():
            (folder / name).rename(Path(scratch) / "replaced")
        fresh.rename(folder / name)
    return folder / name


def read_baseline(folder: Path) -> Baseline:
    """The baseline in a folder; InputError where a file of it is missing or of another schema."""
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path}: not a baseline manifest of schema 1 ({error}). {_accept_again(folder)}") from error
    try:
        cells, latency = read_records(folder / "cells.json", CellsFile), read_records(folder / "latency.json", LatencyFile)
    except InputError as error:
        raise InputError(f"baseline {folder.name!r} is damaged ({error}). {_accept_again(folder)}") from error
    return Baseline(folder, manifest, cells, latency)


def baseline_names(folder: Path) -> tuple[str, ...]:
    """Names of the baselines in a folder, sorted."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")))


def read_detections(resolve: Callable[[str], Path], url: str) -> bytes:
    """The JSON text of detections in the store; InputError says which command remakes them."""
    path = resolve(url)
    if not path.is_file():
        raise InputError(f"{path}: the detections of {url} are not in the store. Run `sixfold grid` again, which remakes them.")
    return path.read_bytes()


def parse_detections(text: bytes, url: str) -> list[dict[str, Any]]:
    """A COCO result list."""
    try:
        detections = json.loads(text)
    except ValueError as error:
        raise InputError(f"{url}: not JSON ({error}). Run `sixfold grid` again, which remakes it.") from error
    if not isinstance(detections, list):
        raise InputError(f"{url}: a COCO result list is expected, found {type(detections).__name__}. Run `sixfold grid` again.")
    return detections


def _detection_urls(cells: CellsFile) -> Iterator[str]:
    for cell in cells.cells:
        for artifact in cell.artifacts.values():
            split: Metrics
            for split in (artifact.val, artifact.test):
                yield split.detections


def _copy_detections(resolve: Callable[[str], Path], url: str, folder: Path) -> Digest:
    """The digest of the copied text. Compressed, without a time, so that equal detections are equal files."""
    text = read_detections(resolve, url)
    digest = hashlib.sha256(text).hexdigest()
    path = _detections_path(folder, digest)
    if not path.exists():
        path.write_bytes(gzip.compress(text, mtime=0))
    return digest


def _detections_path(folder: Path, digest: Digest) -> Path:
    return folder / "detections" / f"{digest}.json.gz"


def _accept_again(folder: Path) -> str:
    return f"Accept it again: `sixfold check --accept {folder.name}`, from results you trust."
