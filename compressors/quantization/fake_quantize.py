"""A network as int8 will see it, in torch: weights and maps pass through the levels of 8 bits, gradients pass straight through."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from compressors.quantization.rounding import ROUNDED, FakeQuantizedMap, FakeQuantizedWeight, FixedNorm, as_class
from detection.checkpoint import Detector
from detection.tracing import traced
from hardware_profiles.runtimes.ranges import Ranges

PRODUCT_FUNCTIONS: dict[Any, int] = {torch.conv2d: 0, torch.conv_transpose2d: 1, F.linear: 0}
"""Functions that multiply maps with weights -> the dimension of the weights that belongs to the outputs."""
JOINS = frozenset({
    operator.add, operator.iadd, operator.mul, operator.imul, operator.matmul,
    torch.add, torch.mul, torch.matmul, torch.bmm, torch.cat, torch.concat,
})  # fmt: skip
"""Functions that read several maps; both runtimes round what they read."""
JOINING_METHODS = frozenset({"add", "add_", "mul", "mul_", "matmul", "bmm"})


@dataclass(frozen=True)
class FakeQuantizedNetwork:
    """The network as a graph that gives the same Outputs, and where its parts come from."""

    graph: fx.GraphModule
    folded: dict[str, str]
    """Normalisation -> the convolution that holds it now."""
    roundings: dict[str, str]
    """Node of the graph whose map is rounded where it is read -> the module that rounds it."""

    def detector(self, before: Detector) -> Detector:
        """The detector with these weights; normalisations pass on what they get, but for their bias."""
        network, own = before.network(), self.graph.state_dict()
        names: dict[int, list[str]] = {}  # of one tensor, which layers may share
        for name, tensor in network.state_dict(keep_vars=True).items():
            names.setdefault(id(tensor), []).append(name)
        learned = {name: own[name] for name in before.weights if name in own}
        for norm, conv in self.folded.items():
            bias = own[f"{conv}.bias"]
            ones, eps = torch.ones_like(bias), cast(nn.BatchNorm2d, network.get_submodule(norm)).eps
            learned |= {f"{norm}.weight": ones, f"{norm}.bias": bias}
            learned |= {f"{norm}.running_mean": torch.zeros_like(bias), f"{norm}.running_var": ones - eps}
            if f"{conv}.bias" in learned:
                learned[f"{conv}.bias"] = torch.zeros_like(bias)
        weights = dict(before.weights)
        for same in names.values():
            for name in same if (found := [own for own in same if own in learned]) else ():
                weights[name] = learned[found[0]].detach().to("cpu", copy=True).contiguous()
        return Detector(before.spec, MappingProxyType(weights))

    def ranges(self) -> Ranges:
        """Node whose map is rounded -> the range that it is rounded in."""
        modules = {name: cast(FakeQuantizedMap, self.graph.get_submodule(module)) for name, module in self.roundings.items()}
        return {name: module.ends() for name, module in modules.items() if module.batches}


def fake_quantized(network: nn.Module, protected: Collection[str], *, float_stem: bool) -> FakeQuantizedNetwork:
    """The network, as it trains, with normalisations folded and rounding where the runtimes round.

    The last prediction layers, which `protected` names, keep float weights, and so does what follows them; what they read is
    rounded, as it is in ONNX Runtime's file (OpenVINO's leaves it alone). The picture is not: its bytes are levels of int8. Left
    out is what one runtime alone rounds, such as the inner values of a SiLU.
    """
    graph, folded = folded_graph(network.train())
    nodes = list(graph.graph.nodes)
    tail, from_picture = _float_tail(graph, protected), _from_picture(nodes)
    pictures = {node for node in nodes if node.op == "placeholder"}
    roundings: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        is_product = _is_product(graph, node)
        if not is_product and (node in tail or not _joins(node)):
            continue
        reads_picture = bool(pictures & set(node.all_input_nodes))
        if is_product and node not in tail and not (float_stem and reads_picture):
            _round_weight(graph, node, from_picture)
        for source in node.all_input_nodes:
            if source in from_picture and source not in pictures:
                if source not in roundings:
                    roundings[source] = _rounding(graph, source, node, f"rounded_map_{len(roundings)}")
                node.replace_input_with(source, roundings[source])
    graph.delete_all_unused_submodules()  # the normalisations
    graph.graph.lint()
    graph.recompile()
    return FakeQuantizedNetwork(graph, folded, {source.name: str(own.target) for source, own in roundings.items()})


def folded_graph(network: nn.Module) -> tuple[fx.GraphModule, dict[str, str]]:
    """What the network does in the mode that it is in, with normalisations folded; which of them into which convolutions.

    Of the others the statistics are fixed, as they are in the exported file.
    """
    graph, folded = traced(network), dict[str, str]()
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.graph.nodes if node.op == "get_attr"}
    shared = Counter(id(own) for _, own in network.named_parameters(remove_duplicate=False))

    def is_alone(name: str) -> bool:
        """Whether its parameters serve one call."""
        parameters = graph.get_submodule(name).parameters()
        return calls[name] == 1 and name not in read and all(shared[id(own)] == 1 for own in parameters)

    for node in list(graph.graph.nodes):
        norm = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None:
            continue
        source, name = node.all_input_nodes[0], str(node.target)
        conv = graph.get_submodule(str(source.target)) if source.op == "call_module" else None
        foldable = type(conv) is nn.Conv2d and norm.affine and len(source.users) == 1
        if not foldable or not is_alone(name) or not is_alone(str(source.target)):
            if not isinstance(norm, FixedNorm):
                _set(graph, name, as_class(norm, FixedNorm))
            continue
        # Its new bias would stay as it is otherwise.
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, conv).eval(), norm.eval()).requires_grad_(True)
        _set(graph, str(source.target), fused)
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
        folded[name] = str(source.target)
    graph.recompile()
    return graph, folded


def _float_tail(graph: fx.GraphModule, protected: Collection[str]) -> set[fx.Node]:
    """The protected products, and what follows from them and leads to no other product."""
    leads: set[fx.Node] = set()
    for node in reversed(graph.graph.nodes):
        if any(user in leads or _is_product(graph, user) for user in node.users):
            leads.add(node)
    tail: set[fx.Node] = set()
    follows: set[fx.Node] = set()
    for node in graph.graph.nodes:
        predicts = _is_product(graph, node) and bool(node.meta.get("nn_module_stack", {}).keys() & set(protected))
        if predicts or follows & set(node.all_input_nodes):
            follows.add(node)
        if predicts or (node in follows and node not in leads and not _is_product(graph, node)):
            tail.add(node)
    return tail


def _from_picture(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Nodes whose values depend on the picture, and not on weights alone."""
    found: set[fx.Node] = set()
    for node in nodes:
        if node.op == "placeholder" or found & set(node.all_input_nodes):
            found.add(node)
    return found


