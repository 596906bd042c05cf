"""What the layers of an adapted network cost, noted while they run once."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from detection.adapted.network import Adapted
from detection.family import family_of
from detection.operators import OperatorCost, OperatorKind
from detection.spec import Spec

Convolution = nn.Conv2d | nn.ConvTranspose2d


def costs_of(spec: Spec) -> tuple[OperatorCost, ...]:
    """Every layer with parameters for one picture, in the order in which they run; a normalisation behind a convolution is in it.

    A layer that runs several times stands here as often, its weights once. What has no parameters is left out: latency is estimated
    on the exported graph.
    """
    network = cast(Adapted, family_of(spec).build(spec)).eval()
    noted = _Noted(set(network.protected()))
    hooks = [
        module.register_forward_hook(noted.layer(name))
        for name, module in network.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, *spec.input_size))
    for hook in hooks:
        hook.remove()
    return tuple(noted.costs)


class _Noted:
    """The layers that have run so far."""

    def __init__(self, protected: set[str]) -> None:
        self.protected, self.costs = protected, list[OperatorCost]()
        self.counted: set[str] = set()
        self.last: Tensor | None = None  # what the layer before wrote, where that was a convolution without a bias

    def layer(self, name: str) -> Any:
        """A hook that notes what a layer of this name did."""

        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                self._note(name, module, inputs[0], output)

        return note

    def _note(self, name: str, module: nn.Module, source: Tensor, result: Tensor) -> None:
        folded = isinstance(module, nn.BatchNorm2d) and source is self.last
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        # A folded normalisation leaves one number a channel, the convolution's bias.
        weights = (result.shape[1] if folded else own) if name not in self.counted else 0
        self.counted.add(name)
        product = isinstance(module, Convolution | nn.Linear)
        self.costs.append(
            OperatorCost(
                name=name,
                kind=_kind(module),
                op_type=_OP_TYPES.get(type(module), "Norm"),
                macs=_macs(module, source, result),
                input_elements=0 if folded else source.numel(),
                output_elements=0 if folded else result.numel(),
                weight_elements=weights,
                input_channels=_channels(module, source),
                output_channels=_channels(module, result),
                predicts=name in self.protected,
            )
        )
        self.last = result if product and getattr(module, "bias", None) is None else None


_OP_TYPES: dict[type[nn.Module], str] = {nn.Conv2d: "Conv", nn.ConvTranspose2d: "ConvTranspose", nn.Linear: "Gemm"}


def _kind(module: nn.Module) -> OperatorKind:
    match module:
        case nn.Conv2d() if module.groups == 1:
            if set(module.kernel_size) == {1}:
                return "conv1x1"
            return "conv3x3s1" if module.kernel_size == (3, 3) and set(module.stride) == {1} else "conv_other"
        case nn.Conv2d() if module.groups == module.in_channels:
            return "depthwise"
        case nn.Conv2d() | nn.ConvTranspose2d():
            return "conv_other"
        case nn.Linear():
            return "conv1x1"
        case _:
            return "other"


def _macs(module: nn.Module, source: Tensor, result: Tensor) -> int:
    match module:
        case nn.Conv2d():
            return module.weight.numel() * result.shape[2] * result.shape[3]
        case nn.ConvTranspose2d():
            return module.weight.numel() * source.shape[2] * source.shape[3]
        case nn.Linear():
            return module.weight.numel() * (result.numel() // module.out_features)
        case _:
            return 0


def _channels(module: nn.Module, maps: Tensor) -> int:
    return int(maps.shape[-1] if isinstance(module, nn.Linear | nn.LayerNorm) or maps.ndim < 2 else maps.shape[1])
