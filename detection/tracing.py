"""A network as a torch.fx graph, for who changes what runs between its layers; and why it cannot be had, in a sentence."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.utils import _pytree as pytree

TOLERANCE = 1e-3
"""Share of the largest output by which a graph's may differ from the network's: both do the same arithmetic."""
LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parent)
"""Whose lines explain nothing to the author of a network."""


def traced(network: nn.Module) -> fx.GraphModule:
    """What the network does in the mode that it is in, as a graph with the same layers and weights, outputs in the same form."""
    return fx.GraphModule(network, _Tracer().trace(network))


def why_untraceable(network: nn.Module, images: Tensor, within: str = "") -> str | None:
    """Why there is no graph that does what the network does, in a sentence; None where there is one, for training and for use.

    Tracing may leave the network of no use. Modules are named as seen from the one called `within`.
    """
    for training in (True, False):
        tracer = _Tracer()
        try:
            graph = fx.GraphModule(network, tracer.trace(network.train(training)))
        except Exception as error:  # whatever a user's code raises on values that are not there yet
            return _explained(error, None if tracer.failed_in is None else _seen_from(within, tracer.failed_in))
        for name, attribute in _kept_values(network):
            kept_by = _seen_from(within, name) or "the network"
            return f"torch.fx cannot trace {kept_by}: it keeps a tensor as its attribute {attribute!r}, which a trace does not do."
    try:
        with torch.no_grad():
            own, expected = (pytree.tree_leaves(form(images)) for form in (graph.eval(), network.eval()))
    except Exception as error:
        return f"It fails on a picture: {_said(error)}."
    if len(own) != len(expected) or not all(map(_alike, own, expected)):
        return "Its torch.fx trace gives other outputs than the network does."
    return None


class _Tracer(fx.Tracer):
    """Forward hooks run at layers of torch's too, which a trace enters no further."""

    failed_in: str | None = None
    """The innermost module whose forward did not end."""

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module gives."""
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed_in is None:
                self.failed_in = self.path_of_module(m)
            raise
        if self.is_leaf_module(m, self.path_of_module(m)):
            for hook in m._forward_hooks.values():
                changed = hook(m, args, result)
                result = result if changed is None else changed
        return result


def _explained(error: Exception, module: str | None) -> str:
    """A sentence for a trace that ended in an error, in a module or outside of all."""
    frames = [own for own in traceback.extract_tb(error.__traceback__) if not Path(own.filename).is_relative_to(LIBRARIES[0])]
    frames = [own for own in frames if not Path(own.filename).is_relative_to(LIBRARIES[1])]
    where = f"{module}.forward".lstrip(".") if module is not None or not frames else frames[-1].name
    line = f" (`{frames[-1].line}`)" if frames and frames[-1].line else ""
    if isinstance(error, TraceError) and "control flow" in str(error):
        return f"torch.fx cannot trace control flow on tensor values in {where}{line}."
    return f"torch.fx cannot trace {where}{line}: {_said(error)}."


def _said(error: Exception) -> str:
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first.rstrip('.')}"


def _seen_from(module: str, name: str) -> str:
    return "" if name == module else name.removeprefix(f"{module}.")


def _kept_values(network: nn.Module) -> Iterator[tuple[str, str]]:
    """(module, attribute) of what a trace has left behind in a network."""
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if any(isinstance(own, fx.Proxy) for own in pytree.tree_leaves(value)):
                yield name, attribute


def _alike(own: Any, right: Any) -> bool:
    if not isinstance(own, Tensor) or not isinstance(right, Tensor):
        return bool(own == right)
    if not right.is_floating_point() or not right.numel() or own.shape != right.shape:
        return torch.equal(own, right)
    near = TOLERANCE * float(right.nan_to_num().abs().max())
    return torch.allclose(own, right, rtol=0.0, atol=near, equal_nan=True)
