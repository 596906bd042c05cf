"""What is timed in this study: files of a finished run, its pictures, and rounds in fresh pinned processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detection.data.dataset import load_split
from detection.frozen import Digest, InputError
from flows.measure.host import PICTURES, pictures_as_taken
from flows.measure.lock import alone
from flows.records.schema import CellsFile, read_records
from flows.records.store import Store, open_store
from flows.sweep import workspace
from flows.sweep.measure_settings import Measure
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.round import File, Job, Protocol, RoundError, RoundResult, choose_cores, in_fresh_process
from studies.measurement.ledger import Say

PICTURE_COUNT = 8
ROUND_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Model:
    """One exported file of a cell."""

    cell: str
    runtime: str
    path: Path
    digest: Digest


@dataclass(frozen=True)
class Run:
    """A finished sweep: its folder, its records and its store."""

    folder: Path
    cells: CellsFile
    store: Store

    def model(self, cell: str, runtime: str) -> Model:
        """The cell's file for a runtime; InputError where the run has none."""
        record = self.cells.cell(cell)
        if record is None:
            raise InputError(f"{self.folder}: no cell {cell!r}; have {', '.join(own.cell for own in self.cells.cells)}")
        if runtime not in record.artifacts:
            raise InputError(
                f"{self.folder}: cell {cell!r} has no file for {runtime!r}; have {', '.join(record.artifacts) or 'none'}"
            )
        artifact = record.artifacts[runtime]
        return Model(cell, runtime, self.store.file(artifact.url), artifact.digest)


def open_run(folder: Path, store: Path | None = None) -> Run:
    """The sweep whose stages ran in a folder; its store is the one its params name, unless given."""
    if not (folder / workspace.CELLS).is_file():
        raise InputError(
            f"{folder}: no {workspace.CELLS} there. Run `make repro PLAN=plans/bccd.yaml`, or name a finished run with --run."
        )
    if store is not None:
        return Run(folder, read_records(folder / workspace.CELLS, CellsFile), Store(store.resolve()))
    from flows.sweep.params import load_plan  # it knows the settings of every stage

    plan = load_plan(folder / "params.yaml")
    return Run(folder, read_records(folder / workspace.CELLS, CellsFile), open_store(plan.params.store.url, plan.base))


def copies(model: Model, names: Sequence[str], folder: Path) -> dict[str, File]:
    """Name -> file: all with the model's bytes, each under a digest of its own, as if they were different networks."""
    files = {}
    for name in names:
        path = folder / f"{name}{model.path.suffix}"
        for own in (model.path, model.path.with_suffix(".bin")):
            if own.is_file():
                shutil.copyfile(own, path.with_suffix(own.suffix))
        files[name] = File(digest=digest_of({"copy": name}), path=str(path))
    return files


class Bench:
    """A folder with the run's pictures, in which rounds are timed one after another."""

    def __init__(self, folder: Path, protocol: Protocol, seed: int) -> None:
        self.folder = folder
        self.protocol = protocol
        self.seed = seed
        self._yardstick_s: float | None = None

    def round(
        self,
        runtime: str,
        files: Sequence[File],
        index: int,
        entry: str = "flows.measure.worker",
        settings: Mapping[str, float] | None = None,
    ) -> RoundResult:
        """What one fresh process on one core found; RoundError where a file could not be timed."""
        job = Job(
            runtime=runtime,
            threads=1,
            cores=choose_cores(1),
            files=tuple(files),
            order_seed=self.seed * 10_000 + index,
            protocol=self.protocol,
            pictures=str(self.folder / PICTURES),
            settings=Measure().settings() | dict(settings or {}),
            result=str(self.folder / "result.json"),
            yardstick_s=self._yardstick_s,
        )
        result = in_fresh_process(job, entry, self.folder, ROUND_TIMEOUT_S)
        self._yardstick_s = result.yardstick_s
        for block in result.blocks:
            if block.error is not None:
                raise RoundError(f"{block.digest}: {block.error}")
        return result


@contextmanager
def bench(run: Run, protocol: Protocol, seed: int, say: Say = print) -> Iterator[Bench]:
    """A place to time in, held alone on this machine, with pictures evenly spread over the run's val split."""
    images = load_split(run.folder / workspace.PREPARED, "val")
    with alone(say), tempfile.TemporaryDirectory(prefix="sixfold-study-") as name:
        np.savez(Path(name) / PICTURES, *pictures_as_taken(images, PICTURE_COUNT))
        yield Bench(Path(name), protocol, seed)


class Timings(NamedTuple):
    """The medians of named files over rounds, and how quiet the machine was."""

    medians_s: dict[str, tuple[float, ...]]
    repeated_blocks: int
    disturbed_blocks: int


def timings(results: Sequence[RoundResult], files: Mapping[str, File]) -> Timings:
    """What several rounds found, by the names of the files; a neighbour is told by the least reading of them all."""
    least_s = min((result.yardstick_s for result in results if result.yardstick_s is not None), default=None)
    results = results if least_s is None else [result.disturbed_by(least_s) for result in results]
    names = {file.digest: name for name, file in files.items()}
    medians_s: dict[str, list[float]] = {name: [] for name in files}
    blocks = [block for result in results for block in result.blocks]
    for block in blocks:
        assert block.p50_s is not None, "a round with an error was refused"
        medians_s[names[block.digest]].append(block.p50_s)
    return Timings(
        {name: tuple(values) for name, values in medians_s.items()},
        repeated_blocks=sum(block.repeats > 0 for block in blocks),
        disturbed_blocks=sum(block.disturbed for block in blocks),
    )
