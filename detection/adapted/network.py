"""A network that we did not write, as the rest of sixfold sees it and as it is exported: run by functions of its author."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from detection.edits import apply_edit
from detection.family import Batch
from detection.frozen import InputError
from detection.spec import Spec

NETWORK = "network"
"""Attribute of `Adapted` that holds the author's network, and so what the names of its layers begin with."""
GREATEST_PIXEL = 255
TELL_NO_PIXELS = frozenset({"__get__", "size", "dim", "stride", "numel", "is_contiguous", "is_floating_point"})
"""Functions that tell of a picture, where they give no tensor, what it is like and not what is in it."""


class Functions(Protocol):
    """What is known of a network that we did not write; docs/your-detector.md says what each gives.

    It may have more: `predict` where a network is not simply called, `predict_labelled` where it wants the labels in training,
    `features`, `skippable`, `learning_rates`, `augment`, `restored`.
    """

    def decode(self, network: nn.Module, own: Any, /) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, N, 4) and scores in [0, 1] (B, N, C)."""
        ...

    def loss(self, network: nn.Module, own: Any, batch: Batch, /) -> Tensor:
        """One number, against the labels."""
        ...

    def protected(self, network: nn.Module, /) -> Iterable[str]:
        """Names of the last prediction layers."""
        ...


class AdaptedRaw(NamedTuple):
    """What an author's network says, and the maps that were caught on the way."""

    own: Any
    """Any tree of tensors."""
    maps: tuple[Tensor, ...]  # (B, channels, height, width) each


class Adapted(nn.Module):
    """The network of a spec, edits applied. Its layers are named as its author's are, behind `network.`."""

    def __init__(self, spec: Spec, functions: Functions, network: nn.Module) -> None:
        super().__init__()
        self.shared = _Shared(functions, spec.input_size)
        self.network = network
        for edit in spec.edits:
            apply_edit(self, edit)
        self.caught: list[_Caught] = []
        for name in self.shared.map_names(self.network):
            self.caught.append(_Caught())
            _layer(self.network, name, "features").register_forward_hook(self.caught[-1])

    def forward(self, images: Tensor) -> AdaptedRaw:
        """What the author's `predict` makes of images (B, 3, height, width) in [0, 1]."""
        return self._with_maps(self.shared.predict(self.network, images))

    def of_batch(self, batch: Batch) -> AdaptedRaw:
        """What is said of a batch in training: by `predict_labelled`, where the author's functions have it."""
        labelled = getattr(self.shared.functions, "predict_labelled", None)
        return self(batch.images) if labelled is None else self._with_maps(labelled(self.network, batch))

    def _with_maps(self, own: Any) -> AdaptedRaw:
        return AdaptedRaw(own, tuple(caught.taken() for caught in self.caught))

    def decode(self, raw: AdaptedRaw) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, N, 4) and scores in [0, 1] (B, N, C)."""
        boxes, scores = self.shared.functions.decode(self.network, raw.own)
        return boxes, scores

    def loss(self, raw: AdaptedRaw, batch: Batch) -> Tensor:
        """The author's loss against the labels, from what the network says in float32."""
        return self.shared.functions.loss(self.network, as_float32(raw.own), batch).float()

    def protected(self) -> tuple[str, ...]:
        """Names of the last prediction layers, as this module has them."""
        return self._named("protected")

    def skippable(self) -> tuple[str, ...]:
        """Names of the blocks that may be left out, as this module has them; none where the author names none."""
        return self._named("skippable") if hasattr(self.shared.functions, "skippable") else ()

    def _named(self, function: str) -> tuple[str, ...]:
        """What a function of the author's names of the network."""
        names = tuple(getattr(self.shared.functions, function)(self.network))
        for name in names:
            _layer(self.network, name, function)
        return tuple(f"{NETWORK}.{name}" for name in names)

    def learning_rates(self) -> dict[str, float]:
        """Names of modules, as this module has them -> the factor on the learning rate of their parameters."""
        factors = self.shared.learning_rates(self.network)
        for name, factor in factors.items():
            _layer(self.network, name, "learning_rates")
            if not (isinstance(factor, int | float) and 0 <= factor < math.inf):
                raise InputError(
                    f"detector.family: learning_rates gives {name!r} the factor {factor!r}. It has to be a number from 0, at which "
                    f"nothing is learned."
                )
        return {f"{NETWORK}.{name}".rstrip("."): float(factor) for name, factor in factors.items()}

    def given_back(self) -> nn.Module:
        """The author's network with nothing of ours left in it; this module is of no use then."""
        for module in self.network.modules():
            for number in [number for number, hook in module._forward_hooks.items() if isinstance(hook, _Caught)]:
                del module._forward_hooks[number]
        restored = getattr(self.shared.functions, "restored", None)
        return self.network if restored is None else cast(nn.Module, restored(self.network))


