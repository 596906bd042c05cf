"""How pictures and labels are put to networks of the library."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from detection.family import Batch
from detection.transformers.settings import TransformersSettings

BACKBONES = ("backbone", "conv_encoder")
SHAPE = cast(Any, torch.Tensor.shape).__get__


class FixedSizes(TorchFunctionMode):
    """While entered, sizes of tensors are plain numbers: for tracing, where they would be tensors, and what follows from them would
    be computed anew for each picture.

    The library keeps places and positions by sizes that it has seen. By numbers it finds them, and they are constants of the file;
    by tensors it finds them or not, so that equal detectors would give different files. Learned positions that are brought to
    another size with antialiasing, for which ONNX has no operator, are constants too: in the architectures known here nothing else
    is brought to another size so.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What the function gives; sizes as numbers."""
        if func is nn.functional.interpolate and (kwargs or {}).get("antialias"):
            return _untraced(func, *args, **(kwargs or {}))
        given = func(*args, **(kwargs or {}))
        if func not in (SHAPE, torch.Tensor.size):
            return given
        return torch.Size(int(side) for side in given) if isinstance(given, torch.Size) else int(given)


def _untraced(func: Callable[..., Tensor], source: Tensor, **settings: Any) -> Tensor:
    """What a function gives, as a constant: a trace is of one thread, so another one leaves nothing in it."""
    values = torch.from_numpy(source.detach().numpy().copy())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(func, values, **settings).result()


def put(settings: TransformersSettings, images: Tensor) -> Tensor:
    """Images (B, 3, height, width) in [0, 1] as the folder's preprocessing gives them."""
    if settings.scale == 1 and not any(settings.mean) and all(std == 1 for std in settings.std):
        return images
    mean, std = (
        torch.tensor(values, dtype=images.dtype, device=images.device).view(3, 1, 1) for values in (settings.mean, settings.std)
    )
    return (images * settings.scale - mean) / std


def labels_of(batch: Batch) -> list[dict[str, Tensor]]:
    """For each picture `class_labels` (n) and `boxes` (n, 4): centre, width and height as shares of the picture.

    The library's losses know sure labels alone: a box of confidence p is one with probability p, which is the same on average.
    """
    taken = batch.present
    if batch.confidence is not None:
        taken = taken & (torch.rand(taken.shape).to(taken.device) < batch.confidence)
    height_px, width_px = batch.images.shape[-2:]
    px = torch.tensor([width_px, height_px] * 2, dtype=batch.boxes_xyxy_px.dtype, device=batch.boxes_xyxy_px.device)
    found = []
    for boxes, labels, own in zip(batch.boxes_xyxy_px / px, batch.labels, taken, strict=True):
        first, last = boxes[own].chunk(2, -1)
        found.append({"class_labels": labels[own].long(), "boxes": torch.cat([(first + last) / 2, last - first], -1)})
    return found


def backbone_rate(network: nn.Module, settings: TransformersSettings) -> dict[str, float]:
    """The backbone's factor on the learning rate, by its name; none where a network has no part that is called so."""
    names = (name for name, _ in network.named_modules() if name.split(".")[-1] in BACKBONES)
    return dict.fromkeys(islice(names, 1), settings.backbone_learning_rate)
