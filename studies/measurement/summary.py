"""What the observations amount to: `docs/measurement.json`, from which the page is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from detection.frozen import Frozen, InputError
from studies.measurement.coverage import Coverage
from studies.measurement.intervals import Equivalence, Rate
from studies.measurement.ledger import Unit

SWEEP_FILES = 63
"""Cells beside the control in a sweep of six methods."""


class About(Frozen):
    """Where the numbers of a part come from."""

    command: str
    machines: tuple[str, ...]
    """CPU, cores and kernel of each machine that observations were made on."""
    versions: tuple[str, ...]
    """Of what was timed, for instance "onnxruntime 1.31.1"."""
    days: tuple[str, str] | None
    """The first and the last; None where the records have no date."""
    settings: dict[str, Any]


class CoveragePart(Frozen):
    """Coverage by simulation."""

    about: About
    results: tuple[Coverage, ...]


class FalseAlarms(Frozen):
    """Identical pairs of one runtime, and how many were called different."""

    runtime: str
    sessions: int
    """Real ones; 0 where the pairs are cells of one sweep."""
    rounds: int
    median_s: float
    """Of what was compared."""
    uncorrected: Rate
    """Pairs whose own interval excludes 1."""
    corrected: Rate
    """Pairs called "faster" or "slower" after Holm over their session."""
    sessions_with_alarm: Rate
    """Sessions with at least one such pair: pairs of a session share a control, sessions share nothing."""
    spread: float
    """Standard deviation of the ratio from round to round, pooled over the pairs."""


class IdenticalPart(Frozen):
    """Real A/A sessions."""

    about: About
    results: tuple[FalseAlarms, ...]
    blocks: int
    repeated_blocks: int
    disturbed_blocks: int


class SameGraphPart(Frozen):
    """Cells of a sweep that differ in the values of their weights alone."""

    about: About
    results: tuple[FalseAlarms, ...]


class Detection(Frozen):
    """One planted slowdown."""

    slower_by: float
    found: Rate
    """Trials called slower at 5 %, on their own."""
    called_faster: int
    measured: float
    """Mean slowdown as measured, a share."""
    measured_ci95: tuple[float, float]
    predicted: float
    """Share of trials that their spreads let expect."""


class PlantedPart(Frozen):
    """Planted slowdowns."""

    about: About
    runtime: str
    rounds: int
    median_s: float
    """Of the control."""
    results: tuple[Detection, ...]
    trial_spreads: tuple[float, ...]
    """Standard deviation of the ratio from round to round, pooled over the sizes of each trial."""
    minimal_effect: float
    """The slowdown, a share, that a comparison of one pair states to be noticed in 80 of 100 cases; median over the pairs."""
    minimal_effect_in_sweep: float
    """The same where SWEEP_FILES are compared with the control and nothing else differs."""
    own_effect_reached: Rate
    """Planted slowdowns at least as large as the minimal effect stated for their own pair: how many were noticed."""
    blocks: int
    repeated_blocks: int
    disturbed_blocks: int


class Agreement(Frozen):
    """Ours against LoadGen on one file; differences are ours over LoadGen's minus 1."""

    cell: str
    runtime: str
    ours_p50_s: float
    loadgen_p50_s: float
    p50: Equivalence
    p90: Equivalence


class LoadGenPart(Frozen):
    """Ours against LoadGen."""

    about: About
    queries: int
    results: tuple[Agreement, ...]


class Summary(Frozen):
    """All parts; None where a part was not observed yet."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    coverage: CoveragePart | None = None
    identical: IdenticalPart | None = None
    same_graph: SameGraphPart | None = None
    planted: PlantedPart | None = None
    loadgen: LoadGenPart | None = None


def about_units(units: Sequence[Unit], command: str) -> About:
    """Where the numbers of these units come from."""
    days = [unit.observed_at[:10] for unit in units]
    return about([unit.environment for unit in units], days, command, units[0].settings)


def about(surroundings: Sequence[dict[str, Any]], days: Sequence[str], command: str, settings: dict[str, Any]) -> About:
    """Where numbers come from that were observed in these environments on these days."""
    versions = {f"{package} {version}" for own in surroundings for package, version in own["versions"].items() if version}
    return About(
        command=command,
        machines=tuple(sorted({machine(own) for own in surroundings})),
        versions=tuple(sorted(versions)),
        days=(min(days), max(days)) if days else None,
        settings=settings,
    )


def machine(surroundings: dict[str, Any]) -> str:
    """One machine in words."""
    return f"{surroundings['cpu']}, {surroundings['cores']} cores, {surroundings['kernel']}"


def read_summary(path: Path) -> Summary:
    """The summary in a file, empty where there is none yet."""
    if not path.is_file():
        return Summary()
    try:
        return Summary.model_validate_json(path.read_text())
    except ValidationError as error:
        raise InputError(
            f"{path}: not a summary of this study ({error.errors()[0]['msg']}). Remove it and write it again."
        ) from error


def write_summary(path: Path, summary: Summary) -> None:
    """Write the summary, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(summary.model_dump_json(by_alias=True, indent=1) + "\n")
    partial.replace(path)
