"""The stage `measure`: every cell's latency on every profile, timed where it can be and estimated where it cannot."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console
from rich.progress import Progress

from detection.dataset import Images
from detection.frozen import Frozen, InputError, PositiveInt, Share
from flows.latency_rows import Rounds, estimated_row, measured_row
from flows.records import CONTROL, CellRecord, CellsFile, LatencyFile, LatencyRow
from hardware_profiles.environment import digest_of, environment
from hardware_profiles.estimate import Operator
from hardware_profiles.measure import File, Job, Protocol, RoundError, RoundResult, choose_cores, in_fresh_process
from hardware_profiles.profile import HardwareProfile
from hardware_profiles.runtimes import SessionError, runtime_version

Report = Callable[[str], None]
LOCK = Path(tempfile.gettempdir()) / "sixfold-measure.lock"
"""One for the machine, not for the checkout: two measurements side by side spoil each other."""
LOCK_TIMEOUT_S = 3600.0
PICTURES = "pictures.npz"
QUIET_SHARE = 0.9
"""Of the core; with less for us in the median file, the round's times are too long. Alone it is 0.98 and more."""


class Measure(Frozen):
    """How latency is measured. The defaults take about two seconds a cell and host profile on one server core."""

    profiles: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "x86-onnxruntime-1t",
        "x86-openvino-1t",
        "raspberry-pi-5",
        "jetson-nano",
    )
    """Names of hardware profiles; `sixfold profiles` lists them."""
    rounds: PositiveInt = 5
    """Fresh processes per profile; the unit of repetition. Fewer than 3 give no interval."""
    timed_calls: PositiveInt = 30
    """Of the network alone, per file and round."""
    end_to_end_calls: PositiveInt = 5
    """With letterboxing and selection, per file and round."""
    warmup_calls: PositiveInt = 10
    warmup_s: Annotated[float, Field(ge=0.0)] = 0.02
    """Calls before timing go on until warmup_calls and warmup_s are both reached."""
    pictures: PositiveInt = 8
    """Pictures that the calls take turns with."""
    score_threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    """Of the selection in end-to-end time: what an application shows, not what mAP counts."""
    iou_threshold: Share = 0.6
    most_detections: PositiveInt = 100
    round_timeout_s: Annotated[float, Field(gt=0.0)] = 900.0
    seed: Annotated[int, Field(ge=0)] = 0
    """Orders the files of each round and draws the bootstrap."""

    def protocol(self) -> Protocol:
        """The part of the settings that decides whether two timings are comparable."""
        return Protocol(
            warmup_calls=self.warmup_calls,
            warmup_s=self.warmup_s,
            timed_calls=self.timed_calls,
            end_to_end_calls=self.end_to_end_calls,
        )

    def settings(self) -> dict[str, float]:
        """What the selection after the network needs."""
        return {
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "most_detections": self.most_detections,
        }


def measure(
    cells: CellsFile,
    profiles: Sequence[HardwareProfile],
    images: Images,
    config: Measure,
    observations: Path,
    fetch: Callable[[str], Path],
    operators_of: Callable[[CellRecord], Sequence[Operator]],
    report: Report = print,
) -> LatencyFile:
    """One row per (cell or reference, profile): measured on host profiles, estimated on the others.

    `fetch` gives the local file of a store URL, `operators_of` what the cell's network consists of. Every call times afresh;
    what it saw is also written under `observations`, beside what earlier calls saw.
    """
    if not images.picture_ids:
        raise InputError(f"split {images.split!r} holds no pictures; measuring needs real ones. Run `sixfold prepare` with some.")
    records = (*cells.cells, *cells.references)
    control = cells.cell(CONTROL)
    surroundings = environment()
    hosts = [profile for profile in profiles if profile.kind == "host"]
    files = {profile.id: _files(profile, records, fetch) for profile in hosts if _obstacle(profile) is None}
    rounds = _all_rounds(hosts, files, images, config, report)
    _write_observations(observations, rounds, surroundings, config)
    rows: list[LatencyRow] = []
    for profile in profiles:
        for record in records:
            if profile.kind == "host":
                rows.append(measured_row(record, control, profile, rounds[profile.id], environment=digest_of(surroundings)))
            else:
                rows.append(estimated_row(record, control, profile, operators_of))
    return LatencyFile(environment=surroundings, rows=tuple(rows))


def _all_rounds(
    profiles: Sequence[HardwareProfile], files: Mapping[str, tuple[File, ...]], images: Images, config: Measure, report: Report
) -> dict[str, Rounds]:
    """Profile -> its rounds or why there are none. Profiles take turns, so that a slow minute hits them all alike."""
    found = {profile.id: Rounds(why=_obstacle(profile)) for profile in profiles}
    turns = [(index, profile) for index in range(config.rounds) for profile in profiles if files.get(profile.id)]
    if not turns:
        return found
    with _alone(report), tempfile.TemporaryDirectory(prefix="sixfold-measure-") as name, _steps(len(turns), report) as step:
        folder = Path(name)
        np.savez(folder / PICTURES, *_as_taken(images, config.pictures))
        for index, profile in turns:
            if found[profile.id].why is not None:
                continue
            started_s = time.perf_counter()
            job = _job(profile, files[profile.id], index, folder, config)
            try:
                result = in_fresh_process(job, "flows.measure_round", folder, config.round_timeout_s)
            except RoundError as error:
                found[profile.id] = Rounds(why=str(error))
                report(f"measure: {profile.id}: {error}")
                continue
            found[profile.id] = Rounds(results=(*found[profile.id].results, result))
            took = f"{len(job.files)} files in {time.perf_counter() - started_s:.0f} s"
            step(f"measure: round {index + 1} of {config.rounds}, {profile.id}: {took}{_disturbed(result)}")
    return found


