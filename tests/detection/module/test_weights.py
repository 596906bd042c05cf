"""Tests of reading the files that training scripts write: what they hold is found, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from detection.frozen import InputError
from detection.module.weights import read_weights


@pytest.fixture
def wanted() -> dict[str, Tensor]:
    """A small network's own."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()


def of_torch(folder: Path, content: Any) -> Path:
    """What torch.save makes of it."""
    torch.save(content, folder / "best.pth")
    return folder / "best.pth"


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Equal names in the same order, equal numbers."""
    return list(found) == list(wanted) and all(torch.equal(own, wanted[name]) for name, own in found.items())


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"epoch": 3, "state_dict": state, "lr": 0.1},
    lambda state: {"model": {"state_dict": {f"module.{name}": own for name, own in state.items()}}},
    lambda state: {"model": {name: own * 0 for name, own in state.items()}, "ema": state},
    lambda state: {f"_orig_mod.{name}": own for name, own in state.items()},
], ids=["plain", "in a record", "parallel", "average first", "compiled"])  # fmt: skip
def test_state_dicts_are_found_wherever_they_stand(wrap: Any, wanted: dict[str, Tensor], tmp_path: Path) -> None:
    """In a record of a training, behind the prefixes of wrappers; the average of the weights comes before the weights."""
    assert same(read_weights(of_torch(tmp_path, wrap(wanted)), wanted), wanted)


def test_safetensors_and_half_precision(wanted: dict[str, Tensor], tmp_path: Path) -> None:
    """Weights that were saved in half precision become the network's own type."""
    save_file({name: own.half() if own.is_floating_point() else own for name, own in wanted.items()}, tmp_path / "best.safetensors")
    found = read_weights(tmp_path / "best.safetensors", wanted)
    assert {name: own.dtype for name, own in found.items()} == {name: own.dtype for name, own in wanted.items()}


def test_what_does_not_fit_is_named(wanted: dict[str, Tensor], tmp_path: Path) -> None:
    """A missing name, an unknown one, another shape, no file, a whole module, and a file that is none."""
    weight = wanted["0.weight"]
    cases: list[tuple[Any, str]] = [
        ({name: own for name, own in wanted.items() if name != "0.bias"}, "missing 0.bias; nothing unknown"),
        (wanted | {"2.weight": weight}, "nothing missing; unknown 2.weight"),
        (wanted | {"0.weight": weight[:2]}, r"0.weight is \(2, 3, 3, 3\), the network has \(4, 3, 3, 3\)"),
        ({"epoch": 3}, "holds epoch, and no state dict under ema"),
        ([weight], "holds a list"),
        (nn.Conv2d(3, 4, 3), "whole pickled modules are not loaded"),
    ]
    for content, said in cases:
        with pytest.raises(InputError, match=said):
            read_weights(of_torch(tmp_path, content), wanted)
    (tmp_path / "none.pt").write_bytes(b"none")
    for name, said in (("none.pt", "not read"), ("absent.pt", "no such file")):
        with pytest.raises(InputError, match=said):
            read_weights(tmp_path / name, wanted)
