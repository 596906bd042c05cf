"""Real latency. A round is one fresh process, pinned to a core per thread, that times every file once in random order."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hardware_profiles.runtimes import Array, Session, open_session

Picture = NDArray[np.uint8]
Count = Annotated[int, Field(ge=1)]
Number = TypeVar("Number", int, float)


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Protocol(_Closed):
    """How a file is timed within a round. Two numbers are comparable where these are equal."""

    warmup_calls: Count = 10
    warmup_s: Annotated[float, Field(ge=0)] = 0.02
    """Calls before timing go on until both are reached."""
    timed_calls: Count = 30
    """Of the network alone."""
    end_to_end_calls: Count = 5
    """From the picture as the camera gives it to the final detections."""


class File(_Closed):
    """One file to time."""

    digest: str
    path: str


class Job(_Closed):
    """All that a round needs to know; travels to the fresh process as JSON."""

    runtime: str
    threads: Count
    cores: tuple[int, ...] | None
    """Where the process is pinned; None where the system cannot pin."""
    files: tuple[File, ...]
    order_seed: int
    protocol: Protocol
    pictures: str
    """An .npz of pictures (height, width, 3), uint8, of any size."""
    settings: dict[str, float]
    """What the hooks need; measuring does not look inside."""
    result: str
    """Where the round's blocks are written."""


class Block(_Closed):
    """What one round found about one file; times are of single calls."""

    digest: str
    position: int
    """In the random order of the round, from 0."""
    error: str | None = None
    """Why it could not be timed; every number is then null."""
    p50_s: float | None = None
    p90_s: float | None = None
    cv: float | None = None
    """Standard deviation over mean of the timed calls."""
    cpu_share: float | None = None
    """Processor time of this process over the time of the timed calls; below 1: others were given the core meanwhile."""
    end_to_end_p50_s: float | None = None
    load_s: float | None = None
    """Reading and compiling the file."""
    first_s: float | None = None
    """The first inference after loading."""
    peak_rss_bytes: int | None = None
    """Held before the first file, Python and libraries included, plus what the process grew by while this file was open.

    Memory that an earlier file left behind is used again and then not counted, so take several rounds."""
    steal_s: float | None = None
    """Time that the hypervisor gave to others on the pinned cores meanwhile; in ticks of 10 ms on most kernels."""


class RoundResult(_Closed):
    """What a fresh process hands back."""

    blocks: tuple[Block, ...]
    baseline_rss_bytes: int | None
    """Held before the first timed file was opened, the runtime's libraries already loaded."""


class Hooks(NamedTuple):
    """What surrounds the network, so that end-to-end time is that of the detector and not of the network alone."""

    before: Callable[[Picture, tuple[int, int]], Array]
    """Picture (h, w, 3), input size (height, width) -> pixels (1, 3, height, width)."""
    after: Callable[[Array, Array, Picture, tuple[int, int]], Any]
    """Boxes, scores, picture, input size (height, width) -> final detections."""


class RoundError(RuntimeError):
    """A round's process ended badly; the message has its last words."""


def in_fresh_process(job: Job, entry: str, folder: Path, timeout_s: float) -> RoundResult:
    """What `python -m entry JOB.json` found in a process of its own; RoundError where it ends badly or takes too long."""
    job_file, root = folder / "job.json", Path(__file__).resolve().parent.parent
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


def pin(cores: tuple[int, ...] | None, threads: int) -> None:
    """Keep this process on the cores; call before a runtime is imported, for its threads inherit it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if cores is not None:
        os.sched_setaffinity(0, cores)


def choose_cores(threads: int) -> tuple[int, ...] | None:
    """The last so many cores this process may use (the first ones serve interrupts); None where the system cannot pin."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise ValueError(
            f"{threads} threads need as many cores, but this process may use {len(cores)}; choose a profile with fewer threads"
        )
    return tuple(cores[-threads:])


def run_round(job: Job, hooks: Hooks) -> RoundResult:
    """One block per file, timed in this process in the random order of the job's seed; a file that fails has its error instead."""
    with np.load(job.pictures, allow_pickle=False) as packed:
        pictures = [packed[name] for name in packed.files]
    order = list(job.files)
    random.Random(job.order_seed).shuffle(order)
    _wake_up(job, order[0], pictures, hooks)
    gc.collect()
    _reset_peak()
    baseline_bytes = _resident_bytes("VmRSS")
    gc.freeze()  # what was imported so far is not searched again after every file
    gc.disable()
    try:
        blocks = tuple(_time_file(job, file, position, pictures, hooks) for position, file in enumerate(order))
    finally:
        gc.enable()
        gc.unfreeze()
    counted = tuple(_whole_process(block, baseline_bytes) for block in blocks)
    return RoundResult(blocks=counted, baseline_rss_bytes=baseline_bytes)


