"""Tests of stored detections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detection.frozen import DamagedError, InputError
from flows.records.store import read_detections
from tests.flows.store_factory import perfect_detections, pictures


@pytest.mark.parametrize(
    ("text", "what", "kind"),
    [("[{", "damaged", DamagedError), ('{"a": 1}', "a COCO result list is expected, found dict", InputError)],
)
def test_damaged_detections_say_what_to_do(text: str, what: str, kind: type[Exception], tmp_path: Path) -> None:
    """The message names the file, what is wrong with it, and the command."""
    (tmp_path / "test.json").write_text(text)
    with pytest.raises(kind, match=rf"test\.json: {what}.*sixfold grid"):
        read_detections(tmp_path / "test.json")


def test_detections_are_read_as_stored(tmp_path: Path) -> None:
    """A COCO result list comes back unchanged."""
    stored = perfect_detections(pictures(count=2))
    (tmp_path / "test.json").write_text(json.dumps(stored))
    assert read_detections(tmp_path / "test.json") == stored
