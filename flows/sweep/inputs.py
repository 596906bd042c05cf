"""The stage `inputs`: what results depend on and DVC cannot see, in files that it can: the user's data, versions, profiles."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from compressors.planning.versions import NODE_SCHEMA, VERSIONS
from detection.data.dataset import Provenance, load_prepared
from detection.data.sources import provenance
from detection.frozen import DamagedError, InputError
from flows.records.files import write_text
from flows.sweep.context import choose_device, library_versions, profile_digest
from flows.sweep.given_teachers import given_teachers
from flows.sweep.params import Plan
from hardware_profiles.schema.library import load_host_cpu, load_profile

DATA, MAKING, MEASURING = "data.json", "making.json", "measuring.json"


def inputs(plan: Plan, folder: Path, prepared: Path) -> tuple[Path, ...]:
    """The files written: one for `prepare`, one for `teacher` and `grid`, one for `measure`. Equal inputs give equal files.

    Where the data set's files are not here, they count as those that the prepared folder was made from.
    """
    params, own = plan.params, plan.profiles_folder
    profiles = [load_profile(name, own) for name in params.measure.profiles]
    profiles += [other for profile in profiles if (other := load_host_cpu(profile, own)) is not None]
    found: dict[str, dict[str, Any]] = {
        DATA: _made_from(plan, prepared).model_dump(),
        MAKING: {
            "node_schema": NODE_SCHEMA,
            "versions": VERSIONS,
            "libraries": library_versions(),
            "device": choose_device(params.device).type,
            "design_profile": profile_digest(plan.design_profile),
            **({"teachers": [own.digest for own in teachers.values()]} if (teachers := given_teachers(plan)) else {}),
        },
        MEASURING: {
            "estimate": VERSIONS["estimate"],
            "profiles": {profile.id: profile.model_dump(mode="json", by_alias=True) for profile in profiles},
        },
    }
    return tuple(write_text(folder / name, json.dumps(own, indent=1, sort_keys=True) + "\n") for name, own in found.items())


def _made_from(plan: Plan, folder: Path) -> Provenance:
    wanted = provenance(plan.params.data, plan.base, plan.params.seed)
    with contextlib.suppress(InputError, DamagedError):  # `prepare` replaces what is damaged
        earlier = load_prepared(folder).made_from
        if wanted.files is None and earlier is not None and earlier.settings == wanted.settings:
            return earlier
    return wanted
