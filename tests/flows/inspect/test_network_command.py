"""The command `inspect` on a plan whose detector is a torch module."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.flows.cli_runner import Sixfold, refused
from tests.flows.sweep_factory import tiny_tree, write_params
from tests.places import ROOT

CODE = ROOT / "tests/module_detector/own_points.py"
TEACHER = {"training": tiny_tree()["teacher"]["training"]}


def made(folder: Path, prepared: Path, source: str) -> Path:
    """A folder with prepared data, a user's code and a plan."""
    shutil.copytree(prepared, folder / "data/prepared")
    (folder / CODE.name).write_text(source)
    write_params(folder, detector={"family": "own_points:family", "spec": {"width": 8}}, teacher=TEACHER)
    return folder


def test_promises_costs_and_what_can_be_narrowed(sixfold: Sixfold, tmp_path: Path, sweep_prepared: Path) -> None:
    """What was read, whether it holds, how large it is, which layers stay and why; then what int8 reaches and the estimates."""
    ended = sixfold(made(tmp_path, sweep_prepared, CODE.read_text()), "inspect", "--params", "params.yaml")
    assert (ended.code, ended.err) == (0, "")
    for said in (
        "own_points:family: files read: own_points.py",
        "with torch ",
        "own_points:family: 17 of 17 claims hold on 8 pictures of train",
        "0.01 M parameters, 0.00 GFLOP at 64 x 96",
        "4 of 6 convolutions and linear layers can be narrowed",
        "2 stay, network.score, network.sides: `protected` names them",
        "int8 reaches ",
        "timed here, untrained: onnxruntime takes ",
        "raspberry-pi-5",
    ):
        assert said in ended.out, said


def test_a_broken_promise_is_named(sixfold: Sixfold, tmp_path: Path, sweep_prepared: Path) -> None:
    """Scores without a sigmoid: every claim that does not hold in a line of its own, exit 2."""
    folder = made(tmp_path, sweep_prepared, CODE.read_text().replace("transpose(1, 2).sigmoid()", "transpose(1, 2)"))
    ended = sixfold(folder, "inspect", "--params", "params.yaml")
    assert ended.code == 2
    assert ended.err.startswith("sixfold: own_points:family: family 'module': ")
    assert "- predictions_are_boxes_and_scores: scores lie outside [0, 1]: apply the sigmoid in decode\n" in ended.err


def test_a_file_or_a_size_does_not_go_with_code(sixfold: Sixfold, tmp_path: Path, sweep_prepared: Path) -> None:
    """The plan says what is inspected."""
    folder = made(tmp_path, sweep_prepared, CODE.read_text())
    refused(sixfold(folder, "inspect", "--params", "params.yaml", "--write"), "has no file, size or --write")
