"""One round with planted slowdowns, in a fresh process: `python -m studies.measurement.planted_round JOB.json`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flows.measure.worker import detection_hooks
from hardware_profiles.runtimes.table import RUNTIMES, Array, Pixels, Session
from hardware_profiles.timing.round import Job, pin, run_round

SUFFIX = "-slowed"
"""Of the runtime's name in this process: onnxruntime-slowed is onnxruntime with a wait after each call."""
PREFIX = "slower_by:"
"""Before a file's stem in the job's settings; the value is the share of a call's own time to wait. Others wait no time."""


class Slowed:
    """A session that is busy for a share of each call's own time after that call."""

    def __init__(self, session: Session, share: float, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.input_size, self.output_names = session.input_size, session.output_names
        self._session = session
        self._share = share
        self._clock_ns = clock_ns

    def blank(self) -> Pixels:
        """What the session takes."""
        return self._session.blank()

    def __call__(self, pixels: Pixels) -> tuple[Array, ...]:
        """What the session gives, so much later. A share of 0 takes the same path, so that the detour is in both times."""
        started_ns = self._clock_ns()
        found = self._session(pixels)
        ended_ns = self._clock_ns()
        until_ns = ended_ns + round(self._share * (ended_ns - started_ns))
        while self._clock_ns() < until_ns:
            pass
        return found


def plant(job: Job) -> None:
    """Make the job's runtime known in this process; it opens files in the real one and slows those that the settings name."""
    real = RUNTIMES[job.runtime.removesuffix(SUFFIX)]
    shares = {key.removeprefix(PREFIX): float(value) for key, value in job.settings.items() if key.startswith(PREFIX)}

    def open_slowed(path: Path, threads: int) -> Session:
        return Slowed(real.open(path, threads), shares.get(path.stem, 0.0))

    RUNTIMES[job.runtime] = replace(real, name=job.runtime, open=open_slowed)


def main(job_file: Path) -> None:
    """Time the job's files in this process and write what was found where the job says."""
    job = Job.model_validate_json(job_file.read_text())
    pin(job.cores, job.threads)
    plant(job)
    Path(job.result).write_text(run_round(job, detection_hooks(job)).model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