def _obstacle(profile: HardwareProfile) -> str | None:
    """Why this machine cannot measure the profile, or None."""
    if profile.machine != platform.machine():
        return f"this machine is {platform.machine()}, the profile is for {profile.machine}"
    try:
        choose_cores(profile.threads)
        runtime_version(profile.runtime)
    except (SessionError, ValueError) as error:
        return str(error)
    return None


def _files(profile: HardwareProfile, records: Sequence[CellRecord], fetch: Callable[[str], Path]) -> tuple[File, ...]:
    """Every distinct file of the profile's runtime, once: cells with equal digests share a file and its timing."""
    urls = {
        artifact.digest: artifact.url
        for record in records
        for runtime, artifact in record.artifacts.items()
        if runtime == profile.runtime and record.status == "ok"
    }
    return tuple(File(digest=digest, path=str(fetch(url))) for digest, url in sorted(urls.items()))


def _job(profile: HardwareProfile, files: tuple[File, ...], index: int, folder: Path, config: Measure) -> Job:
    return Job(
        runtime=profile.runtime,
        threads=profile.threads,
        cores=choose_cores(profile.threads),
        files=files,
        order_seed=config.seed * 10_000 + index,  # another order in every round, the same in every run
        protocol=config.protocol(),
        pictures=str(folder / PICTURES),
        settings=config.settings(),
        result=str(folder / "result.json"),
    )


def _disturbed(result: RoundResult) -> str:
    """What to add to a round's line when other processes had the core for a good part of it; empty otherwise."""
    shares = [block.cpu_share for block in result.blocks if block.cpu_share is not None]
    share = statistics.median(shares) if shares else 1.0
    return "" if share >= QUIET_SHARE else f"; DISTURBED: other work took {1 - share:.0%} of the core, end it and measure again"


def _as_taken(images: Images, wanted: int) -> list[NDArray[np.uint8]]:
    """Some pictures, evenly spread over the split, blown up to the size they were taken in: prepared data keeps them packed."""
    taken = []
    for row in np.linspace(0, len(images) - 1, min(wanted, len(images))).round().astype(int):
        fit, original = images.letterboxes[row], images.ground_truth["images"][row]
        height_px, width_px = max(1, round(original["height"] * fit.scale)), max(1, round(original["width"] * fit.scale))
        content = images.pixels[row][fit.top_px : fit.top_px + height_px, fit.left_px : fit.left_px + width_px]
        taken.append(cv2.resize(np.ascontiguousarray(content), (original["width"], original["height"])))
    return [picture.astype(np.uint8) for picture in taken]


def _write_observations(folder: Path, rounds: Mapping[str, Rounds], surroundings: Mapping[str, Any], config: Measure) -> None:
    """One new file per artifact and profile with all its blocks, under (digest, profile, environment, protocol); old ones stay."""
    protocol = config.protocol().model_dump() | config.settings()
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for profile, seen in rounds.items():
        for digest, blocks in _blocks(seen.results).items():
            place = folder / digest / profile / digest_of(surroundings) / digest_of(protocol)
            place.mkdir(parents=True, exist_ok=True)
            content = {
                "schema": 1,
                "artifact_digest": digest,
                "profile": profile,
                "environment": surroundings,
                "protocol": protocol,
                "measured_at": now,
                "rounds": blocks,
            }
            target = place / f"{now}-{uuid.uuid4().hex}.json"
            partial = target.with_suffix(".partial")
            partial.write_text(json.dumps(content, indent=1) + "\n")
            partial.replace(target)


def _blocks(results: Sequence[RoundResult]) -> dict[str, list[dict[str, Any]]]:
    blocks: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for block in result.blocks:
            blocks.setdefault(block.digest, []).append(block.model_dump())
    return blocks


@contextmanager
def _alone(report: Report) -> Iterator[None]:
    """Held by one measurement of this machine at a time; the others wait, and give up after an hour."""
    lock = FileLock(LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"measure: another measurement runs on this machine ({LOCK}); waiting for it")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout as error:
            raise RoundError(f"{LOCK}: still held after {LOCK_TIMEOUT_S:g} s; end the other measurement and try again") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _steps(total: int, report: Report) -> Iterator[Report]:
    """What to call after each round: moves a bar on a terminal, reports a line elsewhere. Nothing is drawn while a round runs."""
    if not sys.stderr.isatty():
        yield report
        return
    with Progress(console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("measure", total=total)

        def step(text: str) -> None:
            bar.update(task, advance=1, description=text, refresh=True)

        yield step
