"""Trained weights of a user's own network, from the files that training scripts write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from detection.frozen import InputError

WRAPPED_IN = ("ema", "model_ema", "state_dict", "model_state_dict", "model", "weights")
"""Names under which training scripts store a state dict among other things; the average of the weights before the weights."""
PREFIXES = ("module.", "_orig_mod.")
"""Of weights from DataParallel and from torch.compile."""
MOST_NAMES = 5
"""Weights that a message names."""


def read_weights(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names and shapes of the network's own, which are `wanted`.

    Safetensors, or what torch.save wrote of tensors alone; nothing else is unpickled. InputError where they do not fit.
    """
    if not path.is_file():
        raise InputError(f"detector.weights: {path}: no such file. Name one relative to the params file.")
    found = _state_dict(_content(path), path)
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    if missing or unknown:
        raise InputError(
            f"detector.weights: {path}: not the weights of this network: {_some(missing, 'missing')}; {_some(unknown, 'unknown')}. "
            f"Build the network by the same `spec` as when it was trained."
        )
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise InputError(
                f"detector.weights: {path}: {name} is {tuple(found[name].shape)}, the network has {tuple(tensor.shape)}. Build it "
                f"by the same `spec`, and for the same number of classes, as when it was trained."
            )
    return {name: found[name].to(tensor.dtype).contiguous() for name, tensor in wanted.items()}


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what the two raise has no common base
        raise InputError(
            f"detector.weights: {path}: not read ({str(error).splitlines()[0]:.200}). Write the network's state_dict() by "
            f"safetensors.torch.save_file, or by torch.save; whole pickled modules are not loaded."
        ) from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict wherever it stands, its names as the network has them."""
    while isinstance(content, Mapping) and not all(isinstance(own, Tensor) for own in content.values()):
        inner = next((content[name] for name in WRAPPED_IN if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            raise InputError(
                f"detector.weights: {path}: holds {', '.join(map(str, list(content)[:MOST_NAMES]))}, and no state dict under "
                f"{', '.join(WRAPPED_IN)}. Save the network's state_dict() alone."
            )
        content = inner
    if not isinstance(content, Mapping):
        raise InputError(f"detector.weights: {path}: holds a {type(content).__name__}. Save the network's state_dict().")
    return {_plain(name): tensor for name, tensor in content.items()}


def _plain(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _some(names: list[str], what: str) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{what} {', '.join(names[:MOST_NAMES])}{more}" if names else f"nothing {what}"
