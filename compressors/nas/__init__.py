"""nas: widths and depths searched for this data set, under a latency budget of the design profile."""

from __future__ import annotations

from compressors.nas.method import Nas, largest, search

__all__ = ["Nas", "largest", "search"]