def _wake_up(job: Job, file: File, pictures: Sequence[Picture], hooks: Hooks) -> None:
    """Load the runtime's libraries and raise the clock before the first timed file, whoever that is."""
    try:
        session = open_session(job.runtime, Path(file.path), job.threads)
        _warm(session, _inputs(session, pictures, hooks), job.protocol)
    except Exception:  # the same file fails again in its block, where it is recorded
        return


def _time_file(job: Job, file: File, position: int, pictures: Sequence[Picture], hooks: Hooks) -> Block:
    try:
        return _timed(job, file, position, pictures, hooks)
    except Exception as error:  # one bad file must not end the round; its failure becomes its record
        return Block(digest=file.digest, position=position, error=f"{type(error).__name__}: {error}")
    finally:
        gc.collect()


def _timed(job: Job, file: File, position: int, pictures: Sequence[Picture], hooks: Hooks) -> Block:
    _reset_peak()
    held_bytes = _resident_bytes("VmRSS")
    steal_before_s = steal_s(job.cores)
    started_ns = time.perf_counter_ns()
    session = open_session(job.runtime, Path(file.path), job.threads)
    loaded_ns = time.perf_counter_ns()
    inputs = _inputs(session, pictures, hooks)
    first_ns = _calls_ns(session, inputs, 1)[0]
    _warm(session, inputs, job.protocol)
    used_before_ns = time.process_time_ns()
    calls_ns = _calls_ns(session, inputs, job.protocol.timed_calls)
    used_ns = time.process_time_ns() - used_before_ns
    whole_ns = _calls_ns(lambda picture: _end_to_end(session, picture, hooks), pictures, job.protocol.end_to_end_calls)
    steal_after_s = steal_s(job.cores)
    return Block(
        digest=file.digest,
        position=position,
        p50_s=statistics.median(calls_ns) * 1e-9,
        p90_s=float(np.percentile(calls_ns, 90)) * 1e-9,
        cv=float(np.std(calls_ns) / np.mean(calls_ns)),
        cpu_share=used_ns / sum(calls_ns),
        end_to_end_p50_s=statistics.median(whole_ns) * 1e-9,
        load_s=(loaded_ns - started_ns) * 1e-9,
        first_s=first_ns * 1e-9,
        peak_rss_bytes=_difference(_resident_bytes("VmHWM"), held_bytes),
        steal_s=_difference(steal_after_s, steal_before_s),
    )


def _whole_process(block: Block, baseline_bytes: int | None) -> Block:
    if block.peak_rss_bytes is None or baseline_bytes is None:
        return block
    return block.model_copy(update={"peak_rss_bytes": baseline_bytes + block.peak_rss_bytes})


def _inputs(session: Session, pictures: Sequence[Picture], hooks: Hooks) -> list[Array]:
    return [hooks.before(picture, session.input_size) for picture in pictures]


def _warm(session: Session, inputs: Sequence[Array], protocol: Protocol) -> None:
    started_ns, calls = time.perf_counter_ns(), 0
    while calls < protocol.warmup_calls or (time.perf_counter_ns() - started_ns) * 1e-9 < protocol.warmup_s:
        session(inputs[calls % len(inputs)])
        calls += 1


def _end_to_end(session: Session, picture: Picture, hooks: Hooks) -> Any:
    boxes, scores = session(hooks.before(picture, session.input_size))
    return hooks.after(boxes, scores, picture, session.input_size)


def _calls_ns(call: Callable[[Any], Any], arguments: Sequence[Any], count: int) -> list[int]:
    """Nanoseconds of each of so many calls, the arguments taking turns."""
    times_ns = []
    for i in range(count):
        argument = arguments[i % len(arguments)]
        started_ns = time.perf_counter_ns()
        call(argument)
        times_ns.append(time.perf_counter_ns() - started_ns)
    return times_ns


def steal_s(cores: tuple[int, ...] | None) -> float | None:
    """Seconds since boot that the hypervisor gave to others on these cores (all where None); None where the kernel does not say."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    wanted = {"cpu"} if cores is None else {f"cpu{core}" for core in cores}
    rows = [line.split() for line in stat.read_text().splitlines()]
    ticks = [int(row[8]) for row in rows if row[0] in wanted and len(row) > 8]  # proc_stat(5): the eighth number is steal
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _difference(after: Number | None, before: Number | None) -> Number | None:
    """after - before, at least 0; None where either is unknown."""
    return None if after is None or before is None else max(after - before, type(after)(0))


def _resident_bytes(field: str) -> int | None:
    """VmRSS (now) or VmHWM (most since the last reset) of this process; None where /proc does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{field}:"), None)


def _reset_peak() -> None:
    """Give freed memory back and start VmHWM afresh, so that a file does not answer for the one before it."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):  # no glibc, or a kernel that does not let us: the peak is then that of the process so far
        return
