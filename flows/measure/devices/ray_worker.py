"""What a device that joined over Ray does for `measure`: unpack, time a round, clean up. Loads neither torch nor Ray."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.frozen import Frozen
from hardware_profiles.runtimes.table import SessionError, runtime_version
from hardware_profiles.timing.environment import environment
from hardware_profiles.timing.round import Job, RoundError, RoundResult, choose_cores, in_fresh_process

ENTRY = "flows.measure.worker"
"""The module that a round's fresh process runs; the same as on the machine at home."""


class Arrival(Frozen):
    """What a device says after unpacking."""

    environment: dict[str, Any]
    obstacle: str | None
    """Why it cannot measure the profile; there is no folder then."""
    folder: str | None
    """Where the files lie."""


class Answer(Frozen):
    """How a round on a device ended."""

    result: RoundResult | None
    error: str | None
    """Why there is no result."""


def unpack(contents: Mapping[str, bytes], machine: str, runtime: str, threads: int) -> str:
    """An Arrival as JSON, the files written into a new folder; with an obstacle nothing is written.

    Everything is on the disk when this returns, so that no writing goes on while a round is timed.
    """
    obstacle = _obstacle(machine, runtime, threads)
    if obstacle is not None:
        return Arrival(environment=environment(), obstacle=obstacle, folder=None).model_dump_json()
    folder = Path(tempfile.mkdtemp(prefix="sixfold-device-"))
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    os.sync()
    return Arrival(environment=environment(), obstacle=None, folder=str(folder)).model_dump_json()


def time_round(job: str, folder: str, timeout_s: float) -> str:
    """An Answer as JSON. The job's paths are relative to the folder; its cores are chosen here, among those of this device."""
    asked, here = Job.model_validate_json(job), Path(folder)
    own = asked.model_copy(
        update={
            "cores": choose_cores(asked.threads),
            "files": tuple(file.model_copy(update={"path": str(here / file.path)}) for file in asked.files),
            "pictures": str(here / asked.pictures),
            "result": str(here / asked.result),
        }
    )
    try:
        result = in_fresh_process(own, ENTRY, here, timeout_s)
    except RoundError as error:
        return Answer(result=None, error=str(error)).model_dump_json()
    return Answer(result=result, error=None).model_dump_json()


def clean_up(folder: str) -> str:
    """The folder, after what `unpack` wrote there was removed."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _obstacle(machine: str, runtime: str, threads: int) -> str | None:
    if platform.machine() != machine:
        return f"the device is {platform.machine()}, the profile is for {machine}; label the right machine, or correct the profile"
    try:
        choose_cores(threads)
        runtime_version(runtime)
    except (SessionError, ValueError) as error:
        return f"on the device: {error}"
    return None
