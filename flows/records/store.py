"""Finished work under the name of its content, and what was measured: written whole or not at all, never overwritten."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from detection.frozen import DamagedError, Digest, Frozen, InputError
from flows.records.files import file_digest, sweep_unfinished, unfinished_folder, write_text
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.round import RoundResult

MANIFEST = "manifest.json"
PARTIAL = "partial"
JOURNAL = "journal.jsonl"
GIVEN = "given"
"""Section of the detectors that users bring, under their digests."""
OBSERVATION_SCHEMA = 2


class StoreError(RuntimeError):
    """The store cannot be written or holds something broken: infrastructure, not input (exit 3)."""


class StoredFile(Frozen):
    """One file of an entry."""

    size_bytes: int
    sha256: Digest


class Manifest(Frozen):
    """What an entry holds; written last."""

    schema_version: int = 1
    section: str
    key: Digest
    files: dict[str, StoredFile]


class Store:
    """A folder of entries, `<section>/<first two>/<key>/`, each with a manifest. Failures are never entries."""

    def __init__(self, root: Path, run: str = "") -> None:
        """`run` tells in the journal which run finished an entry; empty outside a grid."""
        self.root, self.run = root, run
        self._opened: set[tuple[str, str]] = set()

    def has(self, section: str, key: Digest) -> bool:
        """True when the entry is whole; its content is checked when it is opened."""
        return (self.folder(section, key) / MANIFEST).is_file()

    def open(self, section: str, key: Digest) -> Path:
        """The entry's folder after every file was compared with its digest; StoreError where it is missing or differs."""
        folder = self.folder(section, key)
        manifest = self.manifest(section, key)
        for name, expected in manifest.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != expected.size_bytes or file_digest(path) != expected.sha256:
                raise StoreError(f"{path}: differs from its manifest. Run `sixfold grid` again: it replaces what is damaged.")
        self._opened.add((section, key))
        return folder

    def manifest(self, section: str, key: Digest) -> Manifest:
        """What the entry holds; StoreError where there is none, naming the command that makes it."""
        path = self.folder(section, key) / MANIFEST
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise StoreError(f"{path.parent}: no such entry. `sixfold grid` makes it.") from error
        except ValidationError as error:
            raise StoreError(f"{path}: not a manifest. Run `sixfold grid` again: it replaces what is damaged.") from error

    def file(self, url: str) -> Path:
        """The file that a record's URL names; StoreError where the store does not have it, or its entry is damaged."""
        path = self.root / url
        if not path.is_file():
            raise StoreError(f"{path}: not in the store. Run `sixfold grid` again: it makes what is missing.")
        section, key = path.parents[2].name, path.parent.name
        if (section, key) not in self._opened and self.has(section, key):
            self.open(section, key)
        return path

    def quarantine(self, section: str, key: Digest) -> Path:
        """Move a broken entry aside, so that it can be made again; where it went."""
        aside = self.root / "broken" / f"{section}-{key}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        self.folder(section, key).rename(aside)
        return aside

    @contextmanager
    def writing(self, section: str, key: Digest) -> Iterator[Path]:
        """An empty folder to fill; it becomes the entry when the block ends well, and vanishes otherwise."""
        target = self.folder(section, key)
        with explained(self.root), unfinished_folder(self.root / PARTIAL, key[:16]) as partial:
            yield partial
            self._commit(section, key, partial, target)

    def _commit(self, section: str, key: Digest, partial: Path, target: Path) -> None:
        files = {
            str(path.relative_to(partial)): StoredFile(size_bytes=path.stat().st_size, sha256=file_digest(path))
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        manifest = Manifest(section=section, key=key, files=files)
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._note(section, key)
            partial.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise  # somebody else finished the same work first: theirs is as good

    def _note(self, section: str, key: Digest) -> None:
        """One line per piece of finished work, before it is put in place: what was done twice shows here."""
        line = {"section": section, "key": key, "run": self.run, "pid": os.getpid(), "time": round(time.time(), 1)}
        with (self.root / JOURNAL).open("a") as journal:
            journal.write(json.dumps(line) + "\n")

    def times_made(self, section: str) -> Counter[Digest]:
        """How often this store's run has finished each entry of a section; others that use the folder meanwhile do not count."""
        path = self.root / JOURNAL
        of_run = (line for line in path.read_text().splitlines() if self.run in line) if path.is_file() else ()
        return Counter(line["key"] for line in map(json.loads, of_run) if (line["section"], line["run"]) == (section, self.run))

    def folder(self, section: str, key: Digest) -> Path:
        """Where an entry lies or would lie."""
        return self.root / section / key[:2] / key

    def log(self, key: Digest) -> Path:
        """The log of a node's last run; logs are not entries and may be overwritten."""
        path = self.root / "logs" / f"{key}.log"
        with explained(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def scratch(self, key: Digest) -> Path:
        """Where an unfinished training keeps what it needs to go on."""
        return self.root / "unfinished" / key

    @contextmanager
    def one_driver(self, sweep: str, others: str) -> Iterator[None]:
        """Nobody else runs the sweep meanwhile; what killed writers left is removed. StoreError says that `others` may run it."""
        path = self.root / "locks" / f"{sweep}.lock"
        with explained(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(f"{path}: {others} of sweep {sweep!r} is running on this store. Wait for it or end it.") from error
        try:
            sweep_unfinished(self.root / PARTIAL)
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class Observations:
    """Where measurements lie in a store: appended, never overwritten."""

    root: Path

    @property
    def latency(self) -> Path:
        """One file per artifact, profile, environment and protocol, of every measurement."""
        return self.root / "latency"

    @property
    def exports(self) -> Path:
        """The manifests of the folders that were exported for devices."""
        return self.root / "exports"

    @property
    def devices(self) -> Path:
        """What was imported from devices, whole."""
        return self.root / "devices"

    def append(
        self, profile: str, results: Sequence[RoundResult], environment: Mapping[str, Any], protocol: Mapping[str, Any]
    ) -> tuple[Path, ...]:
        """The new files, one per artifact with all its blocks, under (artifact digest, profile, environment, protocol).

        The last two are digests of what was given here: the whole of both stands in the file. Old files stay.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        blocks: dict[str, list[dict[str, Any]]] = {}
        for block in (block for result in results for block in result.blocks):
            blocks.setdefault(block.digest, []).append(block.model_dump())
        written = []
        for digest, rounds in blocks.items():
            content = {
                "schema": OBSERVATION_SCHEMA,
                "artifact_digest": digest,
                "profile": profile,
                "environment_digest": digest_of(environment),
                "environment": environment,
                "protocol": protocol,
                "measured_at": now,
                "rounds": rounds,
            }
            folder = self.latency / digest / profile / digest_of(environment) / digest_of(protocol)
            written.append(write_text(folder / f"{now}-{uuid.uuid4().hex}.json", json.dumps(content, indent=1) + "\n"))
        return tuple(written)


def open_store(url: str, base: Path) -> Store:
    """The store at a folder, relative to base, or at a file:// URL."""
    if "://" in url and not url.startswith("file://"):
        raise InputError(f"store.url: {url!r} is not supported; allowed is a folder, absolute or relative to the params file.")
    return Store((base / url.removeprefix("file://")).resolve())


def read_detections(path: Path) -> list[dict[str, Any]]:
    """COCO results from a file of the store; the command that makes a damaged one again is named."""
    return parse_detections(path.read_bytes(), str(path))


def parse_detections(text: bytes, source: str) -> list[dict[str, Any]]:
    """COCO results from their JSON text; DamagedError names the source and the command that makes it again."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DamagedError(f"{source}: damaged ({error}). Run `sixfold grid` to make it again.") from error
    if not isinstance(found, list):
        raise InputError(f"{source}: a COCO result list is expected, found {type(found).__name__}. Run `sixfold grid` again.")
    return found


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn the operating system's refusal into one sentence about the store."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreError(
                f"{root}: the store cannot be written ({error.strerror}). Set store.url to a folder of yours."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise StoreError(f"{root}: the store needs a folder, and a file is in its way ({error.filename}).") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{root}: the store is full ({error.strerror}). Free space, then run the same command again."
            ) from error
        raise
