"""A supernet: one set of weights from which every network of a search space takes its part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from compressors.nas.group_space import GroupSpace
from compressors.nas.space import draw, smallest
from detection.checkpoint import Detector
from detection.data.dataset import Images
from detection.family import Batch, Raw, SearchSpace, UnsetWeights, family_named
from detection.spec import Spec
from detection.training import Recipe, drawing, optimizer_of, rate_factors, shuffled, strided_depthwise_in_float32, update

SANDWICH = 3
"""Networks that a step of a sandwich sees."""
Part = Callable[[nn.Module, Spec, Mapping[str, Tensor]], dict[str, Tensor]]
"""(a network of the space, its spec, the weights of the largest) -> its own weights; gradients reach the whole."""


def front_part(network: nn.Module, _spec: Spec, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first channels of every layer: for families of which a prefix of every width is a working network."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    return {name: weights[name][tuple(slice(0, n) for n in shape)] for name, shape in shapes.items()}


def group_part(space: GroupSpace, _network: nn.Module, spec: Spec, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The most important units of every channel group."""
    return space.weights(spec, weights)


class Supernet:
    """Elastic widths and depths: a smaller network uses a part of the channels and of the blocks of the largest.

    One path is drawn per step (single path one-shot, arXiv:1904.00420, section 3.2). With `sandwich` each step also sees the
    largest and the smallest network, whose accuracies bound the others' (universally slimmable networks, arXiv:1903.05134, section
    3.3): weights that are trained already then stay good for the largest.
    """

    def __init__(self, start: Detector, device: torch.device, part: Part = front_part, *, sandwich: bool = False) -> None:
        self.family, self.device, self.part, self.sandwich = start.family, device, part, sandwich
        learned = {name for name, _ in start.network().named_parameters()}
        copies = {name: tensor.to(device, copy=True) for name, tensor in start.weights.items()}
        self.weights = {name: nn.Parameter(tensor) for name, tensor in copies.items() if name in learned}
        self.buffers = {name: tensor for name, tensor in copies.items() if name not in learned}
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
        factors = rate_factors(self.family, self._network(space.largest), self.weights.items())
        optimizer = optimizer_of(self.weights.values(), recipe, factors)
        steps = epochs * math.ceil(len(train) / recipe.batch_size)
        with drawing(self.device, seed, 1):
            for epoch in range(epochs):
                for drawn in shuffled(space.largest, train, recipe, epoch / epochs, rng):
                    batch, paths = drawn.on(self.device), self._paths(space, rng)
                    loss = torch.stack([self._loss(spec, batch, half) for spec in paths]).mean()
                    rate = recipe.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
                    update(optimizer, self.weights.values(), loss, rate)  # whole tensors outside the paths are left alone
                    images, step = images + len(paths) * len(batch.images), step + 1
        return images

    @torch.no_grad()
    def extract(self, spec: Spec, recalibration: Tensor) -> nn.Module:
        """The network of one spec on the supernet's device, its normalisation statistics taken afresh from pictures.

        The statistics of the supernet are those of no single path (the same paper, section 3.4). The pictures are
        (B, 3, height, width), on the same device.
        """
        with UnsetWeights():
            network = self.family.build(spec).to(self.device)
        weights = self.part(network, spec, self.weights | self.buffers)
        network.load_state_dict({name: weights.get(name, own) for name, own in network.state_dict().items()})
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # a plain mean over the batches
        network.train()
        for chunk in torch.split(recalibration, 16):
            network(chunk)
        return network.eval()

    def _paths(self, space: SearchSpace, rng: np.random.Generator) -> list[Spec]:
        drawn = space.spec(draw(space, rng))
        return [space.largest, space.spec(smallest(space)), drawn] if self.sandwich else [drawn]

    def _loss(self, spec: Spec, batch: Batch, half: bool) -> Tensor:
        network = self._network(spec).train()

        def forward(images: Tensor) -> Raw:
            return functional_call(network, self.part(network, spec, self.weights | self.buffers), (images,))

        _, loss = self.family.learn(network, batch, half=half, forward=forward)
        return loss

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
