"""Rounds on this machine: the profiles take turns; each round is a fresh pinned process that times every file and the control."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from detection.boxes import Resize
from detection.data.dataset import Images
from flows.measure.measured_rows import Rounds
from flows.progress import Say, duration, progress
from flows.sweep.settings import Measure
from hardware_profiles.runtimes.table import SessionError, runtime_version
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.round import File, Job, RoundError, RoundResult, choose_cores, in_fresh_process

LOCK = Path(tempfile.gettempdir()) / "sixfold-measure.lock"
"""One for the machine, not for the checkout: two measurements side by side spoil each other."""
LOCK_TIMEOUT_S = 3600.0
ENTRY = "flows.measure.worker"
PICTURES = "pictures.npz"
SHORTEST_WAIT_S = 0.5
"""That a round's line mentions."""
QUIET_SHARE = 0.9
"""Of the core; with less for us in the median file, the round's times are too long. Alone it is 0.98 and more."""


def host_rounds(
    profiles: Sequence[HardwareProfile],
    files: Mapping[str, tuple[File, ...]],
    images: Images,
    config: Measure,
    say: Say = print,
) -> dict[str, Rounds]:
    """Profile -> its rounds or why there are none. Profiles take turns, so that a slow minute hits them all alike.

    `files` says which files each profile times. A round that ends badly ends its profile; the other profiles go on.
    """
    found = {profile.id: Rounds(why=why_not_here(profile)) for profile in profiles}
    able = [profile for profile in profiles if files.get(profile.id) and found[profile.id].why is None]
    turns = [(index, profile) for index in range(config.rounds) for profile in able]
    if not turns:
        return found
    with (
        alone(say),
        tempfile.TemporaryDirectory(prefix="sixfold-measure-") as name,
        progress("measure", len(turns), quiet=True) as work,
    ):
        folder = Path(name)
        np.savez(folder / PICTURES, *pictures_as_taken(images, config.pictures))
        least_reading_s = None
        for index, profile in turns:
            title = f"round {index + 1} of {config.rounds}, {profile.id}"
            if found[profile.id].why is not None:
                work.finish(title, "left out")
                continue
            work.start(title)
            round_started_s = time.perf_counter()
            job = _job(profile, files[profile.id], index, folder, config, least_reading_s, images.resize)
            try:
                result = in_fresh_process(job, ENTRY, folder, config.round_timeout_s)
            except RoundError as error:
                found[profile.id] = Rounds(why=str(error))
                say(f"measure: {profile.id}: {error}")
                work.finish(title, "failed", failed=True)
                continue
            least_reading_s = result.probe_s
            found[profile.id] = Rounds(results=(*found[profile.id].results, result))
            took = f"{len(job.files)} files in {duration(time.perf_counter() - round_started_s)}"
            if why := _contention(result):  # told at once, however soon after another line
                say(f"measure: {title}: {took}{why}")
            work.finish(title, took)
    found = {name: rounds.contended_by(least_reading_s) for name, rounds in found.items()}
    say(f"measure: {_repeated([result for rounds in found.values() for result in rounds.results])}")
    return found


@contextmanager
def alone(say: Say) -> Iterator[None]:
    """Held by one measurement of this machine at a time; the others say that they wait, and give up after an hour."""
    try:
        lock = FileLock(LOCK, mode=0o666)  # whoever measures next may be another user
        lock.acquire(timeout=0)
    except Timeout:
        say(f"measure: another measurement runs on this machine ({LOCK}); waiting for it")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout as error:
            raise RoundError(f"{LOCK}: still held after {LOCK_TIMEOUT_S:g} s; end the other measurement and try again") from error
    except OSError as error:
        raise RoundError(f"{LOCK}: cannot be locked ({error.strerror}); remove it, or name another folder in TMPDIR") from error
    try:
        yield
    finally:
        lock.release()


def why_not_here(profile: HardwareProfile) -> str | None:
    """Why this machine cannot measure the profile, or None."""
    if profile.machine != platform.machine():
        return f"this machine is {platform.machine()}, the profile is for {profile.machine}"
    try:
        choose_cores(profile.threads)
        runtime_version(profile.runtime)
    except (SessionError, ValueError) as error:
        return str(error)
    return None


def pictures_as_taken(images: Images, wanted: int) -> list[NDArray[np.uint8]]:
    """Some pictures, evenly spread over the split, scaled up to the size they were taken in: prepared data keeps them packed."""
    taken = []
    for row in np.linspace(0, len(images) - 1, min(wanted, len(images))).round().astype(int):
        fit, original = images.fits[row], images.ground_truth["images"][row]
        height_px, width_px = max(1, round(original["height"] * fit.scale_y)), max(1, round(original["width"] * fit.scale_x))
        content = images.pixels[row][fit.top_px : fit.top_px + height_px, fit.left_px : fit.left_px + width_px]
        taken.append(cv2.resize(np.ascontiguousarray(content), (original["width"], original["height"])))
    return [picture.astype(np.uint8) for picture in taken]


def order_seeds(config: Measure) -> tuple[int, ...]:
    """One per round: another order of files in every round, the same in every run."""
    return tuple(config.seed * 10_000 + index for index in range(config.rounds))


def _job(
    profile: HardwareProfile, files: tuple[File, ...], index: int, folder: Path, config: Measure, least_reading_s: float | None,
    resize: Resize,
) -> Job:  # fmt: skip
    return Job(
        runtime=profile.runtime,
        threads=profile.threads,
        cores=choose_cores(profile.threads),
        files=files,
        order_seed=order_seeds(config)[index],
        protocol=config.protocol(),
        pictures=str(folder / PICTURES),
        settings=config.settings(resize),
        result=str(folder / "result.json"),
        probe_s=least_reading_s,
    )


def _contention(result: RoundResult) -> str:
    """What to add to a round's line about blocks that had to be timed again, and about other work on the core; often nothing."""
    repeated = f", {_repeated([result])}" if any(block.repeats for block in result.blocks) else ""
    repeated += f", waited {result.waited_s:.0f} s for contention on the core to end" if result.waited_s >= SHORTEST_WAIT_S else ""
    shares = [block.cpu_share for block in result.blocks if block.cpu_share is not None]
    share = statistics.median(shares) if shares else 1.0
    if share >= QUIET_SHARE:
        return repeated
    return f"{repeated}; CONTENDED: other work took {1 - share:.0%} of the core, end it and measure again"


def _repeated(results: Sequence[RoundResult]) -> str:
    """For instance "12 of 640 blocks repeated, 1 still contended"."""
    blocks = [block for result in results for block in result.blocks]
    repeated = sum(block.repeats > 0 for block in blocks)
    contended = sum(block.contended for block in blocks)
    return f"{repeated} of {len(blocks)} blocks repeated, {contended} still contended"
