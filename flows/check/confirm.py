"""Fresh rounds of what looks slower or faster: the second look that the gate takes before it says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detection.data.dataset import Images, load_split
from flows.check.judge import Candidate, Confirm, Fresh
from flows.measure.devices.remote import Observations
from flows.measure.host import Report, host_rounds, why_not_here
from flows.measure.measured_rows import Rounds, measured_row
from flows.measure.stage import files_of
from flows.records.observations import append_observations
from flows.records.schema import CONTROL, CellRecord, CellsFile, LatencyFile
from flows.records.store import Store, StoreError
from flows.stats.latency import MIN_ROUNDS
from flows.sweep import workspace
from flows.sweep.measure_settings import Measure
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile, ProfileError
from hardware_profiles.timing.environment import digest_of, environment
from hardware_profiles.timing.round import File, RoundError

if TYPE_CHECKING:
    from flows.sweep.params import Plan


def confirmer(loaded: Plan, store: Store, cells: CellsFile, latency: LatencyFile) -> Confirm:
    """What the gate calls to have the workspace's cells measured again, as `sixfold measure` would."""
    return partial(
        measure_again,
        cells=cells,
        latency=latency,
        profile_of=lambda name: load_profile(name, loaded.profiles_folder),
        images_of=lambda: load_split(workspace.PREPARED, "val"),
        config=loaded.params.measure,
        observations=Observations(store.root / "observations").latency,
        fetch=store.file,
    )


def measure_again(
    candidates: Sequence[Candidate],
    cells: CellsFile,
    latency: LatencyFile,
    profile_of: Callable[[str], HardwareProfile],
    images_of: Callable[[], Images],
    config: Measure,
    observations: Path,
    fetch: Callable[[str], Path],
    report: Report = print,
) -> dict[Candidate, Fresh]:
    """For every candidate new rounds of its file and of the control's, or why they cannot be had here.

    At least MIN_ROUNDS rounds, in another order of files than before; what they saw is appended under `observations`.
    """
    surroundings = environment()
    found: dict[Candidate, Fresh] = {}
    profiles: dict[str, HardwareProfile] = {}
    files: dict[str, dict[str, File]] = {}
    for place in candidates:
        try:
            profile = _measurable(place, latency, profile_of, digest_of(surroundings))
            own = files_of(profile, _with_control(place, cells), fetch)
        except (_NotHereError, ProfileError, StoreError) as error:
            found[place] = Fresh(why=str(error))
            continue
        profiles[profile.id] = profile
        files.setdefault(profile.id, {}).update({file.digest: file for file in own})
    if not profiles:
        return found
    again = config.model_copy(update={"rounds": max(config.rounds, MIN_ROUNDS), "seed": config.seed + 1})
    left = len(candidates) - len(found)
    looks = "cell looks" if left == 1 else "cells look"
    report(f"check: {left} {looks} slower or faster; measuring again in {again.rounds} rounds")
    distinct = {name: tuple(own.values()) for name, own in files.items()}
    try:
        rounds = host_rounds(list(profiles.values()), distinct, images_of(), again, report)
    except RoundError as error:
        return found | {place: Fresh(why=str(error)) for place in candidates if place not in found}
    for name, seen in rounds.items():
        append_observations(observations, name, seen.results, surroundings, again.recorded())
    measured = [place for place in candidates if place not in found]
    here = digest_of(surroundings)
    return found | {place: _fresh(place, cells, profiles[place.profile], rounds[place.profile], here) for place in measured}


class _NotHereError(Exception):
    """The candidate cannot be measured by this machine."""


def _measurable(place: Candidate, latency: LatencyFile, profile_of: Callable[[str], HardwareProfile], here: str) -> HardwareProfile:
    """The candidate's profile, if this is where the sweep measured it."""
    profile = profile_of(place.profile)
    if profile.kind != "host":
        raise _NotHereError("measured on another device; `sixfold measure` with that device joined takes new rounds")
    if why := why_not_here(profile):
        raise _NotHereError(why)
    row = latency.row(place.cell, place.profile)
    if row is None or row.environment != here:
        raise _NotHereError("this is another machine, or has other runtimes, than the sweep was measured with")
    return profile


def _with_control(place: Candidate, cells: CellsFile) -> list[CellRecord]:
    control, own = cells.cell(CONTROL), cells.cell(place.cell)
    if control is None or own is None:
        raise _NotHereError("the sweep has no control to measure beside it")
    return [control, own]


def _fresh(place: Candidate, cells: CellsFile, profile: HardwareProfile, rounds: Rounds, here: str) -> Fresh:
    control, own = _with_control(place, cells)
    row = measured_row(own, control, profile, rounds, environment=here)
    return Fresh(row.rounds_s, row.control_rounds_s, row.why if not row.control_rounds_s else None)
