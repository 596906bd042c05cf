"""The operators of every network of a group space, from few exported files: weights take other shapes, blocks are bridged.

An export takes most of a second, and a search asks for hundreds of networks. What comes of it is compared with real exports first.
There is one file for each choice of the numbers of the family's settings, which change more than shapes.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from compressors.channels.narrowable import stirred
from compressors.latency import float_tensors, in_type, operators_of_file, operators_of_graph
from compressors.nas.group_space import GroupSpace
from compressors.nas.space import draw, smallest
from detection.checkpoint import fresh
from detection.export import export_onnx
from detection.family import UnsetWeights, family_of
from detection.spec import KeptChannels, LayerWidth, Skipped, Spec
from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.estimate.model import Operator
from hardware_profiles.schema.profile import DType

PRODUCTS = {"Conv": nn.Conv2d, "ConvTranspose": nn.ConvTranspose2d, "Gemm": nn.Linear, "MatMul": nn.Linear}
"""Operators that multiply by weights, and the layers that are exported as them."""
REPEATED = re.compile(r"_\d+$")
COMPARED = 3
"""Networks of the space that are exported to see whether the first graph tells the same; the smallest is one of them, and of graphs
with other numbers the only one."""


class SharedGraphs:
    """What the latency of a space's networks is estimated from: one graph for each choice of numbers, or each network's export."""

    def __init__(self, space: GroupSpace, seed: int) -> None:
        self.space, self.seed, self.graphs = space, seed, dict[tuple[int, ...], SharedGraph | None]()

    def operators(self, spec: Spec, dtype: DType) -> tuple[Operator, ...] | None:
        """Of this network of the space; None where the shared graph does not tell what exports tell."""
        numbers = self.space.numbers_of(spec)
        key = tuple(numbers.values())
        if key not in self.graphs:
            made = SharedGraph(self.space, numbers)
            self.graphs[key] = made if made.is_exact(self.seed, 1 if self.graphs else COMPARED) else None
        graph = self.graphs[key]
        return None if graph is None else graph.operators(spec, dtype)


class SharedGraph:
    """What any network of the space with the same numbers would be exported as."""

    def __init__(self, space: GroupSpace, numbers: Mapping[str, int]) -> None:
        """Exports the largest network with these numbers once."""
        self.space, self.numbers = space, numbers
        self.largest = space.reduced(space.largest, numbers)
        with tempfile.TemporaryDirectory(prefix="sixfold-graph-") as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(stirred(fresh(self.largest, 0)), path)  # equal weights of two layers would be stored once
            self.stay_float, self.model = float_tensors(path), onnx.load(path)
        self.sizes = {own.name: own for own in self.model.graph.initializer}
        self.layers = dict(_matched(self.largest, self.model.graph, self.sizes))
        """Name of a node -> that of the layer which it is."""

    def operators(self, spec: Spec, dtype: DType) -> tuple[Operator, ...]:
        """As `latency.operators_of_graph` tells them of this network of the space."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for edit in spec.edits[len(self.largest.edits) :]:
            if isinstance(edit, KeptChannels):
                self._narrow(model.graph, edit.layers)
            elif isinstance(edit, Skipped):
                for block in edit.blocks:
                    self._bridge(model.graph, block)
        with tempfile.TemporaryDirectory(prefix="sixfold-graph-") as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            return in_type(operators_of_file(path, self.stay_float), dtype == "int8")

    def is_exact(self, seed: int, networks: int = COMPARED) -> bool:
        """Whether it tells what exports tell, of the smallest network and, to make this number, of some drawn at random."""
        rng = np.random.default_rng((seed, 6))
        choices = [{**own, **self.numbers} for own in (smallest(self.space), *(draw(self.space, rng) for _ in range(networks - 1)))]
        try:
            return all(
                self.operators(spec, "fp32") == operators_of_graph(spec) for spec in (self.space.spec(own) for own in choices)
            )
        except GraphError:  # sizes that contradict one another: code that counts on a width
            return False

    def _narrow(self, graph: onnx.GraphProto, layers: dict[str, LayerWidth]) -> None:
        initializers = {own.name: own for own in graph.initializer}
        of_names = {f"{name}.": width for name, width in layers.items()}
        for own in graph.initializer:  # a bias that a node of its own adds
            width = next((width for name, width in of_names.items() if own.name.endswith(f"{name}bias")), None)
            if width is not None:
                _set(own, (width.outputs,))
        for node in graph.node:
            width = layers.get(self.layers.get(node.name, ""))
            if width is not None:
                _resize(node, initializers, width)
            elif node.op_type == "BatchNormalization":  # one that was not folded keeps its layer's name
                width = next((own for name, own in of_names.items() if name in node.input[1]), None)
                for name in node.input[1:] if width is not None else ():
                    assert width is not None
                    _set(initializers[name], (width.outputs,))

    def _bridge(self, graph: onnx.GraphProto, block: str) -> None:
        """Leave out the nodes of a block: who reads its result reads what it reads."""
        scope = self._scope(block)
        inside = [node for node in graph.node if node.name.startswith(scope) and node.op_type != "Constant"]
        written = {name for node in inside for name in node.output}
        outside = [node for node in graph.node if written.isdisjoint(node.output)]
        constants = {*self.sizes, *(name for node in graph.node if node.op_type == "Constant" for name in node.output)}
        sources = {name for node in inside for name in node.input if name and name not in written | constants}
        results = {name for node in outside for name in node.input if name in written}
        if len(sources) != 1 or len(results) != 1:
            raise GraphError(f"{block}: {len(sources)} tensors go in and {len(results)} come out, so no tensor can take its place")
        (source,), (result,) = sources, results
        for node in outside:
            node.input[:] = [source if name == result else name for name in node.input]
        del graph.node[:]
        graph.node.extend(outside)

    def _scope(self, block: str) -> str:
        """What the names of the block's nodes begin with, found by a layer in it."""
        for node, layer in self.layers.items():
            if layer.startswith(f"{block}."):
                parts = node.split("/")
                for place, part in enumerate(parts[1:], 2):
                    if part and (block == part or block.endswith(f".{part}")):
                        return "/".join(parts[:place]) + "/"
        raise GraphError(f"{block}: no layer of it is in the exported file")


