"""The two experiments: A/A sessions, where every difference is a false alarm, and planted slowdowns, which are to be detected.

Both time copies of one file of a finished run in rounds: each round is a fresh pinned process that takes every copy once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from detection.data.dataset import load_split
from detection.frozen import Digest, Frozen, PositiveInt
from flows.measure.host import ENTRY, PICTURES, alone, pictures_as_taken
from flows.measure.measured_rows import Rounds
from flows.sweep.settings import Measure
from hardware_profiles.runtimes.table import file_parts
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.protocol import Protocol
from hardware_profiles.timing.round import File, Job, RoundError, RoundResult, choose_cores, in_fresh_process
from studies.finished_run import FinishedRun, Model
from studies.measurement.observations import Unit, complete
from studies.measurement.planted_round import PREFIX, SUFFIX

CONTROL = "control"
PLANTED_ENTRY = "studies.measurement.planted_round"
PICTURE_COUNT = 8
ROUND_TIMEOUT_S = 900.0


class CopiesSettings(Frozen):
    """How copies of one file are timed."""

    cell: str = "lightweight+nas"
    """A small file, so that eight rounds take half a minute; small files are the noisiest, relative to their time."""
    rounds: PositiveInt = 8
    timed_calls: PositiveInt = 64
    seed: int = 0
    artifacts: dict[str, Digest] = Field(default_factory=dict)
    """Runtime -> what was timed; filled in from the run, so that files of another run are not mixed in."""


class IdenticalSettings(CopiesSettings):
    """What an A/A session is: the same file under several names."""

    pairs: PositiveInt = 8
    """Copies that are compared with one control, which is a copy as well."""


class Session(Unit):
    """One real A/A session."""

    runtime: str
    medians_s: dict[str, tuple[float, ...]]
    """Name of the copy -> median of each round; the copy named `control` is the control."""
    repeated_blocks: int
    contended_blocks: int


class PlantedSettings(CopiesSettings):
    """What a trial is, and how many share their processes: the same file, made slower by known shares."""

    runtime: str = "onnxruntime"
    slower_by: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05, 0.10, 0.20)
    """Shares of a call's own time. A trial is a control and one copy per share, over all rounds."""
    trials_together: PositiveInt = 10
    """Timed in the same processes, each with files of its own in random order."""


class Batch(Unit):
    """Trials that were timed in the same processes."""

    trials: tuple[dict[str, tuple[float, ...]], ...]
    """For each trial, share of the planted slowdown ("0" is the control) -> median of each round, in seconds."""
    repeated_blocks: int
    contended_blocks: int


def observe_identical(
    run: FinishedRun, runtimes: Sequence[str], sessions: int, settings: IdenticalSettings, work: Path
) -> tuple[Session, ...]:
    """That number of real sessions per runtime; those in the work folder are not observed again. Runtimes take turns."""
    names = {f"{runtime}-{index:03d}": (runtime, index) for index in range(sessions) for runtime in runtimes}
    models = {runtime: run.model(settings.cell, runtime) for runtime in runtimes}
    stems = (CONTROL, *(f"copy-{i}" for i in range(1, settings.pairs + 1)))

    def observe(name: str) -> Mapping[str, Any]:
        runtime, index = names[name]
        return {"runtime": runtime, **time_copies(run, models[runtime], stems, settings, settings.seed + index)._asdict()}

    named = settings.model_copy(update={"artifacts": {runtime: model.digest for runtime, model in models.items()}})
    return complete(work / "identical", Session, tuple(names), named, observe)


def observe_planted(run: FinishedRun, trials: int, settings: PlantedSettings, work: Path) -> tuple[Batch, ...]:
    """At least that number of real trials, in whole batches; those in the work folder are not observed again."""
    names = {f"batch-{index:03d}": index for index in range(-(-trials // settings.trials_together))}
    model = run.model(settings.cell, settings.runtime)
    shares = {f"{share:g}": share for share in (0.0, *settings.slower_by)}
    stems = {f"trial{trial}-{key}": share for trial in range(settings.trials_together) for key, share in shares.items()}

    def observe(name: str) -> Mapping[str, Any]:
        found = time_copies(run, model, tuple(stems), settings, settings.seed + names[name], stems)._asdict()
        medians_s = found.pop("medians_s")
        each = [{key: medians_s[f"trial{trial}-{key}"] for key in shares} for trial in range(settings.trials_together)]
        return found | {"trials": each}

    named = settings.model_copy(update={"artifacts": {settings.runtime: model.digest}})
    return complete(work / "planted", Batch, tuple(names), named, observe)


class Timings(NamedTuple):
    """The medians of named copies over rounds, and how quiet the machine was."""

    medians_s: dict[str, tuple[float, ...]]
    repeated_blocks: int
    contended_blocks: int


def time_copies(
    run: FinishedRun,
    model: Model,
    names: Sequence[str],
    settings: CopiesSettings,
    seed: int,
    slower_by: Mapping[str, float] | None = None,
) -> Timings:
    """The times of copies of the model under these names, with this machine for itself and pictures of the run's val split.

    `slower_by` has the share of each copy's own time that it is to be slower by. RoundError where a copy could not be timed.
    """
    entry, suffix = (ENTRY, "") if slower_by is None else (PLANTED_ENTRY, SUFFIX)
    planted = {f"{PREFIX}{name}": share for name, share in (slower_by or {}).items()}
    results: list[RoundResult] = []
    with alone(print), tempfile.TemporaryDirectory(prefix="sixfold-study-") as name:
        folder = Path(name)
        np.savez(folder / PICTURES, *pictures_as_taken(load_split(run.prepared, "val"), PICTURE_COUNT))
        files = copies(model, names, folder)
        for index in range(settings.rounds):
            job = Job(
                runtime=model.runtime + suffix,
                threads=1,
                cores=choose_cores(1),
                files=tuple(files.values()),
                order_seed=seed * 10_000 + index,
                protocol=Protocol(timed_calls=settings.timed_calls, end_to_end_calls=1),
                pictures=str(folder / PICTURES),
                settings=Measure().settings() | planted,
                result=str(folder / "result.json"),
                probe_s=results[-1].probe_s if results else None,
            )
            results.append(in_fresh_process(job, entry, folder, ROUND_TIMEOUT_S))
            for block in results[-1].blocks:
                if block.error is not None:
                    raise RoundError(f"{block.digest}: {block.error}")
    return timings(results, files)


def copies(model: Model, names: Sequence[str], folder: Path) -> dict[str, File]:
    """Name -> file: all with the model's bytes, each under a digest of its own, as if they were different networks."""
    files = {}
    for name in names:
        path = folder / f"{name}{model.path.suffix}"
        for own in file_parts(model.path):
            shutil.copyfile(own, path.with_suffix(own.suffix))
        files[name] = File(digest=digest_of({"copy": name}), path=str(path))
    return files


def timings(results: Sequence[RoundResult], files: Mapping[str, File]) -> Timings:
    """What several rounds found, by the names of the files; contention is judged by the least probe reading of them all."""
    least_s = min((result.probe_s for result in results if result.probe_s is not None), default=None)
    rounds = Rounds(tuple(results)).contended_by(least_s)
    found = {name: rounds.blocks(file.digest) for name, file in files.items()}
    blocks = [block for own in found.values() for block in own]
    return Timings(
        {name: tuple(block.p50_s for block in own if block.p50_s is not None) for name, own in found.items()},
        repeated_blocks=sum(block.repeats > 0 for block in blocks),
        contended_blocks=sum(block.contended for block in blocks),
    )
