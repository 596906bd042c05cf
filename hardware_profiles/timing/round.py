"""Real latency. A round is one fresh process, pinned to a core per thread, that times every file once in random order."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from hardware_profiles.runtimes.table import RUNTIMES, Pixels, Session, SessionError, open_session, write_empty_model
from hardware_profiles.timing.calls import (
    MOST_SLOWDOWN,
    ContentionProbe,
    Cores,
    Hooks,
    Picture,
    Times,
    calls_one_by_one_ns,
    difference,
    take_times,
    warm_up,
)
from hardware_profiles.timing.environment import cores_here, peak_resident_bytes, reset_peak, resident_bytes
from hardware_profiles.timing.protocol import Closed, Count, Protocol

HooksOf = Callable[[Path], Hooks]
"""A file -> what surrounds it."""
RENAMED = {"disturbed": "contended", "yardstick_s": "probe_s"}
"""Field of a block as older versions stored it -> its name now."""


class File(Closed):
    """One file to time."""

    digest: str
    path: str


class Job(Closed):
    """All that a round needs to know; travels to the fresh process as JSON."""

    runtime: str
    threads: Count
    cores: Cores
    files: tuple[File, ...]
    order_seed: int
    protocol: Protocol
    pictures: str
    """An .npz of pictures (height, width, 3), uint8, of any size."""
    settings: dict[str, float | str]
    """What the hooks need; measuring does not look inside."""
    result: str
    """Where the round's blocks are written."""
    probe_s: Annotated[float, Field(gt=0)] | None = None
    """The least reading of the contention probe in earlier rounds on this machine; None before the first."""


class Block(Closed):
    """What one round found about one file; times are of single calls. Those that a store kept under older names are read too."""

    digest: str
    position: int
    """In the random order of the round, from 0."""
    error: str | None = None
    """Why it could not be timed; every number is then null."""
    p50_s: float | None = None
    p90_s: float | None = None
    """By MLPerf's early stopping: at least the true 90th percentile with 99 % confidence. None below 64 timed calls."""
    cv: float | None = None
    """Standard deviation over mean of the timed calls."""
    cpu_share: float | None = None
    """Processor time of this process, all threads together, over the time of the timed calls. Below 1: others were given the
    core meanwhile."""
    end_to_end_p50_s: float | None = None
    postprocess_p50_s: float | None = None
    """The part of end to end that chooses the final detections, on what the network really gave."""
    load_s: float | None = None
    """Reading and compiling the file."""
    first_s: float | None = None
    """The first inference after loading."""
    peak_rss_bytes: int | None = None
    """Held before the first file, Python and libraries included, plus what the process grew by while this file was open.

    Memory that an earlier file left behind is used again and then not counted, so take several rounds. Library pages that only
    another file needed are counted: in 20 files of 0.3 to 3 MB the median of 4 rounds was 3 to 8 % above the peak of a process
    that opened nothing else."""
    runtime_rss_bytes: int | None = None
    """Held by the same process with a detector of two operators and no weights open instead: what is not the file's doing."""
    steal_s: float | None = None
    """Time that the hypervisor gave to others on the pinned cores during `timed_s`; in ticks of 10 ms on most kernels."""
    timed_s: float | None = None
    """Wall time of the timed and end-to-end calls together."""
    probe_s: float | None = None
    """The greater reading of the contention probe before and after the timed calls. None where there is none: with several threads,
    whose workers may still be spinning then, and on devices measured by hand."""
    repeats: int = 0
    """How often this block was timed again because of contention; the numbers are of the last time."""
    contended: bool = False
    """True where even the last timing was: see `hardware_profiles.timing.calls.Times.contended`."""

    @model_validator(mode="before")
    @classmethod
    def _with_present_names(cls, given: Any) -> Any:
        return {RENAMED.get(name, name): value for name, value in given.items()} if isinstance(given, dict) else given


class RoundResult(Closed):
    """What a fresh process hands back."""

    blocks: tuple[Block, ...]
    runtime_rss_bytes: int | None
    """Held with the runtime loaded and an empty detector open."""
    probe_s: float | None = None
    """The least reading of the contention probe, those of earlier rounds included."""
    waited_s: float = 0.0
    """For contention on the same physical core to end, in all blocks together."""

    def contended_by(self, least_s: float) -> RoundResult:
        """The same with every block marked that was contended by this least reading, which later rounds may have found."""
        most_s = MOST_SLOWDOWN * least_s
        blocks = (
            block.model_copy(update={"contended": True}) if block.probe_s is not None and block.probe_s > most_s else block
            for block in self.blocks
        )
        return self.model_copy(update={"blocks": tuple(blocks)})


class RoundError(RuntimeError):
    """A round's process ended badly; the message has its last words."""


def in_fresh_process(job: Job, entry: str, folder: Path, timeout_s: float) -> RoundResult:
    """What `python -m entry JOB.json` found in a process of its own; RoundError where it ends badly or takes too long."""
    job_file, root = folder / "job.json", Path(__file__).resolve().parents[2]
    job_file.write_text(job.model_dump_json())
    Path(job.result).unlink(missing_ok=True)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(job.threads)}
    command = [sys.executable, "-m", entry, str(job_file)]
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise RoundError(f"a round of {len(job.files)} files took longer than {timeout_s:g} s") from error
    if done.returncode != 0 or not Path(job.result).is_file():
        last_words = " | ".join(done.stderr.strip().splitlines()[-3:]) or "no output"
        raise RoundError(f"a round's process ended with exit code {done.returncode}: {last_words}")
    return RoundResult.model_validate_json(Path(job.result).read_text())


