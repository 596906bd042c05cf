"""The one training loop: every network of a sweep, the teacher included, is made by `fit`."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from detection.checkpoint import Detector, freeze
from detection.data.augmentation import Augmentation, batches
from detection.data.dataset import Images
from detection.family import Augment, Batch, Family, Raw, family_of
from detection.frozen import Frozen, PositiveInt
from detection.spec import Spec

GRADIENT_NORM = 10.0
"""Longer gradients are cut to this length: early DFL steps spike otherwise."""
BETAS = (0.9, 0.999)
FACTOR = "factor"
"""Entry of the optimizer's groups: what the learning rate is multiplied by."""
STORED_EVERY_EPOCHS = 10
"""How often a training that may be resumed writes its state."""


class Recipe(Frozen):
    """How to train; what differs between the trainings of a sweep is only `epochs` and `learning_rate`."""

    epochs: Annotated[int, Field(ge=0)] = 40
    batch_size: PositiveInt = 8
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    """Peak; a cosine takes it to `final_share` of it."""
    final_share: Annotated[float, Field(gt=0, le=1)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.02
    """On convolution weights only, not on normalisation or biases."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the convolutions while training (autocast); losses and weights stay float32."""
    augmentation: Augmentation = Augmentation()


class TrainingRecord(Frozen):
    """What a training did."""

    epochs: int
    images: int
    """Pictures that went through the network, counted one by one."""
    steps: int
    train_s: float
    loss_per_epoch: tuple[float, ...]


class Objective(Protocol):
    """What a training lowers besides the loss against the labels."""

    def __call__(self, network: nn.Module, raw: Raw, batch: Batch, loss: Tensor, *, half: bool) -> Tensor:
        """The loss against the labels with what is added to it, in float32."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of the objective itself that are trained along (feature adapters, say)."""
        ...


def fit(
    detector: Detector,
    train: Images,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    objective: Objective | None = None,
    resume: Path | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[Detector, TrainingRecord]:
    """The detector after training (its moving average), and what that took. The one given is not changed.

    `resume` is a folder where the state is kept between epochs: a training that was interrupted continues from there.
    """
    started_s = time.perf_counter()
    network = detector.network().to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    run = _Run(network, detector.family, objective, recipe, steps_per_epoch=math.ceil(len(train) / recipe.batch_size))
    first_epoch, losses, before_s = run.restore(resume)
    images = first_epoch * len(train)
    for epoch in range(first_epoch, recipe.epochs):
        rng = np.random.default_rng((seed, epoch))  # by epoch, so that a resumed training draws what the whole one would
        total = 0.0
        with drawing(device, seed, epoch):
            for batch in shuffled(detector.spec, train, recipe, epoch / recipe.epochs, rng):
                total += run.step(batch.on(device)) * len(batch.images)
                images += len(batch.images)
        losses.append(total / len(train))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"the loss became {losses[-1]} in epoch {epoch + 1}: lower `learning_rate` or use precision float32"
            )
        if on_epoch:
            on_epoch(epoch + 1, losses[-1])
        if resume and (epoch + 1) % STORED_EVERY_EPOCHS == 0 and epoch + 1 < recipe.epochs:
            run.store(resume, epoch + 1, losses, before_s + time.perf_counter() - started_s)
    took_s = before_s + time.perf_counter() - started_s
    record = TrainingRecord(epochs=recipe.epochs, images=images, steps=run.steps, train_s=took_s, loss_per_epoch=tuple(losses))
    return freeze(detector.spec, run.average), record


def shuffled(spec: Spec, train: Images, recipe: Recipe, progress: float, rng: np.random.Generator) -> Iterator[Batch]:
    """All pictures in random order, varied as the recipe does at this share of the training, then by what the detector adds."""
    augment = family_of(spec).augment
    own = None if augment is None else augment(spec)
    for batch in batches(train, rng.permutation(len(train)), recipe.batch_size, recipe.augmentation.at(progress), rng):
        yield batch if own is None else augmented(own, batch, rng)


def augmented(own: Augment, batch: Batch, rng: np.random.Generator) -> Batch:
    """What a detector's own augmentation makes of a batch; what it draws from torch follows the generator too."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return own(batch, rng)


@contextmanager
def drawing(device: torch.device, *seeds: int) -> Iterator[None]:
    """While entered, what a network itself draws (dropout, say) follows these seeds; the global generators stay as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1))
        yield


def optimizer_of(
    parameters: Iterable[nn.Parameter], recipe: Recipe, factors: Mapping[nn.Parameter, float] = MappingProxyType({})
) -> torch.optim.Optimizer:
    """AdamW, by which convolution weights decay, and normalisations and biases do not.

    `factors` are on the learning rates of the parameters that are named, which `update` obeys.
    """
    own = list(parameters)
    groups: list[dict[str, Any]] = []
    for factor in (1.0, *sorted(set(factors.values()) - {1.0})):
        chosen = [p for p in own if factors.get(p, 1.0) == factor]
        weights, rest = [p for p in chosen if p.ndim > 1], [p for p in chosen if p.ndim <= 1]
        groups.append({"params": weights, "weight_decay": recipe.weight_decay, FACTOR: factor})
        groups.append({"params": rest, "weight_decay": 0.0, FACTOR: factor})
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=BETAS, fused=True)


