"""A stopped study resumes where it was, and never mixes what is not comparable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from detection.frozen import Frozen, InputError
from studies.measurement.observations import Unit, complete, read_units


class Settings(Frozen):
    rounds: int = 8


class Counted(Unit):
    value: int


def counting(asked: list[str], stop_at: str = "") -> Any:
    def observe(name: str) -> Mapping[str, Any]:
        if name == stop_at:
            raise KeyboardInterrupt
        asked.append(name)
        return {"value": len(asked)}

    return observe


def test_a_stopped_study_resumes(tmp_path: Path) -> None:
    """What was observed before the stop is kept, and only the rest is observed afterwards."""
    asked: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        complete(tmp_path / "part", Counted, ("a", "b", "c"), Settings(), counting(asked, stop_at="c"))
    again: list[str] = []
    units = complete(tmp_path / "part", Counted, ("a", "b", "c"), Settings(), counting(again))
    assert asked == ["a", "b"]
    assert again == ["c"]
    assert [unit.name for unit in units] == ["a", "b", "c"]
    assert units == read_units(tmp_path / "part", Counted)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    """Units of 8 rounds and of 4 are not added up: the message says what differs, where, and what to do."""
    complete(tmp_path / "part", Counted, ("a",), Settings(), counting([]))
    with pytest.raises(InputError, match=r"part: a was observed with rounds 8, and 4 is wanted now\. Remove the folder"):
        complete(tmp_path / "part", Counted, ("a", "b"), Settings(rounds=4), counting([]))


def test_a_broken_observation_is_named(tmp_path: Path) -> None:
    """A file that is no observation is not skipped in silence."""
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"a\.json: of another version .* Remove it and run again"):
        read_units(tmp_path, Counted)


def test_progress_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is cached, and how many are done, as of all long work."""
    complete(tmp_path / "part", Counted, ("a",), Settings(), counting([]))
    complete(tmp_path / "part", Counted, ("a", "b", "c"), Settings(), counting([]))
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "part: 1 of 3 units are cached"
    assert "part: 2 of 2 units done in 0 s" in said.err
