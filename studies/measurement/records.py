"""The results of the study: `docs/measurement.json`, from which the page is written."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from detection.frozen import Frozen
from studies.measurement.intervals import Rate

SWEEP_FILES = 63
"""Cells compared with the control in a sweep of six methods."""


class About(Frozen):
    """Where the numbers of a part come from."""

    command: str
    machines: tuple[str, ...]
    """CPU, cores and kernel of each machine that observations were made on."""
    versions: tuple[str, ...]
    """Of what was timed, for instance "onnxruntime 1.31.1"."""
    days: tuple[str, str]
    """The first and the last."""
    settings: dict[str, Any]


class FalseAlarms(Frozen):
    """Identical pairs of one runtime, and how many were called different."""

    runtime: str
    sessions: int
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
    contended_blocks: int


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
    minimum_detectable_effect: float
    """The slowdown, a share, that a comparison of one pair states to detect in 80 of 100 cases; median over the pairs."""
    minimal_effect_in_sweep: float
    """The same where SWEEP_FILES are compared with the control and nothing else differs."""
    own_effect_reached: Rate
    """Planted slowdowns at least as large as the minimum detectable effect of their own pair: how many were found."""
    blocks: int
    repeated_blocks: int
    contended_blocks: int


class Summary(Frozen):
    """All parts; None where a part was not observed yet."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    identical: IdenticalPart | None = None
    planted: PlantedPart | None = None
