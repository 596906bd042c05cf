"""What the study found, as docs/profiles.json keeps it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """What is written to docs/profiles.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Errors(Record):
    """Mean absolute percentage errors, as shares, on networks left out of the fit."""

    ours: float
    flops: float
    """Operations times one constant."""
    parameters: float
    """Parameters times one constant."""


class Coefficients(Record):
    """What the fit on all networks of a series found; null where it adds nothing that the times show."""

    rate_gops: float
    bandwidth_gbs: float | None
    op_overhead_us: float | None
    base_us: float | None


class PublishedFit(Record):
    """One device, runtime, precision and number of threads, from one source."""

    device: str
    runtime: str
    precision: str
    threads: str
    several_threads: bool | None
    source: str
    measured: int
    """Latencies; a network measured at several resolutions counts several times."""
    networks: int
    families: tuple[str, ...]
    per_operator: bool
    network_out: Errors
    family_out: Errors | None
    """None where the series has too few families to leave one out."""
    covered_90: float
    """Share of the left-out times inside the 90 % interval that the left-out errors of all others imply."""
    interval_factor: float
    coefficients: Coefficients
    profile: str | None

    @property
    def shipped_mape(self) -> float:
        """What the profile states: the error on families nobody measured where that is known."""
        return (self.family_out or self.network_out).ours
