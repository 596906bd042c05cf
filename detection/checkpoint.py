"""A trained detector: its blueprint and its weights, as data. Nothing is pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detection.compact.blueprint import Blueprint
from detection.compact.network import Network
from detection.frozen import Digest, InputError

BLUEPRINT_FILE = "blueprint.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Detector:
    """A blueprint with the weights that fit it; never changed once made."""

    blueprint: Blueprint
    weights: Mapping[str, Tensor]

    def network(self) -> Network:
        """A fresh network with a copy of these weights, in evaluation mode, on the CPU."""
        network = Network(self.blueprint)
        network.load_state_dict({name: tensor.clone() for name, tensor in self.weights.items()})
        return network.eval()

    def at(self, input_size: tuple[int, int]) -> Detector:
        """The same weights for pictures of another size, (height, width) in pixels: convolutions fit any."""
        return self if input_size == self.blueprint.input_size else Detector(self.blueprint.at(input_size), self.weights)

    @property
    def digest(self) -> Digest:
        """sha256 over the blueprint and every weight."""
        content = hashlib.sha256(self.blueprint.model_dump_json(by_alias=True).encode())
        for name in sorted(self.weights):
            tensor = self.weights[name].contiguous()
            content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.numpy().tobytes())
        return content.hexdigest()


def fresh(blueprint: Blueprint, seed: int) -> Detector:
    """A detector with random weights; the same seed gives the same weights and leaves the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return freeze(Network(blueprint))


def freeze(network: Network) -> Detector:
    """The detector a network is now; later changes of the network do not reach it."""
    state = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in network.state_dict().items()}
    return Detector(network.blueprint, MappingProxyType(state))


def save(detector: Detector, folder: Path) -> None:
    """Write `blueprint.json` and `weights.safetensors` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(detector.weights), folder / WEIGHTS_FILE)
    (folder / BLUEPRINT_FILE).write_text(detector.blueprint.model_dump_json(by_alias=True, indent=1) + "\n")


def load(folder: Path) -> Detector:
    """The detector saved in a folder; InputError where there is none."""
    for name in (BLUEPRINT_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name} here, so no detector. Run `sixfold teacher` to train one.")
    try:
        blueprint = Blueprint.model_validate_json((folder / BLUEPRINT_FILE).read_text())
        weights = load_file(folder / WEIGHTS_FILE)
    except (ValidationError, SafetensorError) as error:
        raise InputError(f"{folder}: broken ({str(error).splitlines()[0]}). Remove it and run the command that made it.") from error
    return Detector(blueprint, MappingProxyType(weights))
