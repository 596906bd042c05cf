"""Profiles of other machines: measured on one that joined over Ray, or by hand and imported; otherwise skipped, with the reason."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detection.data.dataset import Images
from flows.measure.devices.imported import newest_session
from flows.measure.devices.ray_worker import Answer, Arrival, clean_up, time_round, unpack
from flows.measure.host import pictures_as_taken
from flows.measure.measured_rows import Rounds
from flows.records.observations import append_observations
from flows.records.schema import CellRecord
from flows.sweep.measure_settings import Measure
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.calls import Picture
from hardware_profiles.timing.round import File, Job, RoundError, RoundResult
from hardware_profiles.timing.round import Protocol as TimingProtocol

PICTURES, RESULT = "pictures.npz", "result.json"
TRANSFER_TIMEOUT_S = 600.0
"""For sending and unpacking the files, a hundred megabytes over a slow network at worst."""
GRACE_S = 60.0
"""What an answer may take beyond the round itself: the start of a worker, and another measurement's hold of the slot."""


@dataclass(frozen=True)
class RoundPlan:
    """What is done on a device, the same there as here."""

    protocol: TimingProtocol
    settings: dict[str, float]
    """Of the selection of detections after the network."""
    order_seeds: tuple[int, ...]
    """One per round."""
    round_timeout_s: float
    pictures: tuple[Picture, ...]
    """(height, width, 3) as the camera gives them."""
    recorded: dict[str, Any]
    """What observations keep of the above."""


@dataclass(frozen=True)
class Observations:
    """Where measurements lie in the store."""

    root: Path

    @property
    def latency(self) -> Path:
        """One file per artifact, profile, environment and protocol, of every measurement."""
        return self.root / "latency"

    @property
    def exports(self) -> Path:
        """The manifests of what was exported."""
        return self.root / "exports"

    @property
    def sessions(self) -> Path:
        """What was imported, whole."""
        return self.root / "devices"


class Node(Protocol):
    """A joined machine: `flows.grid.ray_executor.DeviceNode`, or a test's stand-in."""

    def send(self, content: object) -> Any:
        """A handle to something large."""

    def run(self, work: Callable[..., str], *arguments: Any, timeout_s: float) -> str:
        """What the work returned over there."""


Joined = Callable[[], AbstractContextManager[Mapping[str, Node]]]


def round_plan(config: Measure, images: Images) -> RoundPlan:
    """What the params say, and pictures of the split."""
    return RoundPlan(
        protocol=config.protocol(),
        settings=config.settings(),
        order_seeds=tuple(config.seed * 10_000 + index for index in range(config.rounds)),  # as on the host
        round_timeout_s=config.round_timeout_s,
        pictures=tuple(pictures_as_taken(images, config.pictures)),
        recorded=config.recorded(),
    )


def device_rounds(
    profiles: Sequence[HardwareProfile],
    files: Mapping[str, tuple[File, ...]],
    *,
    control: CellRecord | None,
    plan: RoundPlan,
    observations: Observations,
    report: Callable[[str], None],
    joined: Joined | None = None,
) -> dict[str, Rounds]:
    """Profile -> the rounds of one device with its environment, or why there are none and what to do.

    A machine that has joined over Ray is measured now; failing that, the rounds imported last are taken, if they are of today's
    control. Rounds of different devices or environments never come together.
    """
    wanted = [profile for profile in profiles if files.get(profile.id)]
    found = _joined_rounds(wanted, files, plan, report, joined)
    for profile in wanted:
        if found[profile.id].results:
            append_observations(
                observations.latency,
                profile.id,
                found[profile.id].results,
                found[profile.id].environment or {},
                plan.recorded,
            )
            continue
        artifact = control.artifacts.get(profile.runtime) if control is not None else None
        imported = _imported(profile, artifact.digest if artifact else None, observations.sessions, report)
        found[profile.id] = imported if imported.results else Rounds(why=f"{found[profile.id].why}; {imported.why}")
        if not imported.results:
            report(f"measure: {profile.id}: not measured, estimated instead: {found[profile.id].why}")
    return found


