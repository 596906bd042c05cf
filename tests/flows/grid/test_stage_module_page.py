"""The page on users' modules holds: its code keeps every promise, and goes with its plan through a grid and back."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from compressors.nas import Nas
from detection.adapted.network import NETWORK
from detection.brought import ModuleDetector
from detection.checkpoint import fresh
from detection.data.dataset import load_split
from detection.testing import CLAIMS, check_family
from flows.grid.forecast import forecast
from flows.grid.nodes import NODES
from flows.records.store import Store
from flows.sweep.given_network import network_spec
from flows.sweep.plan_checks import load_plan
from tests.flows.sweep_factory import Sweep, menu_of, run_grid, write_params
from tests.places import ROOT

PAGE = (ROOT / "docs/your-detector.md").read_text()
SECTION = PAGE[PAGE.index("\n## A torch module\n") : PAGE.index("\n## A detector of the transformers library\n")]


def blocks(language: str) -> list[str]:
    """The code of the section."""
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


def test_the_code_of_the_page_goes_through_a_grid(sweep_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the page's plan, with the tiny data's classes and in one epoch: from a user's weights to a pruned network, loaded back."""
    code, load = blocks("python")
    asked: dict[str, Any]
    asked, searches = map(yaml.safe_load, blocks("yaml"))
    assert [Nas.model_validate(own).inherits for own in searches["nas"]] == [True]
    train = load_split(sweep_prepared, "train")
    detector = asked["detector"] | {"classes": list(train.classes)}
    (tmp_path / "my_detector.py").write_text(code)
    spec = network_spec(ModuleDetector.model_validate(detector), tmp_path, (64, 96), train.classes)
    assert check_family(spec, train) == tuple(claim.__name__ for claim in CLAIMS)

    weights = {name.removeprefix(f"{NETWORK}."): tensor for name, tensor in fresh(spec, 0).weights.items()}
    save_file(weights, tmp_path / detector["weights"])
    teacher = {"training": asked["teacher"]["training"] | {"epochs": 1}}
    plan = load_plan(write_params(tmp_path, detector=detector, teacher=teacher, grid__methods=menu_of("pruning")))
    store = Store(tmp_path / "store")
    sweep = Sweep(tmp_path, plan, sweep_prepared, store, forecast(plan, sweep_prepared, store, None), -1, ())
    exit_code, said = run_grid(sweep)
    assert exit_code == 0, said
    assert [cell.cell for cell in sweep.cells.cells] == ["none", "pruning"]

    monkeypatch.chdir(tmp_path)
    (folder,) = re.findall(r'sixfold\.load\("(.*?)"\)', load)
    shutil.copytree(store.folder(NODES, sweep.cells.cells[1].node), folder)
    found: dict[str, Any] = {}
    exec(compile(load, "docs/your-detector.md", "exec"), found)
    logits, sides = found["network"](torch.zeros(1, 3, 64, 96))
    assert (logits.shape, sides.shape) == ((1, len(train.classes), 4, 6), (1, 4, 4, 6))
    params = sum(own.numel() for own in found["network"].parameters())
    assert params < sum(own.numel() for own in fresh(spec, 0).network().parameters())
