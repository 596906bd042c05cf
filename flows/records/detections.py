"""Detections of one split, as the store and baselines keep them: a list of COCO results in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detection.frozen import DamagedError, InputError


def read_detections(path: Path) -> list[dict[str, Any]]:
    """COCO results from a file of the store; the command that makes a missing or damaged one again is named."""
    if not path.is_file():
        raise InputError(f"{path}: detections named in cells.json are not in the store. Run `sixfold grid` to make them again.")
    return parse_detections(path.read_bytes(), str(path))


def parse_detections(text: bytes, source: str) -> list[dict[str, Any]]:
    """COCO results from their JSON text; DamagedError names the source and the command that makes it again."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DamagedError(f"{source}: damaged ({error}). Run `sixfold grid` to make it again.") from error
    if not isinstance(found, list):
        raise InputError(f"{source}: a COCO result list is expected, found {type(found).__name__}. Run `sixfold grid` again.")
    return found
