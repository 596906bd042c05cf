"""A/A: the same file under several names. Whatever is called faster or slower here is a false alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from detection.frozen import Digest, Frozen, PositiveInt
from hardware_profiles.timing.round import Protocol
from studies.measurement.ledger import Say, Unit, complete
from studies.measurement.subject import Run, bench, copies, timings

CONTROL = "control"


class IdenticalSettings(Frozen):
    """What a session is."""

    cell: str = "lightweight+nas"
    """A small file, so that a session takes half a minute; small files are the noisiest, relative to their time."""
    pairs: PositiveInt = 8
    """Copies that are compared with one control, which is a copy as well."""
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


class Session(Unit):
    """One real A/A session."""

    runtime: str
    medians_s: dict[str, tuple[float, ...]]
    """Name of the copy -> median of each round; the copy named `control` is the control."""
    repeated_blocks: int
    disturbed_blocks: int


def observe_identical(
    run: Run, runtimes: Sequence[str], sessions: int, settings: IdenticalSettings, work: Path, say: Say = print
) -> tuple[Session, ...]:
    """So many real sessions per runtime; those that are in the work folder are not observed again. Runtimes take turns."""
    names = {f"{runtime}-{index:03d}": (runtime, index) for index in range(sessions) for runtime in runtimes}

    def observe(name: str) -> Mapping[str, Any]:
        return _session(run, names[name][0], names[name][1], settings)

    artifacts = {runtime: run.model(settings.cell, runtime).digest for runtime in runtimes}
    settings = settings.model_copy(update={"artifacts": artifacts})
    return complete(work / "identical", Session, tuple(names), settings, observe, say)


def _session(run: Run, runtime: str, index: int, settings: IdenticalSettings) -> dict[str, Any]:
    model = run.model(settings.cell, runtime)
    with bench(run, settings.protocol(), settings.seed + index) as place:
        files = copies(model, (CONTROL, *(f"copy-{i}" for i in range(1, settings.pairs + 1))), place.folder)
        found = timings([place.round(runtime, tuple(files.values()), i) for i in range(settings.rounds)], files)
    return {"runtime": runtime, **found._asdict()}