def _is_product(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), tuple(ROUNDED))
    return node.op == "call_function" and node.target in PRODUCT_FUNCTIONS


def _joins(node: fx.Node) -> bool:
    methods: dict[str, Callable[[Any], bool]] = {"call_function": JOINS.__contains__, "call_method": JOINING_METHODS.__contains__}
    return node.op in methods and methods[node.op](node.target)


def _round_weight(graph: fx.GraphModule, node: fx.Node, from_picture: set[fx.Node]) -> None:
    """Round the weight of a product; one that is computed from the picture is a map."""
    if node.op == "call_module":
        layer = graph.get_submodule(str(node.target))
        if type(layer) in ROUNDED:
            _set(graph, str(node.target), as_class(layer, ROUNDED[type(layer)]))
        return
    weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
    if isinstance(weight, fx.Node) and weight not in from_picture:
        name = f"rounded_weight_{node.name}"
        graph.add_module(name, FakeQuantizedWeight(PRODUCT_FUNCTIONS[node.target]))
        with graph.graph.inserting_before(node):
            node.replace_input_with(weight, graph.graph.call_module(name, (weight,)))


def _rounding(graph: fx.GraphModule, source: fx.Node, reader: fx.Node, name: str) -> fx.Node:
    """A node that rounds what the source gives, before its first reader: what is changed in place has been changed by then."""
    graph.add_module(name, FakeQuantizedMap())
    with graph.graph.inserting_before(reader):
        return graph.graph.call_module(name, (source,))


def _set(graph: fx.GraphModule, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(graph.get_submodule(parent), child, module)
