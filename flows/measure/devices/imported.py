"""Measurements that were made on a device: what went there, what came back, and the rounds that this amounts to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from detection.frozen import Digest, Frozen, InputError, PositiveInt
from flows.measure.measured_rows import Rounds
from flows.progress import Say
from flows.records.schema import ArtifactRecord
from hardware_profiles.timing.calls import difference, times_of
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.protocol import Protocol
from hardware_profiles.timing.round import Block, RoundResult

Nanoseconds = Annotated[int, Field(gt=0)]
Bytes = Annotated[int, Field(ge=0)]


class Model(Frozen):
    """One exported file."""

    path: str
    """Of the file to load, relative to the exported folder; an OpenVINO .xml has its .bin beside it."""
    inputs: str
    """Name of the array of pictures (N, ...), each as the file takes it."""
    cells: tuple[str, ...]
    """Names of the cells that share the file."""


class ExportManifest(Frozen):
    """`manifest.json` of an exported folder: all that the script there needs to know. Its digest names the export."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    sweep: str
    profile: str
    machine: str
    runtime: str
    threads: PositiveInt
    protocol: Protocol
    """End-to-end calls are not made on the device: resizing and selection are ours, and the script does without us."""
    order_seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """One per round."""
    control: Digest | None
    """Of the control's file; None where the sweep has none for this runtime."""
    models: dict[Digest, Model]
    files: dict[str, Digest]
    """Path of every exported file but this one -> sha256 of its bytes."""

    @property
    def digest(self) -> Digest:
        """sha256 of the content, as the script computes it from the JSON file."""
        return digest_of(self.model_dump(mode="json", by_alias=True))


class RawTimes(Frozen):
    """What the script saw of one model in one round."""

    load_ns: Nanoseconds
    first_ns: Nanoseconds
    calls_ns: tuple[Nanoseconds, ...]
    used_ns: Annotated[int, Field(ge=0)]
    """Processor time of all calls together."""
    steal_s: Annotated[float, Field(ge=0)] | None
    timed_s: Annotated[float, Field(gt=0)]
    repeats: Annotated[int, Field(ge=0)]
    held_bytes: Bytes | None
    """Before the model was opened."""
    peak_bytes: Bytes | None
    """The most while it was open."""


class RawBlock(Frozen):
    """One model in one round: its times, or why there are none."""

    digest: Digest
    position: Annotated[int, Field(ge=0)]
    error: str | None
    times: RawTimes | None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.error is None) == (self.times is None):
            raise ValueError("a block has either times or an error")
        return self


class RawRound(Frozen):
    """One fresh process on the device."""

    order_seed: int
    runtime_rss_bytes: Bytes | None
    blocks: tuple[RawBlock, ...]


class DeviceResults(Frozen):
    """`results.json` as the script writes it."""

    schema_version: Literal[1] = Field(alias="schema", serialization_alias="schema")
    profile: str
    manifest: Digest
    environment: dict[str, Any]
    started_at: str
    """By the device's clock."""
    files: dict[str, Digest]
    """As they were on the device after the last round."""
    rounds: tuple[RawRound, ...]
    digest: Digest
    """Of everything else."""


class DeviceSession(Frozen):
    """One imported measurement, whole: one device, one environment, one export."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    imported_at: str
    manifest: ExportManifest
    results: DeviceResults

    def rounds(self) -> tuple[RoundResult, ...]:
        """The rounds in the form in which this machine's own are kept; end-to-end numbers are None."""
        return tuple(_round(raw) for raw in self.results.rounds)


def session_file(session: DeviceSession, folder: Path) -> Path:
    """Where a session is kept: importing the same results again finds it there."""
    return folder / session.manifest.profile / f"{session.results.digest}.json"


def newest_session(profile: str, folder: Path) -> DeviceSession | None:
    """The session of a profile that was imported last, or None."""
    sessions = []
    for path in sorted((folder / profile).glob("*.json")):
        try:
            sessions.append(DeviceSession.model_validate_json(path.read_text()))
        except ValidationError as error:
            raise InputError(f"{path}: {_explain(error)}. Remove it and import the device's results again.") from error
    return max(sessions, key=lambda session: session.imported_at, default=None)


