"""Detections of one split, as the store keeps them: a list of COCO results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detection.frozen import InputError


def read_detections(path: Path) -> list[dict[str, Any]]:
    """COCO results from a file of the store; InputError names the command that remakes a missing one."""
    if not path.is_file():
        raise InputError(f"{path}: detections named in cells.json are not in the store. Run `sixfold grid` to make them again.")
    found = json.loads(path.read_text())
    assert isinstance(found, list), f"{path} must hold a COCO result list"
    return found