class Deployed(nn.Module):
    """The network as it is exported: pictures as bytes in, decoded boxes and scores out."""

    def __init__(self, network: Adapted, *, planes: bool) -> None:
        """With planes, it takes what `planes_of` makes of pictures instead of the pictures, (B, height, width, 3) uint8."""
        super().__init__()
        self.planes, self.network = planes, copy.deepcopy(network).eval()
        self.divisor = 1 if _divides_in_weights(self.network) else GREATEST_PIXEL

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, N, 4) and scores (B, N, C)."""
        planes = images if self.planes else self.planes_of(images)
        return self.network.decode(self.network(planes if self.divisor == 1 else planes / self.divisor))

    def planes_of(self, pictures: Tensor) -> Tensor:
        """Pictures (B, height, width, 3) as floats in [0, 255] with channels first."""
        return pictures.permute(0, 3, 1, 2).float()


def floats_of(tree: Any) -> list[Tensor]:
    """The floating-point tensors anywhere in what a network says."""
    return [own for own in pytree.tree_leaves(tree) if isinstance(own, Tensor) and own.is_floating_point()]


def as_float32(tree: Any) -> Any:
    """The same tree with its floating-point tensors in float32: under autocast some leave a network in bfloat16."""
    return pytree.tree_map(lambda own: own.float() if isinstance(own, Tensor) and own.is_floating_point() else own, tree)


class _Shared:
    """What copies of a network share: the author's functions, and the size of the pictures."""

    def __init__(self, functions: Functions, input_size: tuple[int, int]) -> None:
        self.functions, self.input_size = functions, input_size
        self.predict: Callable[[nn.Module, Tensor], Any] = getattr(functions, "predict", _called)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self

    def learning_rates(self, network: nn.Module) -> dict[str, float]:
        """Names of modules -> factors, as the author's functions give them."""
        factors = getattr(self.functions, "learning_rates", None)
        return {} if factors is None else dict(factors(network))

    def map_names(self, network: nn.Module) -> tuple[str, ...]:
        """Names of the modules whose outputs are compared with a teacher's."""
        names = getattr(self.functions, "features", None)
        return () if names is None else tuple(names(network))


class _Caught:
    """A forward hook that keeps the last output of its module until it is taken."""

    def __init__(self) -> None:
        self.maps: Tensor | None = None

    def __call__(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.maps = output

    def taken(self) -> Tensor:
        """The output, which is then forgotten: copies of a network hold no activations."""
        assert self.maps is not None, "the modules that `features` names run in every prediction"
        maps, self.maps = self.maps, None
        return maps


def _called(network: nn.Module, images: Tensor) -> Any:
    return network(images)


def _layer(network: nn.Module, name: str, told_by: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        names = [own for own, _ in network.named_modules() if own]
        near = difflib.get_close_matches(name, names, n=3) or names[:8]
        raise InputError(
            f"detector.family: {told_by} names {name!r}, which the network does not have. It has {', '.join(near)}, ..."
        ) from None


def _divides_in_weights(network: Adapted) -> bool:
    """Whether the convolutions that read the picture now divide it by 255 in their weights, so that it enters as bytes are.

    Only where nothing else reads it: a network that normalises pictures first has to see shares of 1.
    """
    picture = torch.zeros(1, 3, *network.shared.input_size)
    reading = _PictureReading(picture)
    hooks = [own.register_forward_pre_hook(reading.begins) for own in network.modules() if type(own) is nn.Conv2d]
    hooks += [own.register_forward_hook(reading.ends) for own in network.modules() if type(own) is nn.Conv2d]
    with torch.no_grad(), reading:
        network(picture)
    for hook in hooks:
        hook.remove()
    if reading.otherwise or not reading.readers:
        return False
    with torch.no_grad():
        for conv in reading.readers:
            conv.weight /= GREATEST_PIXEL
    return True


class _PictureReading(TorchFunctionMode):
    """While entered, notes who reads the picture: convolutions alone, or something else too."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture, self.otherwise = picture, False
        self.readers, self.others = set[nn.Conv2d](), set[nn.Conv2d]()
        self.inside = False

    def begins(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before a convolution runs."""
        conv = cast(nn.Conv2d, module)
        self.inside = bool(inputs) and inputs[0] is self.picture
        (self.readers if self.inside else self.others).add(conv)
        # One that reads other maps as well would divide these; weights that are computed anew would not stay divided.
        self.otherwise |= self.inside and not isinstance(conv.weight, nn.Parameter)
        self.otherwise |= not self.readers.isdisjoint(self.others)

    def ends(self, _module: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        """After it."""
        self.inside = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """As without it."""
        given = kwargs or {}
        result = func(*args, **given)
        looks = isinstance(result, Tensor) or getattr(func, "__name__", "") not in TELL_NO_PIXELS
        if looks and result is not self.picture and not self.inside:
            self.otherwise |= any(own is self.picture for own in pytree.tree_leaves((args, given)))
        return result
