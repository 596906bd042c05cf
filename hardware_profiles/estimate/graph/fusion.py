"""From the nodes of a file to the operators that run: the fusions that ONNX Runtime and OpenVINO really make.

Found by reading what they execute: `SessionOptions.optimized_model_filepath` of onnxruntime 1.31 and
`CompiledModel.get_runtime_model()` of openvino 2026.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hardware_profiles.estimate.graph.graph import Graph, Operator, OperatorKind, Step
from hardware_profiles.estimate.graph.layers import (
    DEQUANTIZE,
    QUANTIZE,
    WEIGHTED,
    Fusions,
    Layer,
    Layers,
    readers_in,
    with_swish,
    without_free,
)

FLOAT = ":float"
"""What the name of an int8 tensor gets when it is dequantized."""
BORDERED: frozenset[OperatorKind] = frozenset({"conv3x3s1", "conv_other", "depthwise"})
"""Classes whose kernels reach over the border, where a zero point's share of a sum is another than inside."""
KEEP_INT8 = frozenset({"MaxPool", "Resize", "Concat", "Split", "Slice", "Transpose", "Relu"})
"""Operators whose int8 outputs have the scale of their int8 inputs."""


def fused(file: Layers, fusions: Fusions) -> Graph:
    """The operators in the order of execution."""
    return _Fusion(without_free(with_swish(file), fusions), fusions).graph()


