"""A supernet: one set of weights from which every network of a search space takes the front part."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from compressors.nas.space import draw
from detection.checkpoint import Detector
from detection.data.augmentation import batches
from detection.data.dataset import Images
from detection.family import Raw, SearchSpace, UnsetWeights, family_named
from detection.spec import Spec
from detection.training import Recipe, optimizer_of, strided_depthwise_in_float32, update


class Supernet:
    """Elastic widths and depths by slicing: a smaller network uses the first channels and the first blocks of the largest.

    One path is drawn per step (single path one-shot, arXiv:1904.00420, section 3.2). It works for families of which a prefix of
    every width is a working network: maps are added, not concatenated.
    """

    def __init__(self, start: Detector, device: torch.device) -> None:
        self.family, self.device = start.family, device
        counted = ("running_mean", "running_var", "num_batches_tracked")
        learned = {name: tensor for name, tensor in start.weights.items() if not name.endswith(counted)}
        self.weights = {name: nn.Parameter(tensor.to(device, copy=True)) for name, tensor in learned.items()}
        self._networks: dict[str, nn.Module] = {}

    def __getstate__(self) -> dict[str, object]:
        """What travels to another process: the weights, without the networks built so far, which are only shapes."""
        return self.__dict__ | {"_networks": {}, "family": self.family.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What arrives there; a family is a table of functions and goes by its name."""
        self.__dict__ |= state | {"family": family_named(state["family"])}

    def train(self, space: SearchSpace, train: Images, recipe: Recipe, epochs: int, seed: int) -> int:
        """Train along random paths; the pictures it took."""
        rng = np.random.default_rng((seed, 1))
        images, step, half = 0, 0, recipe.precision == "bfloat16"
        optimizer = optimizer_of(self.weights.values(), recipe)
        steps = epochs * math.ceil(len(train) / recipe.batch_size)
        for epoch in range(epochs):
            how = recipe.augmentation.at(epoch / epochs)
            for drawn in batches(train, rng.permutation(len(train)), recipe.batch_size, how, rng):
                batch = drawn.on(self.device)
                network = self._network(space.spec(draw(space, rng))).train()
                _, loss = self.family.learn(network, batch, half=half, forward=partial(self._run, network))
                rate = recipe.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
                update(optimizer, self.weights.values(), loss, rate)  # whole tensors outside the path are left alone
                images, step = images + len(batch.images), step + 1
        return images

    @torch.no_grad()
    def extract(self, spec: Spec, recalibration: Tensor) -> nn.Module:
        """The network of one spec on the supernet's device, its normalisation statistics taken afresh from pictures.

        The statistics of the supernet are those of no single path (the same paper, section 3.4). The pictures are
        (B, 3, height, width), on the same device.
        """
        with UnsetWeights():
            network = self.family.build(spec).to(self.device)
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

    def _run(self, network: nn.Module, images: Tensor) -> Raw:
        return functional_call(network, self._sliced(network), (images,))

    def _sliced(self, network: nn.Module) -> dict[str, Tensor]:
        shapes = {name: p.shape for name, p in network.named_parameters()}
        return {name: self.weights[name][tuple(slice(0, n) for n in shape)] for name, shape in shapes.items()}

    def _network(self, spec: Spec) -> nn.Module:
        """The network of a spec, built once: only its shape is used, its weights come from the supernet."""
        key = spec.model_dump_json()
        if key not in self._networks:
            if len(self._networks) >= 64:  # small spaces repeat; large ones must not fill the memory
                self._networks.pop(next(iter(self._networks)))
            with UnsetWeights():
                network = self.family.build(spec)
            strided_depthwise_in_float32(network)
            self._networks[key] = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._networks[key]
