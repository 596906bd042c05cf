"""pruning: whole channels removed, those that matter least first."""

from __future__ import annotations

from compressors.pruning.method import Pruning, prune, refuse_out_of_reach

__all__ = ["Pruning", "prune", "refuse_out_of_reach"]
