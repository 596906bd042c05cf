"""The command line of the study ends in one message where its input is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from studies.entry import run_app
from studies.measurement.__main__ import app


def test_wrong_input_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, what was found and what to do, no traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["studies.measurement", "observe", "--run", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        run_app(app, "measurement")
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "nowhere: no results/cells.json there. Run `make repro PLAN=plans/bccd.yaml`" in lines[0]