def _matched(spec: Spec, graph: onnx.GraphProto, sizes: dict[str, onnx.TensorProto]) -> Iterator[tuple[str, str]]:
    """Name of a node, name of its layer: by the exporter's names, which are those of modules.

    Where a node's name leads nowhere, it is the next of the layers in the order in which they run; what decodes multiplies in
    between.
    """
    called = _called(spec)
    layers, waiting = dict(called), iter(called)
    layer = next(waiting, None)
    for node in graph.node:
        if node.op_type not in PRODUCTS or len(node.input) < 2 or node.input[1] not in sizes:
            continue
        found = tuple(sizes[node.input[1]].dims)
        if (named := _named(node.name, layers)) is not None and _is_of(layers[named], node.op_type, found):
            yield node.name, named
        elif layer is not None and _is_of(layer[1], node.op_type, found):
            yield node.name, layer[0]
            layer = next(waiting, None)


def _named(node: str, layers: Mapping[str, nn.Module]) -> str | None:
    """The layer by whose name the exporter calls a node: `/stem/stem.0/Conv` is of `stem.0`; None where there is no such layer.

    A layer that runs again has a number more, as in `/head/layers.0_1/MatMul`.
    """
    parts = [REPEATED.sub("", part) for part in node.split("/")[1:-1]]
    of_modules = [part for part, inner in zip(parts, [*parts[1:], ""], strict=True) if not inner.startswith(f"{part}.")]
    names = (".".join(of_modules[first:]) for first in range(len(of_modules)))  # the exported module has modules around the network
    return next((name for name in names if name in layers), None)


def _is_of(layer: nn.Module, op_type: str, found: tuple[int, ...]) -> bool:
    """Whether a node of this type with weights of this shape can be the layer."""
    if not isinstance(layer, PRODUCTS[op_type]):
        return False
    weight = cast(Tensor, layer.weight)
    return math.prod(found) == weight.numel() and sorted(found) == sorted(weight.shape)


def _called(spec: Spec) -> list[tuple[str, nn.Module]]:
    """The layers that multiply, in the order in which they run."""
    family, found = family_of(spec), list[tuple[str, nn.Module]]()
    with UnsetWeights():
        network = family.build(spec).eval()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(lambda own, _inputs, _output, name=name: found.append((name, own)))
    with torch.no_grad():
        family.raw(network, torch.zeros(1, 3, *spec.input_size))
    return found


def _resize(node: onnx.NodeProto, initializers: dict[str, onnx.TensorProto], width: LayerWidth) -> None:
    """Give the weights of a product these widths; a depthwise convolution has as many groups."""
    weight = initializers[node.input[1]]
    sides = list(weight.dims)
    attributes = {own.name: own for own in node.attribute}
    groups = attributes["group"].i if "group" in attributes else 1
    if groups > 1:
        sides[0] = attributes["group"].i = width.outputs
    else:
        inputs_first = node.op_type in ("ConvTranspose", "MatMul") or (node.op_type == "Gemm" and not _is_set(attributes, "transB"))
        sides[:2] = (width.inputs, width.outputs) if inputs_first else (width.outputs, width.inputs)
    _set(weight, tuple(sides))
    if len(node.input) > 2:
        _set(initializers[node.input[2]], (width.outputs,))


def _is_set(attributes: dict[str, onnx.AttributeProto], name: str) -> bool:
    return name in attributes and bool(attributes[name].i)


def _set(tensor: onnx.TensorProto, sides: tuple[int, ...]) -> None:
    """Zeros of another shape: what they are does not matter to a reader of sizes."""
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(sides, np.float32), tensor.name))
