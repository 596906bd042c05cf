"""low_rank: convolutions replaced by products of smaller ones."""

from __future__ import annotations

from compressors.low_rank.method import LowRank, factor

__all__ = ["LowRank", "factor"]
