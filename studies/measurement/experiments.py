"""The two experiments: A/A sessions, where every difference is a false alarm, and planted slowdowns, which are to be detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.frozen import PositiveInt
from studies.finished_run import FinishedRun
from studies.measurement.observations import Unit, complete
from studies.measurement.timed_copies import CopiesSettings, time_copies

CONTROL = "control"


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