class _Fusion:
    """Groups of layers that run as one. A group is emitted where its last layer stands, when everything it reads is there."""

    def __init__(self, file: Layers, fusions: Fusions) -> None:
        self.file, self.fusions = file, fusions
        self.readers = readers_in(file)
        self.quantized_tensors = self._int8_tensors(zero_point=False)
        self.zero_point_tensors = self._int8_tensors(zero_point=True)
        self.taken: set[int] = set()

    def graph(self) -> Graph:
        groups = [self._group(index) for index in self._heads_first()]
        steps: list[Step] = []
        for group in sorted((group for group in groups if group), key=lambda group: group[-1]):
            steps += self._steps(group)
        names = {name for step in steps for name in (*step.reads, *step.writes)} | set(self.file.inputs)
        sizes = {name: self._elements((name,)) * (1 if name in self.quantized_tensors else 4) for name in names}
        return Graph(tuple(steps), sizes, self.file.inputs, self.file.outputs, self.file.parameter_bytes)

    def _heads_first(self) -> list[int]:
        """Convolutions choose what they take in before anything else stands alone, the later before the earlier."""
        weighted = [index for index, layer in enumerate(self.file.layers) if layer.op_type in WEIGHTED]
        return weighted[::-1] + [index for index in range(len(self.file.layers)) if index not in set(weighted)]

    def _group(self, head: int) -> list[int]:
        """Indices of the layers that run together with this one; none where it runs inside another."""
        if head in self.taken:
            return []
        layer, group = self.file.layers[head], [head]
        if layer.op_type in WEIGHTED:
            self._take_in(group)
        elif layer.op_type != QUANTIZE and self._reads_int8(layer):
            self._follow(group, {QUANTIZE})
        self.taken.update(group)
        return group

    def _take_in(self, group: list[int]) -> None:
        """Extend a convolution by what its kernel does on the way out."""
        activations = self.fusions.activations
        while self._follow(group, {"BatchNormalization"}) or self._follow_scaling(group):
            pass
        activated = self._follow(group, activations)
        reader = self._only_reader(group[-1])
        int8 = self._runs_in_int8(self.file.layers[group[0]], self.file.layers[group[-1] if reader is None else reader])
        if int8:
            self._follow(group, {QUANTIZE})
        # A sum joins a convolution whose result nobody else reads and that has no activation yet, in int8 not in every runtime.
        if ((not int8 and not activated) or (int8 and self.fusions.int8_adds)) and self._follow(group, {"Add"}):
            self._follow(group, activations)
            if int8:
                self._follow(group, {QUANTIZE})

    def _follow(self, group: list[int], op_types: frozenset[str] | set[str]) -> bool:
        """Add the only reader of the group's result where it is of these types and still free; whether it was."""
        reader = self._only_reader(group[-1])
        if reader is None or reader in self.taken or self.file.layers[reader].op_type not in op_types:
            return False
        if len(self.file.layers[reader].reads) > 1 and self.file.layers[reader].op_type != "Add":  # parts of a Concat
            return False
        group.append(reader)
        return True

    def _follow_scaling(self, group: list[int]) -> bool:
        """A sum or product with constants: a bias, or a normalisation taken apart."""
        reader = self._only_reader(group[-1])
        if reader is None or len(self.file.layers[reader].reads) > 1 or not self.file.layers[reader].constants:
            return False
        return self._follow(group, {"Add", "Mul", "Sub", "Div"})

    def _only_reader(self, index: int) -> int | None:
        writes = self.file.layers[index].writes
        if len(writes) != 1 or writes[0] in self.file.outputs or len(self.readers.get(writes[0], [])) != 1:
            return None
        return self.readers[writes[0]][0]

    def _reads_int8(self, layer: Layer) -> bool:
        return bool(layer.reads) and all(name in self.quantized_tensors for name in layer.reads)

    def _int8_tensors(self, zero_point: bool) -> set[str]:
        """Names of all int8 tensors, or only of those with a zero point."""
        names: set[str] = set() if zero_point else set(self.file.int8_inputs)
        for layer in self.file.layers:
            passes = self.fusions.int8_moves and layer.op_type in KEEP_INT8 and all(name in names for name in layer.reads)
            if (layer.op_type == QUANTIZE and (layer.zero_point or not zero_point)) or passes:
                names.update(layer.writes)
        return names

    def _steps(self, group: list[int]) -> list[Step]:
        """The group as one step, after the dequantizations that it needs."""
        layers = [self.file.layers[index] for index in group]
        head, last = layers[0], layers[-1]
        inside = {name for layer in layers for name in layer.writes}
        reads = tuple(dict.fromkeys(name for layer in layers for name in layer.reads if name not in inside))
        quantized = self._runs_in_int8(head, last)
        steps: list[Step] = []
        if not quantized and head.op_type != QUANTIZE:
            for name in reads:
                if name in self.quantized_tensors:
                    shape = self.file.shapes[name]
                    border = Layer(DEQUANTIZE, (name,), (name,), source=shape, result=shape)
                    steps.append(Step(self._operator(border, (name,), (name,), False), (name,), (name + FLOAT,)))
            reads = tuple(name + FLOAT if name in self.quantized_tensors else name for name in reads)
        biases = tuple(shape for layer in layers[1:] if layer.op_type in ("Add", "Sub") for shape in layer.constants)
        own = replace(head, constants=head.constants + biases)
        return [*steps, Step(self._operator(own, reads, last.writes, quantized), reads, last.writes)]

    def _runs_in_int8(self, head: Layer, last: Layer) -> bool:
        """Whether a group from head to last is computed in int8; of a product some runtimes also want the result in int8."""
        if head.op_type == QUANTIZE or not self._reads_int8(head):
            return False
        if head.op_type in WEIGHTED:
            return head.int8_weights and (self.fusions.int8_adds or last.op_type == QUANTIZE)
        return all(name in self.quantized_tensors for name in last.writes)

    def _operator(self, layer: Layer, reads: Sequence[str], writes: Sequence[str], quantized: bool) -> Operator:
        input_channels, output_channels = _channels(layer)
        return Operator(
            kind=_kind(layer),
            macs=layer.macs,
            input_elements=self._elements(reads),
            output_elements=self._elements(writes),
            weight_elements=sum(math.prod(shape) for shape in layer.constants),
            input_channels=input_channels,
            output_channels=output_channels,
            op_type=layer.op_type,
            quantized=quantized,
            zero_point=quantized and _kind(layer) in BORDERED and layer.reads[0] in self.zero_point_tensors,
        )

    def _elements(self, names: Sequence[str]) -> int:
        return sum(math.prod(self.file.shapes[name.removesuffix(FLOAT)]) for name in names)


def _kind(layer: Layer) -> OperatorKind:
    if layer.op_type not in WEIGHTED:
        return "other"
    if layer.op_type in ("MatMul", "Gemm"):
        return "conv1x1"
    _, inputs_per_group, *kernel = layer.kernel
    if layer.groups > 1 and inputs_per_group == 1:
        return "depthwise"
    if layer.op_type == "ConvTranspose" or layer.groups > 1:
        return "conv_other"
    if set(kernel) == {1}:
        return "conv1x1"
    return "conv3x3s1" if kernel == [3, 3] and set(layer.strides) <= {1} else "conv_other"


def _channels(layer: Layer) -> tuple[int, int]:
    """Of what is read and of what is written."""
    if layer.op_type in ("MatMul", "Gemm"):
        return layer.macs // math.prod(layer.result), layer.result[-1] if layer.result else 1
    source, result = (shape[1] if len(shape) > 1 else 1 for shape in (layer.source, layer.result))
    return source, result
