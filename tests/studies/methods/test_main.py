"""The command line of the study ends in one message where its input is wrong, and writes the page where it is not."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from compressors.planning.names import METHODS
from flows.publish.marked_page import marks
from studies.entry import run_app
from studies.finished_run import FinishedRun
from studies.methods.__main__ import app
from studies.methods.page import PART


@pytest.mark.parametrize("verb", ["seeds", "siblings", "page"])
def test_an_absent_run_names_the_command_that_makes_it(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one line, no traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["studies.methods", verb, "--run", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        run_app(app, "methods")
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "nowhere: no results/cells.json there. Run `make methods`" in lines[0]


def test_page_json_and_figures_are_written(
    methods_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One figure per method that is in the sweep; what has no seeds yet is told of with the command that makes them."""
    checkout = tmp_path / "checkout"
    shutil.copytree(methods_run.folder, checkout / "runs/methods")
    (checkout / "docs").mkdir()
    parts = (PART, *(f"{PART}:{own}" for own in METHODS))
    (checkout / "docs/methods.md").write_text("\n".join(mark for part in parts for mark in marks(part)))
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(sys, "argv", ["studies.methods", "page"])
    with pytest.raises(SystemExit) as ended:
        run_app(app, "methods")
    assert ended.value.code == 0
    assert sorted(path.stem for path in (checkout / "docs/methods").iterdir()) == ["distillation", "nas", "pruning", "quantization"]
    assert (checkout / "docs/methods.json").is_file()
    assert "| 1 | `taylor-0.5` |" in (checkout / "docs/methods.md").read_text()
    assert (
        "pruning: no seeds of these networks. Run `python -m studies.methods seeds --run runs/methods`." in capsys.readouterr().out
    )