def imported_rounds(profile: str, control: ArtifactRecord | None, folder: Path, say: Say) -> Rounds:
    """The rounds that were imported last for a profile; or why there are none of today's control, and what to do.

    Rounds of different devices or environments never come together.
    """
    session = newest_session(profile, folder)
    if session is None:
        why = f"not measured on the device yet: {export_command(profile)}"
    elif control is not None and control.digest not in session.manifest.models:
        why = f"what was imported on {session.imported_at} is of another control, measure again: {export_command(profile)}"
    else:
        about = f"{len(session.results.rounds)} rounds of {len(session.manifest.models)} files"
        say(f"measure: {profile}: {about}, imported on {session.imported_at}")
        return Rounds(results=session.rounds(), environment=session.results.environment)
    say(f"measure: {profile}: estimated, {why}")
    return Rounds(why=why)


def export_command(profile: str) -> str:
    """What to type here to measure a profile on its device."""
    return f"`sixfold measure --export FOLDER --profile {profile}`, run it there, `sixfold measure --import results.json`"


def parse_results(path: Path) -> DeviceResults:
    """The content of a results.json, undamaged; InputError says what is wrong with it."""
    try:
        content = json.loads(path.read_text())
        results = DeviceResults.model_validate(content)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. The script writes {path.name} on the device, beside itself.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {_explain(error)}. Import the results.json that measure.py wrote, unchanged.") from error
    if digest_of({name: value for name, value in content.items() if name != "digest"}) != results.digest:
        raise InputError(f"{path}: differs from what the script wrote (its digest does not agree). Copy it from the device again.")
    return results


def mismatch(manifest: ExportManifest, results: DeviceResults) -> str | None:
    """Why these results are not those of this export, or None."""
    if results.profile != manifest.profile:
        return f"measures profile {results.profile}, the export was for {manifest.profile}"
    if changed := sorted(name for name, digest in manifest.files.items() if results.files.get(name) != digest):
        return f"{changed[0]} on the device was not the exported one ({len(changed)} of {len(manifest.files)} files differ)"
    machine = results.environment.get("machine")
    if machine != manifest.machine:
        return f"was made on a {machine} machine, the profile is for {manifest.machine}"
    seeds = tuple(own.order_seed for own in results.rounds)
    if seeds != manifest.order_seeds:
        return f"has rounds {list(seeds)}, the export asked for {list(manifest.order_seeds)}"
    for index, own in enumerate(results.rounds, start=1):
        digests = sorted(block.digest for block in own.blocks)
        if unknown := sorted(set(digests) - set(manifest.models)):
            return f"round {index} has times of {unknown[0]}, a file that was not exported"
        if digests != sorted(manifest.models):
            return f"round {index} has {len(digests)} blocks for {len(manifest.models)} models; each is timed once a round"
        calls = {len(block.times.calls_ns) for block in own.blocks if block.times is not None}
        if calls - {manifest.protocol.timed_calls}:
            return f"round {index} has blocks of {sorted(calls)} calls, the protocol asked for {manifest.protocol.timed_calls}"
    return None


def _round(raw: RawRound) -> RoundResult:
    """Memory as on the host: what the process held before the first model, plus what it grew by while this one was open."""
    known = [block.times.held_bytes for block in raw.blocks if block.times is not None and block.times.held_bytes is not None]
    baseline_bytes = known[0] if known else None
    blocks = tuple(_block(block, baseline_bytes, raw.runtime_rss_bytes) for block in raw.blocks)
    return RoundResult(blocks=blocks, runtime_rss_bytes=raw.runtime_rss_bytes)


def _block(raw: RawBlock, baseline_bytes: int | None, runtime_bytes: int | None) -> Block:
    if raw.times is None:
        return Block(digest=raw.digest, position=raw.position, error=raw.error)
    times = times_of(raw.times.calls_ns, raw.times.used_ns, raw.times.steal_s, raw.times.timed_s)
    grown_bytes = difference(raw.times.peak_bytes, raw.times.held_bytes)
    return Block(
        digest=raw.digest,
        position=raw.position,
        load_s=raw.times.load_ns * 1e-9,
        first_s=raw.times.first_ns * 1e-9,
        peak_rss_bytes=None if grown_bytes is None or baseline_bytes is None else baseline_bytes + grown_bytes,
        runtime_rss_bytes=runtime_bytes,
        repeats=raw.times.repeats,
        contended=times.contended,
        **times.kept(),
    )


def _explain(error: Exception) -> str:
    """The first problem of a validation with its place, or the error itself in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'content'}: {first['msg']} ({error.error_count()} problems)"
    return " ".join(str(error).split())
