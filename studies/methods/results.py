"""What the study found, as docs/methods.json keeps it. Shares of 1 throughout; points of mAP are made for the page."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compressors.planning.names import MethodName
from detection.frozen import Frozen
from flows.compare.retrain_text import SeedsFile
from flows.records.schema import DatasetRecord, SpeedVerdict
from flows.stats.map_bootstrap import Difference
from studies.methods.subjects import Rivalry

Role = Literal["control", "variant", "reference"]
FoundBy = Literal["search", "random_search", "largest_macs"]


class Timing(Frozen):
    """Measured latency of one file on one profile; modelled times are not part of this study."""

    profile: str
    runtime: str
    """Name and version."""
    p50_s: float
    range_s: tuple[float, float]
    """Over the rounds."""
    rounds: int
    speedup: float | None
    """Control time over this file's: above 1 when it is faster."""
    speedup_ci95: tuple[float, float] | None
    verdict: SpeedVerdict | None
    smaller_not_faster: bool


class InRuntime(Frozen):
    """A network as a file of one runtime."""

    runtime: str
    size_bytes: int
    val_map: float
    test_map: float
    difference: Difference
    """Of test mAP, this one minus the control."""
    timings: tuple[Timing, ...] = ()


class Shown(Frozen):
    """A row of a table and a mark in a figure: the control, a variant of the method, or a reference."""

    name: str
    """Of the cell or reference in cells.json; of a float sibling its own."""
    label: str
    role: Role
    params: int
    macs: int
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    no_effect: bool = False
    """Whether the method had nothing to change."""
    inherited_images: int = 0
    """Pictures that trained what its weights come from, on top of what trained every cell."""
    runtimes: tuple[InRuntime, ...]

    def within(self, runtime: str) -> InRuntime | None:
        """Its numbers in one runtime, or None."""
        return next((own for own in self.runtimes if own.runtime == runtime), None)


class Comparison(Frozen):
    """A variant compared with the reference it has to beat, in one runtime."""

    variant: str
    """Its label; `rival` is that of the reference."""
    rival: str
    runtime: str
    difference: Difference
    """Of test mAP, the variant minus the reference."""
    profile: str | None = None
    """Where both were measured in the same rounds."""
    speed_ratio: float | None = None
    """The reference's time over the variant's, above 1 where the variant is faster."""
    speed_ratio_ci95: tuple[float, float] | None = None


class Found(Frozen):
    """One architecture that a search could have handed on."""

    by: FoundBy
    supernet_val_map: float
    estimated_latency_s: float
    macs: int


class Search(Frozen):
    """What a search chose, and what it would have been without one."""

    label: str
    design_profile: str
    budget_s: float
    found: tuple[Found, ...]


class MethodResult(Frozen):
    """All that the page shows of one method."""

    method: MethodName
    rivalry: Rivalry
    shown: tuple[Shown, ...]
    """Variants in the order of the menu, then references; the control stands in the summary."""
    comparisons: tuple[Comparison, ...] = ()
    searches: tuple[Search, ...] = ()
    seeds: SeedsFile | None = None
    """None where they have not been made."""
    missing: tuple[str, ...] = ()
    """Names of cells that were not made."""

    @property
    def variants(self) -> tuple[Shown, ...]:
        """Those of the method itself."""
        return tuple(own for own in self.shown if own.role == "variant")

    @property
    def references(self) -> tuple[Shown, ...]:
        """What the variants are compared with."""
        return tuple(own for own in self.shown if own.role == "reference")

    @property
    def marks(self) -> dict[str, str]:
        """Label -> the sign by which the figure and the tables know it: variants are numbered, references lettered."""
        numbers = {own.label: str(number) for number, own in enumerate(self.variants, start=1)}
        return numbers | {own.label: chr(ord("a") + number) for number, own in enumerate(self.references)}


class Summary(Frozen):
    """Everything that docs/methods.md shows."""

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    command: str
    sweep: str
    dataset: DatasetRecord
    seed: int
    machine: str
    bootstrap_draws: int
    bootstrap_seed: int
    control: Shown
    methods: tuple[MethodResult, ...]

    @property
    def runtimes(self) -> tuple[str, ...]:
        """In the order of the sweep."""
        return tuple(own.runtime for own in self.control.runtimes)
