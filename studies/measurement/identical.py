"""A/A: the same file under several names. Whatever is called faster or slower here is a false alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.frozen import PositiveInt
from studies.finished_run import FinishedRun
from studies.measurement.observations import Say, Unit, complete
from studies.measurement.timed_rounds import CopiesSettings, copies, round_timer, timings

CONTROL = "control"


class IdenticalSettings(CopiesSettings):
    """What a session is."""

    pairs: PositiveInt = 8
    """Copies that are compared with one control, which is a copy as well."""


class Session(Unit):
    """One real A/A session."""

    runtime: str
    medians_s: dict[str, tuple[float, ...]]
    """Name of the copy -> median of each round; the copy named `control` is the control."""
    repeated_blocks: int
    contended_blocks: int


def observe_identical(
    run: FinishedRun, runtimes: Sequence[str], sessions: int, settings: IdenticalSettings, work: Path, say: Say = print
) -> tuple[Session, ...]:
    """That number of real sessions per runtime; those in the work folder are not observed again. Runtimes take turns."""
    names = {f"{runtime}-{index:03d}": (runtime, index) for index in range(sessions) for runtime in runtimes}
    artifacts = {runtime: run.model(settings.cell, runtime).digest for runtime in runtimes}

    def observe(name: str) -> Mapping[str, Any]:
        runtime, index = names[name]
        with round_timer(run, settings.protocol(), settings.seed + index) as timer:
            stems = (CONTROL, *(f"copy-{i}" for i in range(1, settings.pairs + 1)))
            files = copies(run.model(settings.cell, runtime), stems, timer.folder)
            found = timings([timer.round(runtime, tuple(files.values()), i) for i in range(settings.rounds)], files)
        return {"runtime": runtime, **found._asdict()}

    named = settings.model_copy(update={"artifacts": artifacts})
    return complete(work / "identical", Session, tuple(names), named, observe, say)
