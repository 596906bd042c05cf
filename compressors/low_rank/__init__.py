"""low_rank: convolutions replaced by products of smaller ones."""

from __future__ import annotations

from compressors.low_rank.method import LowRank, factor, refuse_out_of_reach

__all__ = ["LowRank", "factor", "refuse_out_of_reach"]
