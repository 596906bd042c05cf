"""A network as int8 will see it, in torch: weights and maps pass through the levels of 8 bits, gradients pass straight through."""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import onnx
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from compressors.quantization.float_parts import float_tail, predicts
from detection.checkpoint import Detector
from hardware_profiles.runtimes.ranges import LEVELS, Range, Ranges

GREATEST_WEIGHT = 127
"""Of a signed byte; -128 is left out, as both runtimes do, so that zero is the middle."""
RANGE_MOMENTUM = 0.01
"""Share of each new batch in a range (arXiv:1712.05877, section 3.1, asks for long averages)."""
JOINS = {operator.add: "Add", operator.iadd: "Add", torch.add: "Add", torch.cat: "Concat"}
"""Functions that read several maps, and their names in ONNX; both runtimes round what they read."""

PREDICTION = "Prediction"
"""The kind of the products that predict scores and boxes."""
SAME_VALUES = frozenset({"Resize", "Transpose", "Reshape"})


class FakeQuantizedConv(nn.Conv2d):
    """A convolution whose weights are rounded to int8 per output channel before they are used."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, outputs, height, width)."""
        scale = self.weight.detach().abs().amax((1, 2, 3)).clamp(min=1e-12) / GREATEST_WEIGHT
        zero_points = torch.zeros_like(scale, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(self.weight, scale, zero_points, 0, -GREATEST_WEIGHT, GREATEST_WEIGHT)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class FakeQuantizedMap(nn.Module):
    """Maps rounded to 256 levels between two ends that follow, while training, the least and greatest value of each batch."""

    low: Tensor  # ()
    high: Tensor  # ()
    batches: Tensor  # ()

    def __init__(self) -> None:
        super().__init__()
        for name in ("low", "high", "batches"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """The same shape."""
        if self.training:
            with torch.no_grad():
                share = 1.0 if not self.batches else RANGE_MOMENTUM
                self.low.lerp_(maps.min().clamp(max=0.0), share)
                self.high.lerp_(maps.max().clamp(min=0.0), share)
                self.batches += 1
        ends = self.ends()
        return torch.fake_quantize_per_tensor_affine(maps, ends.scale, ends.zero_point, 0, LEVELS - 1)

    def ends(self) -> Range:
        """The range as it is now."""
        return Range(float(self.low), float(self.high))


@dataclass(frozen=True)
class FakeQuantizedNetwork:
    """The network as a graph that gives the same Outputs, and where its parts come from."""

    graph: fx.GraphModule
    folded: dict[str, str]
    """Normalisation -> the convolution that holds it now."""
    reads: dict[str, str]
    """Where a map is read, as `place` names it -> the module that rounds it."""

    def detector(self, before: Detector) -> Detector:
        """The detector with these weights; normalisations pass on what they get, but for their bias."""
        own, weights, eps = self.graph.state_dict(), dict(before.weights), nn.BatchNorm2d(1).eps
        for norm, conv in self.folded.items():
            ones = torch.ones_like(weights[f"{norm}.bias"])
            weights[f"{norm}.weight"], weights[f"{norm}.bias"] = ones, own[f"{conv}.bias"].detach().cpu().clone()
            weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"] = torch.zeros_like(ones), ones - eps
        folded = {f"{conv}.bias" for conv in self.folded.values()}
        learned = {name for name in own if name in weights and name not in folded}
        weights |= {name: own[name].detach().to("cpu", copy=True).contiguous() for name in learned}
        return Detector(before.spec, MappingProxyType(weights))

    def ranges(self) -> Ranges:
        """Place -> the range of the map that is read there."""
        return {place: cast(FakeQuantizedMap, self.graph.get_submodule(module)).ends() for place, module in self.reads.items()}


def place(kind: str, number: int, operand: int) -> str:
    """The name of an operand: operators of one ONNX kind, those before the decoding, are numbered in the order of execution."""
    return f"{kind} {number} {operand}"


def fake_quantized(network: nn.Module, protected: Collection[str], *, float_stem: bool) -> FakeQuantizedNetwork:
    """The network with normalisations folded and rounding where the runtimes round.

    The last prediction convolutions, products in the exported file, keep float weights; what they read is rounded, as it is in ONNX
    Runtime's file (OpenVINO's leaves it alone); `protected` names them. The picture is not: its bytes are levels of int8.
    """
    traced = fx.symbolic_trace(network.eval())
    folded = _fold_normalisations(traced)
    predictions = set(protected)
    reading = {str(user.target) for node in traced.graph.nodes if node.op == "placeholder" for user in node.users}
    kept = reading if float_stem else set()
    reads: dict[str, str] = {}
    watched: dict[fx.Node, fx.Node] = {}
    predicting: set[fx.Node] = set()
    seen: dict[str, int] = {}
    for node in list(traced.graph.nodes):
        kind = PREDICTION if node.target in predictions else _kind(traced, node)
        if kind is None:
            continue
        if kind == PREDICTION and node.all_input_nodes[0] in predicting:  # one product predicts scores and boxes
            node.replace_input_with(node.all_input_nodes[0], watched[node.all_input_nodes[0]])
            continue
        predicting.update(node.all_input_nodes if kind == PREDICTION else ())
        number = seen[kind] = seen.get(kind, -1) + 1
        if kind == "Conv" and node.target not in kept:
            _round_weights(traced, str(node.target))
        maps = [source for source in node.all_input_nodes if source.op != "placeholder"]
        for operand, source in enumerate(maps):
            if source not in watched:
                watched[source] = _watch(traced, source, len(watched))
            reads[place(kind, number, operand)] = str(watched[source].target)
        for source in maps:
            node.replace_input_with(source, watched[source])
    traced.delete_all_unused_submodules()  # the normalisations
    traced.graph.lint()
    traced.recompile()
    return FakeQuantizedNetwork(traced, folded, reads)


def tensor_ranges(model: onnx.ModelProto, learned: Ranges) -> Ranges:
    """Ranges by place as ranges by the tensors of the exported file, which has the same operators in the same order."""
    tail = set(float_tail(model))
    producers = {output: node for node in model.graph.node for output in node.output}
    found: Ranges = {}
    seen: dict[str, int] = {}
    for node in model.graph.node:
        kind = PREDICTION if predicts(node) else node.op_type
        if kind not in {"Conv", PREDICTION, *JOINS.values()} or (node.name in tail and kind != PREDICTION):
            continue
        number = seen[kind] = seen.get(kind, -1) + 1
        maps = node.input if kind in JOINS.values() else node.input[:1]
        for operand, name in enumerate(maps):
            own = learned.get(place(kind, number, operand))
            if own is not None:
                found |= dict.fromkeys(_same_values(name, producers), own)
    return found


def _same_values(name: str, producers: dict[str, onnx.NodeProto]) -> list[str]:
    """The tensor, and those that it only repeats or turns: they share a range."""
    names = [name]
    while names[-1] in producers and producers[names[-1]].op_type in SAME_VALUES:
        names.append(producers[names[-1]].input[0])
    return names


def _kind(traced: fx.GraphModule, node: fx.Node) -> str | None:
    """Conv, Add or Concat where the node reads maps that are rounded; the joining of the levels' predictions is none of them."""
    if node.op == "call_module":
        return "Conv" if isinstance(traced.get_submodule(str(node.target)), nn.Conv2d) else None
    if node.op != "call_function" or node.target not in JOINS or any(source.op == "call_method" for source in node.all_input_nodes):
        return None
    return JOINS[node.target]


def _fold_normalisations(traced: fx.GraphModule) -> dict[str, str]:
    """Fold each normalisation into the convolution before it, in place; which into which."""
    folded: dict[str, str] = {}
    for node in list(traced.graph.nodes):
        norm = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        source = node.all_input_nodes[0]
        conv = traced.get_submodule(str(source.target))
        assert isinstance(conv, nn.Conv2d), f"{node.target} follows no convolution"
        assert conv.bias is None, f"{source.target} has a bias before {node.target}, which could not be told apart again"
        # Its new bias would stay as it is otherwise.
        _set(traced, str(source.target), fuse_conv_bn_eval(conv, norm).requires_grad_(True))
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
        folded[str(node.target)] = str(source.target)
    return folded


def _round_weights(traced: fx.GraphModule, name: str) -> None:
    conv = traced.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    rounded: nn.Module = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        FakeQuantizedConv, conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
        groups=conv.groups, bias=conv.bias is not None, device=conv.weight.device,
    )  # fmt: skip
    rounded.load_state_dict(conv.state_dict())
    _set(traced, name, rounded)


def _watch(traced: fx.GraphModule, source: fx.Node, number: int) -> fx.Node:
    """A node that rounds what the source gives."""
    name = f"rounded_map_{number}"
    traced.add_module(name, FakeQuantizedMap())
    with traced.graph.inserting_after(source):
        return traced.graph.call_module(name, (source,))


def _set(traced: fx.GraphModule, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(traced.get_submodule(parent), child, module)
