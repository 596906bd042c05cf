"""lightweight: blocks that need fewer multiply-adds for the same widths."""

from __future__ import annotations

from compressors.lightweight.method import Lightweight, light_spec, rebuild

__all__ = ["Lightweight", "light_spec", "rebuild"]