def pin(cores: Cores, threads: int) -> None:
    """Keep this process on the cores; call before a runtime is imported, for its threads inherit it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if cores is not None:
        os.sched_setaffinity(0, cores)


def choose_cores(threads: int) -> Cores:
    """The last cores of this process, one per thread (the first ones serve interrupts); None where the system cannot pin."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if threads > cores_here():
        raise ValueError(
            f"{threads} threads need as many cores, but this process may use {cores_here()}; choose a profile with fewer threads"
        )
    return tuple(cores[-threads:])


def run_round(job: Job, hooks_of: HooksOf) -> RoundResult:
    """One block per file, timed in this process in the random order of the job's seed; a file that fails has its error instead."""
    with np.load(job.pictures, allow_pickle=False) as packed:
        pictures = [packed[name] for name in packed.files]
    order = list(job.files)
    random.Random(job.order_seed).shuffle(order)
    runtime_bytes = _runtime_bytes(job)
    _wake_up(job, order[0], pictures, hooks_of)
    probe = ContentionProbe(job.probe_s, job.protocol.contention_wait_s) if job.threads == 1 else None
    gc.collect()
    reset_peak()
    baseline_bytes = resident_bytes()
    gc.freeze()  # what was imported so far is not searched again after every file
    gc.disable()
    try:
        blocks = tuple(_time_file(job, file, position, pictures, hooks_of, probe) for position, file in enumerate(order))
    finally:
        gc.enable()
        gc.unfreeze()
    least_s = job.probe_s if probe is None else probe.least_s
    waited_s = 0.0 if probe is None else max(0.0, job.protocol.contention_wait_s - probe.contention_wait_s)
    counted = tuple(_whole_process(block, baseline_bytes, runtime_bytes) for block in blocks)
    return RoundResult(blocks=counted, runtime_rss_bytes=runtime_bytes, probe_s=least_s, waited_s=waited_s)


def _runtime_bytes(job: Job) -> int | None:
    """What the process holds with an empty detector open and run, the runtime's libraries loaded; None where that is unknown."""
    if job.runtime not in RUNTIMES:  # every block will say so
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            session = open_session(job.runtime, write_empty_model(job.runtime, Path(folder)), job.threads)
        except SessionError:  # the same
            return None
        session(session.blank())
        gc.collect()
        reset_peak()
        return resident_bytes()


def _wake_up(job: Job, file: File, pictures: Sequence[Picture], hooks_of: HooksOf) -> None:
    """Load the runtime's libraries and raise the clock before the first timed file, whoever that is."""
    try:
        session = open_session(job.runtime, Path(file.path), job.threads)
        warm_up(session, _inputs(session, pictures, hooks_of(Path(file.path))), job.protocol.warmup_calls, job.protocol.warmup_s)
    except Exception:  # the same file fails again in its block, where it is recorded
        return


def _time_file(
    job: Job, file: File, position: int, pictures: Sequence[Picture], hooks_of: HooksOf, probe: ContentionProbe | None
) -> Block:
    try:
        return _timed(job, file, position, pictures, hooks_of(Path(file.path)), probe)
    except Exception as error:  # one bad file must not end the round; its failure becomes its record
        return Block(digest=file.digest, position=position, error=f"{type(error).__name__}: {error}")
    finally:
        gc.collect()


def _timed(job: Job, file: File, position: int, pictures: Sequence[Picture], hooks: Hooks, probe: ContentionProbe | None) -> Block:
    reset_peak()
    held_bytes = resident_bytes()
    started_ns = time.perf_counter_ns()
    session = open_session(job.runtime, Path(file.path), job.threads)
    loaded_ns = time.perf_counter_ns()
    inputs = _inputs(session, pictures, hooks)
    first_ns = calls_one_by_one_ns(session, inputs, 1)[0]
    warm_up(session, inputs, job.protocol.warmup_calls, job.protocol.warmup_s)

    def timing() -> Times:
        take = partial(take_times, session, inputs, pictures, hooks, job.protocol, job.cores)
        if probe is None:
            return take()
        if probe.wait():  # its caches hold the probe's data by now
            warm_up(session, inputs, job.protocol.warmup_calls, job.protocol.warmup_s)
        before_s, times = probe.read_s(), take()
        reading_s = max(before_s, probe.read_s())
        return times._replace(probe_s=reading_s, slowdown=reading_s / probe.least_s)

    times, repeats = timing(), 0
    while times.contended and repeats < job.protocol.most_repeats:
        times, repeats = timing(), repeats + 1
    return Block(
        digest=file.digest,
        position=position,
        load_s=(loaded_ns - started_ns) * 1e-9,
        first_s=first_ns * 1e-9,
        peak_rss_bytes=difference(peak_resident_bytes(), held_bytes),
        repeats=repeats,
        contended=times.contended,
        **times.kept(),
    )


def _whole_process(block: Block, baseline_bytes: int | None, runtime_bytes: int | None) -> Block:
    """The block with its memory counted from nought: so far it holds what the process grew by."""
    if block.peak_rss_bytes is None or baseline_bytes is None:
        return block
    return block.model_copy(update={"peak_rss_bytes": baseline_bytes + block.peak_rss_bytes, "runtime_rss_bytes": runtime_bytes})


def _inputs(session: Session, pictures: Sequence[Picture], hooks: Hooks) -> list[Pixels]:
    return [hooks.before(picture, session.input_size) for picture in pictures]
