"""nas: widths and depths searched for this data set, under a latency budget of the design profile."""

from __future__ import annotations

from compressors.nas.method import Nas, search
from compressors.nas.task import space_to_search

__all__ = ["Nas", "search", "space_to_search"]
