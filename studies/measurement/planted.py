"""Planted slowdowns: the same file, made slower by a known share. How often is the difference detected?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.frozen import PositiveInt
from studies.finished_run import FinishedRun
from studies.measurement.observations import Say, Unit, complete
from studies.measurement.planted_round import PREFIX, SUFFIX
from studies.measurement.timed_rounds import CopiesSettings, copies, round_timer, timings

ENTRY = "studies.measurement.planted_round"


class PlantedSettings(CopiesSettings):
    """What a trial is, and how many share their processes."""

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


def observe_planted(run: FinishedRun, trials: int, settings: PlantedSettings, work: Path, say: Say = print) -> tuple[Batch, ...]:
    """At least that number of real trials, in whole batches; those in the work folder are not observed again."""
    names = {f"batch-{index:03d}": index for index in range(-(-trials // settings.trials_together))}
    model = run.model(settings.cell, settings.runtime)
    shares = {f"{share:g}": share for share in (0.0, *settings.slower_by)}
    stems = {f"trial{trial}-{key}": share for trial in range(settings.trials_together) for key, share in shares.items()}
    planted = {f"{PREFIX}{stem}": share for stem, share in stems.items()}

    def observe(name: str) -> Mapping[str, Any]:
        with round_timer(run, settings.protocol(), settings.seed + names[name]) as timer:
            files = copies(model, tuple(stems), timer.folder)
            rounds = [
                timer.round(settings.runtime + SUFFIX, tuple(files.values()), i, ENTRY, planted) for i in range(settings.rounds)
            ]
            found = timings(rounds, files)._asdict()
        medians_s = found.pop("medians_s")
        return found | {
            "trials": [{key: medians_s[f"trial{trial}-{key}"] for key in shares} for trial in range(settings.trials_together)]
        }

    named = settings.model_copy(update={"artifacts": {settings.runtime: model.digest}})
    return complete(work / "planted", Batch, tuple(names), named, observe, say)