def rate_factors(
    family: Family, network: nn.Module, parameters: Iterable[tuple[str, nn.Parameter]] | None = None
) -> dict[nn.Parameter, float]:
    """Parameter of a network -> the factor on its learning rate, by the innermost module that its family names.

    `parameters` stand in for the network's own where others of the same names are trained: of a traced graph, of a supernet.
    """
    factors = {} if family.learning_rates is None else family.learning_rates(network)
    trained = list(network.named_parameters(remove_duplicate=False) if parameters is None else parameters)
    found: dict[nn.Parameter, float] = {}
    for name in sorted(factors, key=len):  # a module's name is longer than those of the modules around it
        found |= {own: factors[name] for of, own in trained if of.startswith(f"{name}.")}
    return found


def update(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], loss: Tensor, learning_rate: float) -> None:
    """One step down the gradient of the loss at this rate. Those of all parameters together are cut to GRADIENT_NORM.

    Parameters that the loss does not depend on have no gradient and stay as they are.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[FACTOR]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
    optimizer.step()


def strided_depthwise_in_float32(network: nn.Module) -> None:
    """Change a network in place: its convolutions in groups that step stay out of autocast.

    On processors with bfloat16 their kernels for it take ten times as long as those for float32: 5.3 and 0.4 ms for one training
    step of 48 channels at 24x32 on one thread of a Zen 4. All other convolutions gain by it (docs/log.md).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and max(module.stride) > 1:
            module.forward = partial(_in_float32, module)  # type: ignore[method-assign]


def _in_float32(conv: nn.Conv2d, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return type(conv).forward(conv, x.float())


class _Run:
    """The moving parts of one training: weights, their average, the optimizer and the schedule."""

    def __init__(
        self, network: nn.Module, family: Family, objective: Objective | None, recipe: Recipe, steps_per_epoch: int
    ) -> None:
        self.network, self.family, self.objective, self.recipe, self.steps = network, family, objective, recipe, 0
        self.total_steps = steps_per_epoch * recipe.epochs
        self.average = copy.deepcopy(network)
        own = [*network.parameters(), *(objective.parameters() if objective else ())]
        self.optimizer = optimizer_of(own, recipe, rate_factors(family, network))
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        pairs = list(zip(self.average.state_dict().values(), network.state_dict().values(), strict=True))
        moving = [(mean, own) for mean, own in pairs if own.is_floating_point()]
        self.means, self.followed = [mean for mean, _ in moving], [own for _, own in moving]
        self.counts = [(mean, own) for mean, own in pairs if not own.is_floating_point()]
        strided_depthwise_in_float32(network)

    def step(self, batch: Batch) -> float:
        """One update; the loss before it."""
        half = self.recipe.precision == "bfloat16"
        raw, value = self.family.learn(self.network, batch, half=half)
        if self.objective is not None:
            value = self.objective(self.network, raw, batch, value, half=half)
        update(self.optimizer, self.parameters, value, self._learning_rate())
        self.steps += 1
        self._move_average()
        return float(value.detach())

    def _learning_rate(self) -> float:
        recipe = self.recipe
        warmup = min(recipe.warmup_steps, self.total_steps // 5)
        if self.steps < warmup:
            return recipe.learning_rate * (self.steps + 1) / warmup
        progress = (self.steps - warmup) / max(1, self.total_steps - warmup)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return recipe.learning_rate * (recipe.final_share + (1 - recipe.final_share) * cosine)

    @torch.no_grad()
    def _move_average(self) -> None:
        # The ramp lets the average forget its random start (as in YOLOv5; a mean lifetime of a tenth of the steps).
        ramp = 1 - math.exp(-self.steps / max(1.0, self.total_steps / 10))
        decay = self.recipe.ema_decay * ramp
        torch._foreach_lerp_(self.means, self.followed, 1 - decay)
        for count, own in self.counts:
            count.copy_(own)

    def store(self, folder: Path, epoch: int, losses: list[float], train_s: float) -> None:
        """Write all that a continuation needs; the small file last, so its presence means the rest is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for i, parameter in enumerate(self.parameters):
            tensors[f"parameter.{i}"] = parameter.detach()
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{i}.{key}"] = value
        name = f"epoch-{epoch}.safetensors"
        save_file({key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}, folder / name)
        state = {"epoch": epoch, "steps": self.steps, "losses": losses, "train_s": train_s, "file": name}
        partial = folder / "state.partial"
        partial.write_text(json.dumps(state))
        partial.replace(folder / "state.json")
        for old in folder.glob("epoch-*.safetensors"):
            if old.name != name:
                old.unlink()

    def restore(self, folder: Path | None) -> tuple[int, list[float], float]:
        """Epochs already done, their losses and the seconds they took; zeros for a fresh start."""
        if folder is None or not (folder / "state.json").is_file():
            return 0, [], 0.0
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / state["file"])
        self.network.load_state_dict(_under(tensors, "network."))
        self.average.load_state_dict(_under(tensors, "average."))
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{i}"])
                state_of = _under(tensors, f"optimizer.{i}.").items()
                # The fused kernel goes through memory, so its averages lie there as the parameter does (channels last).
                self.optimizer.state[parameter] = {
                    key: value.to(parameter.device) if value.ndim == 0 else torch.empty_like(parameter).copy_(value)
                    for key, value in state_of
                }
        self.steps = state["steps"]
        return state["epoch"], list(state["losses"]), state["train_s"]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
