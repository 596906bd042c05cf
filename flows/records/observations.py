"""Measurements are observations: appended to the store, never overwritten."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.round import RoundResult

SCHEMA = 2


def append_observations(
    folder: Path, profile: str, results: Sequence[RoundResult], environment: Mapping[str, Any], protocol: Mapping[str, Any]
) -> tuple[Path, ...]:
    """The new files, one per artifact with all its blocks, under (artifact digest, profile, environment, protocol); old ones stay.

    The last two are digests of what was given here: the whole of both stands in the file.
    """
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    written = []
    for digest, blocks in _blocks(results).items():
        place = folder / digest / profile / digest_of(environment) / digest_of(protocol)
        place.mkdir(parents=True, exist_ok=True)
        content = {
            "schema": SCHEMA,
            "artifact_digest": digest,
            "profile": profile,
            "environment_digest": digest_of(environment),
            "environment": environment,
            "protocol": protocol,
            "measured_at": now,
            "rounds": blocks,
        }
        target = place / f"{now}-{uuid.uuid4().hex}.json"
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(target)
        written.append(target)
    return tuple(written)


def _blocks(results: Sequence[RoundResult]) -> dict[str, list[dict[str, Any]]]:
    blocks: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for block in result.blocks:
            blocks.setdefault(block.digest, []).append(block.model_dump())
    return blocks
