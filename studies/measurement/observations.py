"""What a part of the study has observed: one file per unit of work, written whole, so that a study that was stopped resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from detection.frozen import Frozen, InputError, read_json
from flows.progress import duration, progress
from flows.records.schema import write_records
from hardware_profiles.timing.environment import environment


class Unit(Frozen):
    """One observation that is made in one go, and all that it depends on."""

    name: str
    settings: dict[str, Any]
    """What units of one part share; units of other settings are not comparable."""
    environment: dict[str, Any]
    observed_at: str
    """UTC, when it was finished."""
    wall_s: float


UnitType = TypeVar("UnitType", bound=Unit)


def complete(
    folder: Path, kind: type[UnitType], names: Sequence[str], settings: Frozen, observe: Callable[[str], Mapping[str, Any]]
) -> tuple[UnitType, ...]:
    """Every unit of the part: those in the folder are read, the named ones that are missing are observed now, in order.

    `observe` gives what a unit of this kind holds besides the common fields. InputError where the folder holds units of other
    settings: they would be mixed otherwise.
    """
    shared, part = settings.model_dump(mode="json"), folder.name
    known = read_units(folder, kind)
    for unit in known:
        if unit.settings != shared:
            differs = _difference(unit.settings, shared)
            raise InputError(f"{folder}: {unit.name} was observed {differs}. Remove the folder or give another --work.")
    missing = [name for name in names if name not in {unit.name for unit in known}]
    print(f"{part}: {len(names) - len(missing)} of {len(names)} units are cached")
    with progress(part, len(missing), "units", quiet=True) as work:
        for name in missing:
            started_s = time.monotonic()
            found = observe(name)
            unit = kind(
                name=name,
                settings=shared,
                environment=environment(),
                observed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                wall_s=round(time.monotonic() - started_s, 3),
                **found,
            )
            write_records(folder / f"{name}.json", unit)
            work.finish(name, f"in {duration(unit.wall_s)}")
    return read_units(folder, kind)


def read_units(folder: Path, kind: type[UnitType]) -> tuple[UnitType, ...]:
    """What was observed so far, in order of names; InputError where a file is not a unit of this kind."""
    return tuple(read_json(path, kind, "Remove it and run again.") for path in sorted(folder.glob("*.json")))


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first setting that differs, as text."""
    name = next(name for name in (*wanted, *found) if found.get(name) != wanted.get(name))
    return f"with {name} {found.get(name)!r}, and {wanted.get(name)!r} is wanted now"
