"""Planted slowdowns: the same file, made slower by a known share. How often is it noticed?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from detection.frozen import Digest, Frozen, PositiveInt
from hardware_profiles.timing.round import Protocol
from studies.measurement.ledger import Say, Unit, complete
from studies.measurement.planted_round import PREFIX, SUFFIX
from studies.measurement.subject import Run, bench, copies, timings


class PlantedSettings(Frozen):
    """What a trial is, and how many share their processes."""

    cell: str = "lightweight+nas"
    runtime: str = "onnxruntime"
    slower_by: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05, 0.10, 0.20)
    """Shares of a call's own time. A trial is a control and one copy per share, over all rounds."""
    trials_together: PositiveInt = 10
    """Timed in the same processes, each with files of its own in random order."""
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


class Batch(Unit):
    """Trials that were timed in the same processes."""

    trials: tuple[dict[str, tuple[float, ...]], ...]
    """For each trial, share of the planted slowdown ("0" is the control) -> median of each round, in seconds."""
    repeated_blocks: int
    disturbed_blocks: int


def observe_planted(run: Run, trials: int, settings: PlantedSettings, work: Path, say: Say = print) -> tuple[Batch, ...]:
    """At least so many real trials in whole batches; those that are in the work folder are not observed again."""
    batches = -(-trials // settings.trials_together)
    names = {f"batch-{index:03d}": index for index in range(batches)}

    def observe(name: str) -> Mapping[str, Any]:
        return _batch(run, names[name], settings)

    artifacts = {settings.runtime: run.model(settings.cell, settings.runtime).digest}
    settings = settings.model_copy(update={"artifacts": artifacts})
    return complete(work / "planted", Batch, tuple(names), settings, observe, say)


def _batch(run: Run, index: int, settings: PlantedSettings) -> dict[str, Any]:
    model = run.model(settings.cell, settings.runtime)
    shares = {f"{share:g}": share for share in (0.0, *settings.slower_by)}
    stems = {f"trial{trial}-{key}": share for trial in range(settings.trials_together) for key, share in shares.items()}
    with bench(run, settings.protocol(), settings.seed + index) as place:
        files = copies(model, tuple(stems), place.folder)
        planted = {f"{PREFIX}{stem}": share for stem, share in stems.items()}
        results = [
            place.round(settings.runtime + SUFFIX, tuple(files.values()), i, "studies.measurement.planted_round", planted)
            for i in range(settings.rounds)
        ]
        found = timings(results, files)
    trials = [{key: found.medians_s[f"trial{trial}-{key}"] for key in shares} for trial in range(settings.trials_together)]
    return {
        "trials": trials,
        "repeated_blocks": found.repeated_blocks,
        "disturbed_blocks": found.disturbed_blocks,
    }
