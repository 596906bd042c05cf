"""A supernet: one set of weights from which every architecture of a search space takes the front part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from compressors.nas.space import SearchSpace
from detection.checkpoint import Detector
from detection.compact.blueprint import Architecture, Blueprint
from detection.compact.losses import DetectionLoss
from detection.compact.network import Network, Outputs
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.training import BETAS, GRADIENT_NORM, Recipe, decay_groups, on_device


class Supernet:
    """Elastic widths and depths by slicing: a smaller architecture uses the first channels and the first blocks of the largest.

    One path is drawn per step (single path one-shot, arXiv:1904.00420, section 3.2). The pyramid is fused by addition, so a
    prefix of every width is a working network.
    """

    def __init__(self, start: Detector, device: torch.device) -> None:
        self.blueprint, self.device = start.blueprint, device
        self.weights = {
            name: nn.Parameter(tensor.to(device, copy=True)) for name, tensor in start.weights.items() if _is_learned(name)
        }
        self._networks: dict[str, Network] = {}

    def __getstate__(self) -> dict[str, object]:
        """What travels to another process: the weights, without the networks built so far, which are only shapes."""
        return self.__dict__ | {"_networks": {}}

    def train(self, space: SearchSpace, train: Images, recipe: Recipe, epochs: int, seed: int) -> int:
        """Train along random paths; the pictures it took."""
        rng = np.random.default_rng((seed, 1))
        loss, images, step = DetectionLoss(), 0, 0
        groups = decay_groups(self.weights.values(), recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=BETAS, foreach=True)
        steps = epochs * math.ceil(len(train) / recipe.batch_size)
        for _ in range(epochs):
            order = rng.permutation(len(train))
            for start in range(0, len(order), recipe.batch_size):
                drawn = make_batch(train, order[start : start + recipe.batch_size], recipe.augmentation, rng)
                batch = on_device(drawn, self.device)
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
                network = self._network(space.architecture(draw(space, rng))).train()
                outputs = self._run(network, batch.images, recipe)
                optimizer.zero_grad(set_to_none=True)
                loss(network, outputs, batch).backward()  # type: ignore[no-untyped-call]
                # Whole tensors outside the path have no gradient and are left alone by the optimizer.
                nn.utils.clip_grad_norm_([p for p in self.weights.values() if p.grad is not None], GRADIENT_NORM)
                optimizer.step()
                images, step = images + len(batch.images), step + 1
        return images

    @torch.no_grad()
    def extract(self, architecture: Architecture, recalibration: Tensor) -> Network:
        """The network of one architecture on the supernet's device, its normalisation statistics taken afresh from pictures.

        The statistics of the supernet are those of no single path (the same paper, section 3.4). The pictures are
        (B, 3, height, width), on the same device.
        """
        network = Network(self._blueprint(architecture)).to(self.device)
        weights = self._sliced(network)
        network.load_state_dict(weights | {n: t for n, t in network.state_dict().items() if n not in weights})
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # a plain mean over the batches
        network.train()
        for chunk in torch.split(recalibration, 16):
            network(chunk)
        return network.eval()

    def _run(self, network: Network, images: Tensor, recipe: Recipe) -> Outputs:
        half = recipe.precision == "bfloat16"
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
            outputs: Outputs = functional_call(network, self._sliced(network), (images,))
        return outputs

    def _sliced(self, network: Network) -> dict[str, Tensor]:
        shapes = {name: p.shape for name, p in network.named_parameters()}
        return {name: self.weights[name][tuple(slice(0, n) for n in shape)] for name, shape in shapes.items()}

    def _network(self, architecture: Architecture) -> Network:
        """The network of an architecture, built once: only its shape is used, its weights come from the supernet."""
        key = architecture.model_dump_json()
        if key not in self._networks:
            if len(self._networks) >= 64:  # small spaces repeat; large ones must not fill the memory
                self._networks.pop(next(iter(self._networks)))
            network = Network(self._blueprint(architecture))
            self._networks[key] = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._networks[key]

    def _blueprint(self, architecture: Architecture) -> Blueprint:
        return self.blueprint.model_copy(update={"architecture": architecture})


def draw(space: SearchSpace, rng: np.random.Generator) -> dict[str, int]:
    """A choice drawn uniformly from the space."""
    return {name: int(options[rng.integers(len(options))]) for name, options in space.options().items()}


def inherit(teacher: Detector, detector: Detector) -> Detector:
    """The detector with the teacher's weights wherever name and shape agree; the rest keeps its own."""
    taught: Mapping[str, Tensor] = teacher.weights
    weights = {
        name: taught[name] if name in taught and taught[name].shape == tensor.shape else tensor
        for name, tensor in detector.weights.items()
    }
    return Detector(detector.blueprint, MappingProxyType(weights))


def _is_learned(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
