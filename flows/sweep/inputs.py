"""The stage `inputs`: a file per stage with what it depends on besides the stages before: params, the user's files, versions."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from compressors.planning.versions import NODE_SCHEMA, VERSIONS
from detection.data.dataset import Provenance, load_prepared
from detection.data.sources import provenance
from detection.frozen import DamagedError, Digest, InputError
from flows.progress import reading
from flows.records.files import write_text
from flows.sweep.context import choose_device, library_versions, profile_digest
from flows.sweep.given_teachers import given_teachers
from flows.sweep.params import Plan
from hardware_profiles.schema.library import load_host_cpu, load_profile

PARAMS: dict[str, set[str]] = {
    "teacher": {"seed", "device", "store", "detector", "teacher"},
    "grid": {"sweep", "seed", "device", "threads", "store", "grid"},
    "measure": {"sweep", "store", "measure"},
    "report": {"sweep", "store", "report"},
}
"""Stage -> the sections that it depends on, defaults included: DVC itself refuses a params file that lacks one. What `prepare`
depends on is in the provenance."""


def inputs(plan: Plan, folder: Path, prepared: Path) -> tuple[Path, ...]:
    """The files written, one per stage, in the order in which these run. Equal inputs give equal files.

    Where the data set's files are not here, they count as those that the prepared folder was made from.
    """
    params, own = plan.params, plan.profiles_folder
    profiles = [load_profile(name, own) for name in params.measure.profiles]
    profiles += [other for profile in profiles if (other := load_host_cpu(profile, own)) is not None]
    making = {
        "node_schema": NODE_SCHEMA,
        "versions": VERSIONS,
        "libraries": library_versions(),
        "device": choose_device(params.device).type,
        "design_profile": profile_digest(plan.design_profile),
    }
    unseen: dict[str, dict[str, Any]] = {
        "prepare": _made_from(plan, prepared).model_dump() | {"pixel_cache_bytes": params.data.pixel_cache_bytes},
        "teacher": making | {"given": plan.given and plan.given.digest, "code": _code_digest(plan)},
        "grid": making | {"teachers": [own.digest for own in given_teachers(plan).values()]},
        "measure": {
            "estimate": VERSIONS["estimate"],
            "profiles": {profile.id: profile.model_dump(mode="json", by_alias=True) for profile in profiles},
        },
        "report": {},
    }
    written = []
    for stage, about in unseen.items():
        found = about | {"params": params.model_dump(mode="json", include=PARAMS.get(stage, set()))}
        written.append(write_text(folder / f"{stage}.json", json.dumps(found, indent=1, sort_keys=True) + "\n"))
    return tuple(written)


def _code_digest(plan: Plan) -> Digest | None:
    """Of a network that code of others builds: of what it is built from."""
    if plan.params.network is None:
        return None
    return hashlib.sha256(plan.detector.model_dump_json(by_alias=True).encode()).hexdigest()


def _made_from(plan: Plan, folder: Path) -> Provenance:
    wanted = provenance(plan.params.data, plan.base, plan.params.seed, reading)
    with contextlib.suppress(InputError, DamagedError):  # `prepare` replaces what is damaged
        earlier = load_prepared(folder).made_from
        if wanted.files is None and earlier is not None and earlier.settings == wanted.settings:
            return earlier
    return wanted
