"""Differences whose draws are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.stats.map_bootstrap import NO_DIFFERENCE, paired_map_difference
from studies.methods import differences as module
from studies.methods.differences import Differences
from tests.flows.records_factory import digest

TRUTH: dict[str, Any] = {
    "images": [{"id": picture, "width": 200, "height": 100} for picture in range(1, 13)],
    "categories": [{"id": 1, "name": "disc"}],
    "annotations": [
        {"id": picture, "image_id": picture, "category_id": 1, "bbox": [0, 10, 20, 20], "area": 400, "iscrowd": 0}
        for picture in range(1, 13)
    ],
}
"""Twelve pictures with one box each."""


def found(picture: int, score: float) -> dict[str, Any]:
    """A detection right on the box."""
    return {"image_id": picture, "category_id": 1, "bbox": [0, 10, 20, 20], "score": score}


def write(folder: Path, name: str, pictures: range) -> Path:
    """Detections that are right in these pictures."""
    path = folder / name / "test.json"
    path.parent.mkdir()
    path.write_text(json.dumps([found(picture, 1.0 - picture / 100) for picture in pictures]))
    return path


def test_a_kept_draw_gives_the_paired_bootstrap_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both results are drawn once; afterwards nothing is drawn, and the difference is that of `paired_map_difference`."""
    a, b = write(tmp_path, "a", range(1, 7)), write(tmp_path, "b", range(1, 11))
    own = Differences(TRUTH, digest("truth"), tmp_path / "work", seed=2, draws=100)
    own.draw([a, b, a])
    assert len(list((tmp_path / "work").iterdir())) == 2
    monkeypatch.setattr(module, "drawn_aps", None)
    expected = paired_map_difference(TRUTH, json.loads(a.read_text()), json.loads(b.read_text()), seed=2, draws=100)
    assert Differences(TRUTH, digest("truth"), tmp_path / "work", seed=2, draws=100).between(a, b) == expected


def test_other_settings_are_other_draws(tmp_path: Path) -> None:
    """A seed, a number of draws, other pictures or other detections are never served from what is kept."""
    a, b = write(tmp_path, "a", range(1, 7)), write(tmp_path, "b", range(1, 11))
    for truth, seed, draws in (("one", 0, 20), ("two", 0, 20), ("one", 1, 20), ("one", 0, 30)):
        Differences(TRUTH, digest(truth), tmp_path / "work", seed=seed, draws=draws).draw([a])
    Differences(TRUTH, digest("one"), tmp_path / "work", seed=0, draws=20).draw([b])
    assert len(list((tmp_path / "work").iterdir())) == 5


def test_equal_detections_differ_in_nothing(tmp_path: Path) -> None:
    """Two files of the same bytes are not drawn at all."""
    a, b = write(tmp_path, "a", range(1, 7)), write(tmp_path, "b", range(1, 7))
    assert Differences(TRUTH, digest("truth"), tmp_path / "work", seed=0, draws=20).between(a, b) == NO_DIFFERENCE
    assert not (tmp_path / "work").exists()
