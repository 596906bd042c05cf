"""Fresh rounds of what looks slower or faster: the second look that the gate takes before it says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from flows.measure.devices.imported import export_command
from flows.measure.host import host_rounds, why_not_here
from flows.measure.measured_rows import measured_row
from flows.measure.session import MeasureSession
from flows.progress import Say
from flows.records.schema import CONTROL, CellRecord, CellsFile, LatencyFile, LatencyRow
from flows.records.store import StoreError
from flows.stats.latency import MIN_ROUNDS
from hardware_profiles.schema.profile import HardwareProfile, ProfileError
from hardware_profiles.timing.environment import digest_of, environment
from hardware_profiles.timing.round import File, RoundError


class Candidate(NamedTuple):
    """What looked slower or faster, and is to be measured again."""

    cell: str
    profile: str


Confirm = Callable[[Sequence[Candidate]], Mapping[Candidate, LatencyRow | str]]
"""Measures again: a row of fresh rounds, or why there is none. A candidate that is not returned could not be measured."""


def measure_again(
    candidates: Sequence[Candidate], session: MeasureSession, latency: LatencyFile, say: Say = print
) -> dict[Candidate, LatencyRow | str]:
    """For every candidate new rounds of its file and of the control's, as `sixfold measure` would, or why they cannot be had here.

    At least MIN_ROUNDS rounds, in another order of files than before; what they saw is appended to the store's observations.
    """
    surroundings = environment()
    here = digest_of(surroundings)
    found: dict[Candidate, LatencyRow | str] = {}
    profiles: dict[str, HardwareProfile] = {}
    files: dict[str, dict[str, File]] = {}
    for place in candidates:
        try:
            profile = _measurable(place, session, latency, here)
            own = session.files(profile, _with_control(place, session.cells))
        except (_NotHereError, ProfileError, StoreError) as error:
            found[place] = str(error)
            continue
        profiles[profile.id] = profile
        files.setdefault(profile.id, {}).update({file.digest: file for file in own})
    measured = [place for place in candidates if place not in found]
    if not measured:
        return found
    config = session.config
    again = config.model_copy(update={"rounds": max(config.rounds, MIN_ROUNDS), "seed": config.seed + 1})
    looks = "cell looks" if len(measured) == 1 else "cells look"
    say(f"check: {len(measured)} {looks} slower or faster; measuring again in {again.rounds} rounds")
    distinct = {name: tuple(own.values()) for name, own in files.items()}
    try:
        rounds = host_rounds(list(profiles.values()), distinct, session.images, again, say)
    except RoundError as error:
        return found | dict.fromkeys(measured, str(error))
    for name, seen in rounds.items():
        session.observations.append(name, seen.results, surroundings, again.recorded())
    for place in measured:
        control, cell = _with_control(place, session.cells)
        found[place] = measured_row(cell, control, profiles[place.profile], rounds[place.profile], environment=here)
    return found


class _NotHereError(Exception):
    """The candidate cannot be measured by this machine."""


def _measurable(place: Candidate, session: MeasureSession, latency: LatencyFile, here: str) -> HardwareProfile:
    """The candidate's profile, if this is where the sweep measured it."""
    (profile,) = session.profiles((place.profile,))
    if profile.kind != "host":
        raise _NotHereError(f"measured on another device; measure there again: {export_command(profile.id)}")
    if why := why_not_here(profile):
        raise _NotHereError(why)
    row = latency.row(place.cell, place.profile)
    if row is None or row.environment != here:
        raise _NotHereError("this is another machine, or has other runtimes, than the sweep was measured with")
    return profile


def _with_control(place: Candidate, cells: CellsFile) -> list[CellRecord]:
    control, own = cells.cell(CONTROL), cells.cell(place.cell)
    if control is None or own is None:
        raise _NotHereError("the sweep has no control to measure along with it")
    return [control, own]
