"""Measurements are observations: appended to the store, never overwritten."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.records.files import write_text
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.round import RoundResult

SCHEMA = 2


@dataclass(frozen=True)
class Observations:
    """Where measurements lie in a store."""

    root: Path

    @property
    def latency(self) -> Path:
        """One file per artifact, profile, environment and protocol, of every measurement."""
        return self.root / "latency"

    @property
    def exports(self) -> Path:
        """The manifests of the folders that were exported for devices."""
        return self.root / "exports"

    @property
    def devices(self) -> Path:
        """What was imported from devices, whole."""
        return self.root / "devices"

    def append(
        self, profile: str, results: Sequence[RoundResult], environment: Mapping[str, Any], protocol: Mapping[str, Any]
    ) -> tuple[Path, ...]:
        """The new files, one per artifact with all its blocks, under (artifact digest, profile, environment, protocol).

        The last two are digests of what was given here: the whole of both stands in the file. Old files stay.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        blocks: dict[str, list[dict[str, Any]]] = {}
        for block in (block for result in results for block in result.blocks):
            blocks.setdefault(block.digest, []).append(block.model_dump())
        written = []
        for digest, rounds in blocks.items():
            content = {
                "schema": SCHEMA,
                "artifact_digest": digest,
                "profile": profile,
                "environment_digest": digest_of(environment),
                "environment": environment,
                "protocol": protocol,
                "measured_at": now,
                "rounds": rounds,
            }
            folder = self.latency / digest / profile / digest_of(environment) / digest_of(protocol)
            written.append(write_text(folder / f"{now}-{uuid.uuid4().hex}.json", json.dumps(content, indent=1) + "\n"))
        return tuple(written)
