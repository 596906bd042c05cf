"""Where each stage reads and writes, relative to the folder the command runs in."""

from __future__ import annotations

from pathlib import Path

PREPARED = Path("data/prepared")
TEACHER = Path("models/teacher")
BEST = Path("models/best")
CELLS = Path("results/cells.json")
LATENCY = Path("results/latency.json")
ENVIRONMENT = Path("results/environment.json")
REPORT = Path("results/report")
VERDICT = Path("results/check")
BASELINES = Path("baselines")
STAGE_TIMES = Path(".sixfold/stages.jsonl")
"""One line per stage that ran here, with its wall time."""
