"""Our timing compared with MLPerf LoadGen: the same file and pictures, in turns, each in a fresh pinned process."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from detection.frozen import Digest, Frozen, InputError, PositiveInt
from hardware_profiles.timing.round import File, Protocol, RoundError
from studies.finished_run import FinishedRun
from studies.measurement.observations import Say, Unit, complete
from studies.measurement.timed_rounds import WORKER, RoundTimer, round_timer

ENTRIES = {"ours": WORKER, "loadgen": "studies.measurement.loadgen_round"}


class LoadGenSettings(Frozen):
    """What an alternation is."""

    cells: tuple[str, ...] = ("none", "pruning", "quantization")
    """A float network, a pruned one and an int8 one."""
    runtime: str = "onnxruntime"
    queries: PositiveInt = 256
    """Timed calls of ours and queries of LoadGen's."""
    most_repeats: int = 2
    """Of a process under contention, on either side by the same rule."""
    seed: int = 0
    artifacts: dict[str, Digest] = Field(default_factory=dict)
    """Cell -> what was timed; filled in from the run, so that files of another run are not mixed in."""

    def protocol(self) -> Protocol:
        """How both time."""
        return Protocol(timed_calls=self.queries, end_to_end_calls=1, most_repeats=self.most_repeats)


class Times(Frozen):
    """Of one process."""

    p50_s: float
    p90_s: float
    """By the early-stopping rule."""


class Alternation(Unit):
    """One process of each, one right after the other; which comes first alternates."""

    cell: str
    ours: Times
    loadgen: Times


def observe_loadgen(
    run: FinishedRun, alternations: int, settings: LoadGenSettings, work: Path, say: Say = print
) -> tuple[Alternation, ...]:
    """That number of alternations per cell; those in the work folder are not observed again. Cells take turns."""
    if importlib.util.find_spec("mlperf_loadgen") is None:
        raise InputError("LoadGen is not installed. Run `pip install mlcommons-loadgen`; it has wheels for x86-64 alone.")
    names = {f"{cell.replace('+', '_')}-{index:03d}": (cell, index) for index in range(alternations) for cell in settings.cells}
    artifacts = {cell: run.model(cell, settings.runtime).digest for cell in settings.cells}
    settings = settings.model_copy(update={"artifacts": artifacts})
    with round_timer(run, settings.protocol(), settings.seed) as timer:

        def observe(name: str) -> Mapping[str, Any]:
            return _alternation(run, timer, *names[name], settings)

        return complete(work / "loadgen", Alternation, tuple(names), settings, observe, say)


def _alternation(run: FinishedRun, timer: RoundTimer, cell: str, index: int, settings: LoadGenSettings) -> dict[str, Any]:
    model = run.model(cell, settings.runtime)
    file = File(digest=model.digest, path=str(model.path))
    order = sorted(ENTRIES, reverse=index % 2 == 1)
    found: dict[str, Any] = {}
    for who in order:
        (block,) = timer.round(settings.runtime, (file,), index, ENTRIES[who]).blocks
        if block.p50_s is None or block.p90_s is None:
            raise RoundError(f"{who} gives no 90th percentile of {settings.queries} calls; 64 are the fewest")
        found[who] = Times(p50_s=block.p50_s, p90_s=block.p90_s)
    return {"cell": cell, **found}
