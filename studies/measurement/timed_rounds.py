"""Files of a finished run, timed in rounds: each round is a fresh pinned process that takes every file once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from detection.data.dataset import load_split
from detection.frozen import Digest, Frozen, PositiveInt
from flows.measure.host import PICTURES, alone, pictures_as_taken
from flows.sweep.settings import Measure
from hardware_profiles.runtimes.table import file_parts
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.round import File, Job, Protocol, RoundError, RoundResult, choose_cores, in_fresh_process
from studies.finished_run import FinishedRun, Model
from studies.measurement.observations import Say

PICTURE_COUNT = 8
ROUND_TIMEOUT_S = 900.0
WORKER = "flows.measure.worker"


class CopiesSettings(Frozen):
    """How copies of one file are timed."""

    cell: str = "lightweight+nas"
    """A small file, so that eight rounds take half a minute; small files are the noisiest, relative to their time."""
    rounds: PositiveInt = 8
    timed_calls: PositiveInt = 64
    end_to_end_calls: PositiveInt = 1
    """Not used here; the least the protocol allows."""
    seed: int = 0
    artifacts: dict[str, Digest] = Field(default_factory=dict)
    """Runtime -> what was timed; filled in from the run, so that files of another run are not mixed in."""

    def protocol(self) -> Protocol:
        """How each file is timed."""
        return Protocol(timed_calls=self.timed_calls, end_to_end_calls=self.end_to_end_calls)


def copies(model: Model, names: Sequence[str], folder: Path) -> dict[str, File]:
    """Name -> file: all with the model's bytes, each under a digest of its own, as if they were different networks."""
    files = {}
    for name in names:
        path = folder / f"{name}{model.path.suffix}"
        for own in file_parts(model.path):
            shutil.copyfile(own, path.with_suffix(own.suffix))
        files[name] = File(digest=digest_of({"copy": name}), path=str(path))
    return files


class RoundTimer:
    """A folder with the run's pictures, in which rounds are timed one after another."""

    def __init__(self, folder: Path, protocol: Protocol, seed: int) -> None:
        self.folder, self.protocol, self.seed = folder, protocol, seed
        self._yardstick_s: float | None = None

    def round(
        self, runtime: str, files: Sequence[File], index: int, entry: str = WORKER, settings: Mapping[str, float] | None = None
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
def round_timer(run: FinishedRun, protocol: Protocol, seed: int, say: Say = print) -> Iterator[RoundTimer]:
    """A timer that has this machine for itself, with pictures evenly spread over the run's val split."""
    images = load_split(run.prepared, "val")
    with alone(say), tempfile.TemporaryDirectory(prefix="sixfold-study-") as name:
        np.savez(Path(name) / PICTURES, *pictures_as_taken(images, PICTURE_COUNT))
        yield RoundTimer(Path(name), protocol, seed)


class Timings(NamedTuple):
    """The medians of named files over rounds, and how quiet the machine was."""

    medians_s: dict[str, tuple[float, ...]]
    repeated_blocks: int
    contended_blocks: int


def timings(results: Sequence[RoundResult], files: Mapping[str, File]) -> Timings:
    """What several rounds found, by the names of the files; contention is judged by the least probe reading of them all."""
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
        contended_blocks=sum(block.disturbed for block in blocks),
    )