def _joined_rounds(
    profiles: Sequence[HardwareProfile],
    files: Mapping[str, tuple[File, ...]],
    plan: RoundPlan,
    report: Callable[[str], None],
    joined: Joined | None,
) -> dict[str, Rounds]:
    """What machines that joined over Ray measured, or why they did not."""
    if not profiles:
        return {}
    from flows.grid.ray_executor import (  # loads torch: not before there is something to do
        ClusterError,
        join_command,
        joined_devices,
    )

    found: dict[str, Rounds] = {}
    try:
        with (joined or joined_devices)() as nodes:
            for profile in profiles:
                if profile.id not in nodes:
                    why = f"no node with device={profile.id}; on the device: {join_command(profile.id)}"
                    found[profile.id] = Rounds(why=why)
                    continue
                try:
                    found[profile.id] = _over_ray(nodes[profile.id], profile, files[profile.id], plan, report)
                except (ClusterError, RoundError) as error:
                    found[profile.id] = Rounds(why=str(error))
    except ClusterError as error:
        found = {profile.id: Rounds(why=str(error)) for profile in profiles} | found
    return found


def _over_ray(
    node: Node, profile: HardwareProfile, files: Sequence[File], plan: RoundPlan, report: Callable[[str], None]
) -> Rounds:
    """All rounds of one profile on the joined machine; RoundError where it cannot do what is asked."""
    from flows.grid.ray_executor import ClusterError

    parcel = node.send(_contents(files, plan.pictures))
    target = (profile.machine, profile.runtime, profile.threads)
    arrival = Arrival.model_validate_json(node.run(unpack, parcel, *target, timeout_s=TRANSFER_TIMEOUT_S))
    if arrival.folder is None:
        raise RoundError(arrival.obstacle or "the device did not unpack the files")
    results: list[RoundResult] = []
    try:
        for seed in plan.order_seeds:
            started_s = time.perf_counter()
            known_s = results[-1].yardstick_s if results else None
            job = _job(profile, files, seed, plan).model_copy(update={"yardstick_s": known_s}).model_dump_json()
            wait_s = plan.round_timeout_s + GRACE_S
            text = node.run(time_round, job, arrival.folder, plan.round_timeout_s, timeout_s=wait_s)
            answer = Answer.model_validate_json(text)
            if answer.result is None:
                raise RoundError(f"round {len(results) + 1} on the device: {answer.error}")
            results.append(answer.result)
            took = f"{len(files)} files in {time.perf_counter() - started_s:.0f} s"
            report(f"measure: round {len(results)} of {len(plan.order_seeds)}, {profile.id}, over Ray: {took}")
    finally:
        with suppress(ClusterError):  # the device may be gone, and that is said already
            node.run(clean_up, arrival.folder, timeout_s=GRACE_S)
    least_s = results[-1].yardstick_s if results else None
    return Rounds(results=tuple(results), environment=arrival.environment).judged_by(least_s)


def _imported(profile: HardwareProfile, control: str | None, sessions: Path, report: Callable[[str], None]) -> Rounds:
    """The rounds imported last, or why they are of no use and what to do."""
    session = newest_session(profile.id, sessions)
    if session is None:
        return Rounds(why=f"or by hand: {export_command(profile.id)}")
    if control is not None and control not in session.manifest.models:
        why = f"what was imported on {session.imported_at} is of another control, export again: {export_command(profile.id)}"
        return Rounds(why=why)
    about = f"{len(session.results.rounds)} rounds of {len(session.manifest.models)} files"
    report(f"measure: {profile.id}: {about}, imported on {session.imported_at}")
    return Rounds(results=session.rounds(), environment=session.results.environment)


@contextmanager
def nobody() -> Iterator[Mapping[str, Node]]:
    """For `joined`: no machine is asked, only imported rounds count."""
    yield {}


def export_command(name: str) -> str:
    """What to type here to measure a profile by hand."""
    return f"sixfold measure --export FOLDER --profile {name}"


def parts(path: Path) -> tuple[Path, ...]:
    """The files that belong to a model: itself, and the .bin beside an OpenVINO .xml."""
    return (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)


def place(file: File) -> str:
    """Where a model lies on a device, relative to the folder that was sent there."""
    return f"models/{file.digest}/{Path(file.path).name}"


def _contents(files: Sequence[File], pictures: Sequence[Picture]) -> dict[str, bytes]:
    packed = io.BytesIO()
    np.savez(packed, *pictures)
    models = {str(Path(place(file)).with_name(part.name)): part.read_bytes() for file in files for part in parts(Path(file.path))}
    return models | {PICTURES: packed.getvalue()}


def _job(profile: HardwareProfile, files: Sequence[File], seed: int, plan: RoundPlan) -> Job:
    """The round as the device gets it: every path relative, the cores left to the device."""
    return Job(
        runtime=profile.runtime,
        threads=profile.threads,
        cores=None,
        files=tuple(File(digest=file.digest, path=place(file)) for file in files),
        order_seed=seed,
        protocol=plan.protocol,
        pictures=PICTURES,
        settings=plan.settings,
        result=RESULT,
    )
