"""The machine-wide lock of measurements."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

import flows.measure.host as host_module
from flows.measure.host import alone
from hardware_profiles.timing.round import RoundError
from tests.flows.rounds_factory import replace_lock


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not the machine's."""
    return replace_lock(monkeypatch, tmp_path)


def test_two_measurements_never_overlap(own_lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another holds the lock nobody gets in: the user is told, and after the timeout gets an error."""
    monkeypatch.setattr(host_module, "LOCK_TIMEOUT_S", 0.1)
    lines: list[str] = []
    entered = False
    with FileLock(own_lock), pytest.raises(RoundError, match=r"still held after 0\.1 s"), alone(lines.append):
        entered = True
    assert not entered
    assert "another measurement runs on this machine" in lines[0]


def test_it_is_given_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error inside, the next one gets in at once and hears nothing of waiting."""
    monkeypatch.setattr(host_module, "LOCK_TIMEOUT_S", 0.1)
    lines: list[str] = []
    with pytest.raises(ZeroDivisionError), alone(lines.append):
        raise ZeroDivisionError
    with alone(lines.append):
        pass
    assert lines == []


def test_a_lock_that_cannot_be_made_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback for a folder in its place, as for a file that belongs to another user: which one, and what to do."""
    monkeypatch.setattr(host_module, "LOCK", tmp_path)
    with pytest.raises(RoundError, match=r"cannot be locked .*name another folder in TMPDIR"), alone(print):
        pass
