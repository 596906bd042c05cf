"""A network drawn as a list of operators: convolutions and data movements with their sizes, counted and never computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from hardware_profiles.estimate.model import Operator, OperatorKind

Activation = Literal["none", "relu", "silu"]


@dataclass(frozen=True)
class Tensor:
    """Shape of one intermediate result for one picture."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        """How many values it holds."""
        return self.channels * self.height * self.width


@dataclass
class Sketch:
    """Collects the operators of a network in the order in which they are drawn; every method returns the shape that results.

    Runtimes that fuse SiLU into the convolution before it (OpenVINO, TensorRT) run one operator where others run two; ReLU is fused
    by all of them.
    """

    fused_silu: bool
    operators: list[Operator] = field(default_factory=list)
    parameters: int = 0
    """Trained values as publications count them: weights, and two per channel of a normalisation or one per bias."""

    def conv(self, x: Tensor, channels: int, kernel: int = 1, stride: int = 1, activation: Activation = "silu") -> Tensor:
        """Convolution with its folded normalisation, and the activation after it."""
        out = Tensor(channels, -(-x.height // stride), -(-x.width // stride))
        self._convolution(x, out, kernel * kernel * x.channels * channels, _kind(kernel, stride))
        self.parameters += channels  # a normalisation has one value per channel more than the bias it is folded into
        return self.silu(out) if activation == "silu" and not self.fused_silu else out

    def depthwise(self, x: Tensor, kernel: int = 3, stride: int = 1, activation: Activation = "none") -> Tensor:
        """One filter per channel, with its folded normalisation."""
        out = Tensor(x.channels, -(-x.height // stride), -(-x.width // stride))
        self._convolution(x, out, kernel * kernel * x.channels, "depthwise")
        self.parameters += x.channels
        return self.silu(out) if activation == "silu" and not self.fused_silu else out

    def plain_conv(self, x: Tensor, channels: int, bias: bool = True) -> Tensor:
        """1x1 convolution with neither normalisation nor activation."""
        out = Tensor(channels, x.height, x.width)
        self._convolution(x, out, x.channels * channels, "conv1x1")
        self.parameters -= 0 if bias else channels
        return out

    def upsampling_conv(self, x: Tensor) -> Tensor:
        """Transposed convolution of kernel 2 and stride 2: each output value is one dot product over the input channels."""
        out = Tensor(x.channels, 2 * x.height, 2 * x.width)
        weights = 4 * x.channels * x.channels
        self._convolution(x, out, weights, "conv_other", macs=x.channels * out.elements, op_type="ConvTranspose")
        return out

    def silu(self, x: Tensor) -> Tensor:
        """The activation as an operator of its own."""
        return self.move("Swish", [x], x)

    def normalise(self, x: Tensor, activation: Activation = "silu") -> Tensor:
        """Batch normalisation that follows no convolution, so that it cannot be folded."""
        self.parameters += 2 * x.channels
        self.move("BatchNormalization", [x], x)
        return self.silu(x) if activation == "silu" else x

    def concat(self, *parts: Tensor) -> Tensor:
        """The parts behind one another along the channels."""
        return self.move("Concat", parts, Tensor(sum(part.channels for part in parts), parts[0].height, parts[0].width))

    def add(self, x: Tensor) -> Tensor:
        """Sum of two tensors of one shape."""
        return self.move("Add", [x, x], x)

    def upsample(self, x: Tensor) -> Tensor:
        """Twice the height and width, by repetition."""
        return self.move("Resize", [x], Tensor(x.channels, 2 * x.height, 2 * x.width))

    def pool(self, x: Tensor, stride: int = 1) -> Tensor:
        """Maximum over a window."""
        return self.move("MaxPool", [x], Tensor(x.channels, -(-x.height // stride), -(-x.width // stride)))

    def move(self, op_type: str, inputs: Sequence[Tensor], out: Tensor) -> Tensor:
        """An operator without multiplications worth counting."""
        self.operators.append(
            Operator(
                kind="other",
                macs=0,
                input_elements=sum(x.elements for x in inputs),
                output_elements=out.elements,
                weight_elements=0,
                input_channels=inputs[0].channels,
                output_channels=out.channels,
                op_type=op_type,
            )
        )
        return out

    def _convolution(
        self, x: Tensor, out: Tensor, weights: int, kind: OperatorKind, macs: int | None = None, op_type: str = "Conv"
    ) -> None:
        self.parameters += weights + out.channels
        self.operators.append(
            Operator(
                kind=kind,
                macs=weights * out.height * out.width if macs is None else macs,
                input_elements=x.elements,
                output_elements=out.elements,
                weight_elements=weights + out.channels,
                input_channels=x.channels,
                output_channels=out.channels,
                op_type=op_type,
            )
        )


def _kind(kernel: int, stride: int) -> OperatorKind:
    if kernel == 1:
        return "conv1x1"
    return "conv3x3s1" if (kernel, stride) == (3, 1) else "conv_other"
