"""From rounds to rows of `results/latency.json`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.records.schema import ArtifactRecord, CellRecord, LatencyRow, Source
from flows.stats.latency import log_ratio_interval
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.round import Block, RoundResult


@dataclass(frozen=True)
class Rounds:
    """All rounds of one profile, or why there are none."""

    results: tuple[RoundResult, ...] = ()
    why: str | None = None
    environment: Mapping[str, Any] | None = None
    """Of the device that was measured; None: this machine's."""

    def blocks(self, digest: str) -> tuple[Block, ...]:
        """What each round found about one file."""
        return tuple(block for result in self.results for block in result.blocks if block.digest == digest)

    def contended_by(self, least_s: float | None) -> Rounds:
        """With blocks contended by this least reading of the contention probe, which the first rounds did not have yet."""
        return self if least_s is None else replace(self, results=tuple(own.contended_by(least_s) for own in self.results))


def measured_row(
    record: CellRecord, control: CellRecord | None, profile: HardwareProfile, rounds: Rounds, *, environment: str
) -> LatencyRow:
    """The row of one cell on a host profile; where there is no number, `why` says why."""
    artifact = record.artifacts.get(profile.runtime)
    digest = artifact.digest if artifact else None
    blocks = rounds.blocks(digest) if digest else ()
    if why := _no_number(record, profile, artifact, blocks, rounds):
        return empty_row(record, profile, "measured", why=why, artifact_digest=digest, environment=environment)
    rounds_s = _known(block.p50_s for block in blocks)
    control_rounds_s, missing = _control_rounds(control, profile, rounds)
    reference = control.artifacts.get(profile.runtime) if control is not None else None
    same_file = reference is not None and reference.digest == digest
    speedup, interval = speedup_of(rounds_s, control_rounds_s, same_file) if control_rounds_s else (None, None)
    peak_bytes, budget_bytes = _median_bytes(block.peak_rss_bytes for block in blocks), profile.memory.budget_bytes
    fits = None if peak_bytes is None or budget_bytes is None else peak_bytes <= budget_bytes
    return empty_row(
        record,
        profile,
        "measured",
        artifact_digest=digest,
        environment=environment,
        rounds_s=rounds_s,
        control_rounds_s=control_rounds_s,
        p50_s=statistics.median(rounds_s),
        p90_s=_median(block.p90_s for block in blocks),
        speedup=speedup,
        speedup_ci95=interval,
        interval_s=(min(rounds_s), max(rounds_s)),
        end_to_end_p50_s=_median(block.end_to_end_p50_s for block in blocks),
        postprocess_p50_s=_median(block.postprocess_p50_s for block in blocks),
        load_s=_median(block.load_s for block in blocks),
        first_s=_median(block.first_s for block in blocks),
        peak_rss_bytes=peak_bytes,
        runtime_rss_bytes=_median_bytes(block.runtime_rss_bytes for block in blocks),
        repeated_blocks=sum(block.repeats > 0 for block in blocks),
        contended_blocks=sum(block.contended for block in blocks),
        fits=fits,
        why=f"needs {peak_bytes} bytes, {profile.id} allows {budget_bytes}" if fits is False else missing,
    )


def speedup_of(
    rounds_s: Sequence[float], control_rounds_s: Sequence[float], same_file: bool = False
) -> tuple[float, tuple[float, float] | None]:
    """Control time over cell time and its 95 % interval over the rounds; no interval where rounds are too few.

    The same file is exactly as fast as itself, however many rounds there were.
    """
    if same_file:
        return 1.0, (1.0, 1.0)
    found = log_ratio_interval(rounds_s, control_rounds_s)
    return found.ratio, found.interval


def _no_number(
    record: CellRecord, profile: HardwareProfile, artifact: ArtifactRecord | None, blocks: Sequence[Block], rounds: Rounds
) -> str | None:
    """The first reason why there is nothing to report, or None."""
    if record.status != "ok":
        return why_not_made(record)
    if artifact is None:
        return f"the cell has no file for {profile.runtime}"
    if rounds.why is not None:
        return rounds.why
    if not blocks:
        return f"no times of this file: it was not there when {profile.id} was measured; measure or export again"
    return next((block.error for block in blocks if block.error is not None), None)


def _control_rounds(control: CellRecord | None, profile: HardwareProfile, rounds: Rounds) -> tuple[tuple[float, ...], str | None]:
    """The control's medians in the same rounds, or nothing and why."""
    artifact = control.artifacts.get(profile.runtime) if control is not None and control.status == "ok" else None
    blocks = rounds.blocks(artifact.digest) if artifact else ()
    if not blocks or any(block.error is not None for block in blocks):
        return (), "no speedup: the control has no time on this profile"
    return _known(block.p50_s for block in blocks), None


def why_not_made(record: CellRecord) -> str:
    """Why a cell that failed or was skipped has no number."""
    return f"the cell {'failed' if record.status == 'failed' else 'was skipped'}: {record.error}"


def _median(values: Any) -> float | None:
    """Of the known ones; None where none is."""
    return statistics.median(known) if (known := _known(values)) else None


def _median_bytes(values: Any) -> int | None:
    """The same, in whole bytes."""
    middle = _median(values)
    return None if middle is None else round(middle)


def _known(values: Any) -> tuple[Any, ...]:
    return tuple(value for value in values if value is not None)


def empty_row(record: CellRecord, profile: HardwareProfile, source: Source, **known: Any) -> LatencyRow:
    """A row in which everything not given is empty; the runtime without its version."""
    return LatencyRow(cell=record.cell, profile=profile.id, source=source, runtime=profile.runtime, **known)
