"""Where the checkout lies, and the files beside it that some tests need."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
"""Real pictures, metric fixtures and device data. Tests that need them are skipped where they are absent."""
