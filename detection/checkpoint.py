"""A trained detector: its spec and its weights, as data. Nothing is pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from detection.family import Family, UnsetWeights, family_of
from detection.frozen import Digest, InputError
from detection.spec import Spec

SPEC_FILE = "spec.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Detector:
    """A spec with the weights that fit it; never changed once made."""

    spec: Spec
    weights: Mapping[str, Tensor]

    @property
    def family(self) -> Family:
        """What can be done with it, and how."""
        return family_of(self.spec)

    def network(self) -> nn.Module:
        """A fresh network with a copy of these weights, in evaluation mode, on the CPU."""
        with UnsetWeights():
            network = self.family.build(self.spec)
        network.load_state_dict({name: tensor.clone() for name, tensor in self.weights.items()})
        return network.eval()

    def at(self, input_size: tuple[int, int]) -> Detector:
        """The same weights for pictures of another size, (height, width) in pixels: convolutions fit any."""
        return self if input_size == self.spec.input_size else Detector(self.spec.at(input_size), self.weights)

    @property
    def digest(self) -> Digest:
        """sha256 over the spec and every weight."""
        content = hashlib.sha256(self.spec.model_dump_json(by_alias=True).encode())
        for name in sorted(self.weights):
            tensor = self.weights[name].contiguous()
            content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.numpy().tobytes())
        return content.hexdigest()


def fresh(spec: Spec, seed: int) -> Detector:
    """A detector as its family starts it; the same seed gives the same weights and leaves the global generator as it was."""
    return Detector(spec, MappingProxyType(dict(family_of(spec).start(spec, seed))))


def freeze(spec: Spec, network: nn.Module) -> Detector:
    """The detector a network is now; later changes of the network do not reach it."""
    state = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in network.state_dict().items()}
    return Detector(spec, MappingProxyType(state))


def inherit(teacher: Detector, detector: Detector) -> Detector:
    """The detector with the teacher's weights wherever name and shape agree; the rest keeps its own."""
    theirs = teacher.weights
    weights = {
        name: theirs[name] if name in theirs and theirs[name].shape == tensor.shape else tensor
        for name, tensor in detector.weights.items()
    }
    return Detector(detector.spec, MappingProxyType(weights))


def started(brought: Detector, spec: Spec, seed: int) -> Detector:
    """A detector of this spec that begins with the weights of the one brought; predictions of other classes are drawn anew.

    The specs may differ in classes and input size.
    """
    new = fresh(spec, seed)
    if brought.spec.classes == spec.classes:
        return inherit(brought, new)
    # What has another shape for one class more predicts classes; equal numbers of them may stand for different ones.
    other = fresh(spec.model_copy(update={"classes": (*spec.classes, "one more")}), seed).weights
    kept = {name: tensor for name, tensor in brought.weights.items() if other[name].shape == new.weights[name].shape}
    return inherit(Detector(brought.spec, kept), new)


def save(detector: Detector, folder: Path) -> None:
    """Write `spec.json` and `weights.safetensors` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(detector.weights), folder / WEIGHTS_FILE)
    (folder / SPEC_FILE).write_text(detector.spec.model_dump_json(by_alias=True, indent=1) + "\n")


def load(folder: Path) -> Detector:
    """The detector saved in a folder; InputError where there is none."""
    for name in (SPEC_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name} here, so no detector. Run `sixfold teacher` to train one.")
    try:
        spec, weights = load_spec(folder), load_file(folder / WEIGHTS_FILE)
    except SafetensorError as error:
        raise InputError(f"{folder}: broken ({str(error).splitlines()[0]}). Remove it and run the command that made it.") from error
    return Detector(spec, MappingProxyType(weights))


def load_spec(folder: Path) -> Spec:
    """The spec of the detector saved in a folder; InputError where it is broken."""
    try:
        return Spec.model_validate_json((folder / SPEC_FILE).read_text())
    except ValidationError as error:
        raise InputError(f"{folder}: broken ({str(error).splitlines()[0]}). Remove it and run the command that made it.") from error
