"""`sixfold retrain` and `sixfold compare` as they are typed: what they say, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.compare.retrain_text import read_seeds
from flows.records.schema import write_records
from flows.sweep import workspace
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.gate_factory import ROUNDS_S, latency_of, row_of
from tests.flows.sweep_factory import Sweep

CELL = "pruning+quantization"


def with_latency(sweep: Sweep) -> None:
    """Measured rows of the control and of a cell twice as fast."""
    files = {cell.cell: cell.artifacts["onnxruntime"].digest for cell in sweep.cells.cells}
    slow = tuple(2.0 * seconds for seconds in ROUNDS_S)
    rows = [row_of(name, rounds, slow, artifact_digest=files[name]) for name, rounds in (("none", slow), (CELL, ROUNDS_S))]
    write_records(sweep.folder / workspace.LATENCY, latency_of(*rows))


def test_retrain_begins_with_the_answer(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """The loss and its interval, then the table, then where the file lies and what comes next."""
    ended = sixfold(swept_copy.folder, "retrain", "--cell", CELL, "--seeds", "1", "--executor", "inline")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[1].startswith(f"In onnxruntime `{CELL}` ")
    assert lines[1].endswith("(one seed; 8 test pictures).")
    assert "test drop, pt" in ended.out
    assert lines[-2].startswith("seeds: results/seeds.json; ")
    assert lines[-1] == "Next: `make publish PLAN=...` in the checkout puts them on docs/results.md."
    assert read_seeds(swept_copy.folder / workspace.SEEDS).cell == CELL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cell", "zzz"), "none of the 8 cells"),
        ((), "Run `sixfold report` first"),
    ],
)
def test_retrain_refuses_in_one_line(arguments: tuple[str, ...], words: str, sixfold: Sixfold, swept: Sweep) -> None:
    """Exit 2, nothing on stdout, nothing written."""
    refused(sixfold(swept.folder, "retrain", *arguments), words)
    assert not (swept.folder / workspace.SEEDS).exists()


def test_compare_begins_with_the_answer(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Accuracy and size per runtime, speed per profile, then the table."""
    with_latency(swept_copy)
    ended = sixfold(swept_copy.folder, "compare", "none", CELL)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"In onnxruntime `{CELL}` ")
    assert lines[1] == f"On x86-1t `{CELL}` is 2.00x faster than `none` [2.00, 2.00]."
    assert lines[2:4] == ["A: none", f"B: {CELL}"]
    assert "2.000x the speed" in ended.out


def test_compare_prints_nothing_but_json_when_asked(sixfold: Sixfold, swept_copy: Sweep) -> None:
    """Another program reads it whole."""
    with_latency(swept_copy)
    ended = sixfold(swept_copy.folder, "compare", "none", CELL, "--json")
    found = json.loads(ended.out)
    assert (found["schema"], found["a"], found["b"]) == (2, "none", CELL)
    assert found["profiles"][0]["comparison"]["ratio"] == pytest.approx(2.0)
    assert found["profiles"][0]["is_equal_within_5_percent"] is False


def test_compare_without_latency_says_so(sixfold: Sixfold, swept: Sweep) -> None:
    """Before `sixfold measure`, accuracy and size are compared all the same."""
    ended = sixfold(swept.folder, "compare", "none", CELL)
    assert ended.code == 0
    assert "No profile has measured both in the same rounds, so nothing is said of their speed." in ended.out


def test_compare_refuses_in_one_line(sixfold: Sixfold, swept: Sweep, fresh: Path) -> None:
    """An unknown name, one name twice, and a folder without records."""
    refused(sixfold(swept.folder, "compare", "none", "prunning"), "'prunning': none of the 8 cells", "'pruning'")
    refused(sixfold(swept.folder, "compare", "none", "none"), "none: named twice")
    refused(sixfold(fresh, "compare", "none", "pruning"), "Run `sixfold grid` first.")
