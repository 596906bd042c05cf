"""lightweight: blocks that need fewer multiply-adds for the same widths."""

from __future__ import annotations

from compressors.lightweight.method import Lightweight, light_blueprint, rebuild

__all__ = ["Lightweight", "light_blueprint", "rebuild"]
