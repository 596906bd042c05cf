"""`sixfold.load`: a compressed network as its author's own, which runs, trains and is exported without sixfold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import sixfold
from compressors.contract import Workbench
from compressors.low_rank import LowRank, factor
from compressors.pruning import Pruning, prune
from detection import checkpoint
from detection.brought import ModuleDetector
from detection.checkpoint import Detector, fresh
from detection.frozen import InputError
from detection.spec import Separated
from flows.sweep.given_network import network_spec
from tests.compressors.fixed_file_factory import fixed_detector
from tests.places import ROOT


@pytest.fixture(scope="module")
def edited(workbench: Workbench) -> Detector:
    """A user's tiny module with every kind of edit: a depthwise pair, fewer channels, factors."""
    asked = ModuleDetector(family="own_points:family", spec={"width": 8})
    tiny = workbench.teacher.spec
    spec = network_spec(asked, ROOT / "tests/module_detector", tiny.input_size, tiny.classes)
    detector = fresh(spec.edited(Separated(layers=("network.deep.0",))), 0)
    bench = Workbench(**(vars(workbench) | {"teacher": detector}))
    narrow, _ = prune(detector, Pruning(gradient_pictures=8, round_to=4), bench)
    factored, _ = factor(narrow, LowRank(energy=0.5, only_if_faster=False), bench)
    return factored


@pytest.fixture
def folder(edited: Detector, tmp_path: Path) -> Path:
    """Where it is saved."""
    checkpoint.save(edited, tmp_path / "kept")
    return tmp_path / "kept"


def images() -> Tensor:
    """Two pictures of noise."""
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_a_users_network_comes_back_as_the_user_wrote_it(edited: Detector, folder: Path) -> None:
    """All edits are in it, its outputs are the detector's own, and nothing of ours is around it or hooked into it."""
    assert [edit.edit for edit in edited.spec.edits] == ["separated", "kept_channels", "factored"]
    network = sixfold.load(folder)
    assert type(network).__name__ == "Points"
    assert not network.training
    assert not {type(own).__module__.partition(".")[0] for own in network.modules()} - {"own_points", "torch"}
    assert not [hook for own in network.modules() for hook in own._forward_hooks.values()]
    with torch.no_grad():
        expected, found = edited.network()(images()), network(images())
    assert all(torch.equal(own, right) for own, right in zip(found, expected.own, strict=True))


def test_a_network_that_came_back_trains(folder: Path) -> None:
    """Every parameter has a gradient and moves."""
    network = sixfold.load(str(folder)).train()
    before = {name: own.detach().clone() for name, own in network.named_parameters()}
    logits, sides = network(images())
    (logits.square().mean() + sides.square().mean()).backward()
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert not [name for name, own in network.named_parameters() if torch.equal(own, before[name])]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_that_came_back_is_exported_by_torch(folder: Path, tmp_path: Path) -> None:
    """torch.onnx alone writes it, and the file says what the network says."""
    network, path = sixfold.load(folder), tmp_path / "own.onnx"
    torch.onnx.export(network, (images(),), path, dynamo=False, input_names=["images"], output_names=["logits", "sides"])
    found = onnxruntime.InferenceSession(path).run(None, {"images": images().numpy()})
    for own, right in zip(found, network(images()), strict=True):
        np.testing.assert_allclose(own, right.detach().numpy(), atol=1e-4)


def test_our_own_family_gives_its_network(tiny_detector: Detector, tmp_path: Path) -> None:
    """The network itself, with the weights that were saved."""
    checkpoint.save(tiny_detector, tmp_path / "kept")
    network = sixfold.load(tmp_path / "kept")
    assert isinstance(network, nn.Module)
    found = network.state_dict()
    assert all(torch.equal(found[name], own) for name, own in tiny_detector.weights.items())


def test_folders_without_a_network_are_refused(tmp_path: Path) -> None:
    """The message says which folders have one; a detector that is a file has none."""
    with pytest.raises(InputError, match=r"no spec\.json and no weights\.safetensors here.*Name a folder of models/best"):
        sixfold.load(tmp_path)
    file = fixed_detector(tmp_path / "file.onnx", [((1, 2, 30, 20), (0.9,))], ("thing",))
    checkpoint.save(file, tmp_path / "kept")
    with pytest.raises(InputError, match=r"kept: the detector is an ONNX file, which has no torch network to give back"):
        sixfold.load(tmp_path / "kept")
