"""What a search that trained networks to check itself found; light to import, since records hold it."""

from __future__ import annotations

from detection.frozen import Frozen


class RankingCheck(Frozen):
    """How a search's ranking of networks agrees with what they reach when they are trained."""

    networks: int
    tau: float
    """Kendall's, with the ends of its 95 % interval."""
    low: float
    high: float

    @property
    def is_chance(self) -> bool:
        """Whether the interval holds 0 or less, so that the search may as well have drawn at random."""
        return self.low <= 0

    def words(self) -> str:
        """For records and pages."""
        return f"tau {self.tau:+.2f} [{self.low:+.2f}, {self.high:+.2f}] over {self.networks} trained networks"
