"""Tests of stored detections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detection.frozen import InputError
from flows.records.detections import read_detections
from tests.flows.store_factory import perfect_detections, pictures


def test_missing_detections_say_what_to_do(tmp_path: Path) -> None:
    """The message names the file and the command."""
    with pytest.raises(InputError, match=r"gone\.json.*sixfold grid"):
        read_detections(tmp_path / "gone.json")


def test_detections_are_read_as_stored(tmp_path: Path) -> None:
    """A COCO result list comes back unchanged."""
    stored = perfect_detections(pictures(count=2))
    (tmp_path / "test.json").write_text(json.dumps(stored))
    assert read_detections(tmp_path / "test.json") == stored
