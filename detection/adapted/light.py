"""An adapted network with depthwise pairs in place of its dense convolutions, as the table of families offers it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from torch import Tensor, nn

from detection.family import LightWeights, UnsetWeights
from detection.frozen import InputError
from detection.separated import separable_layers, separated_weights
from detection.spec import Separated, Spec

Build = Callable[[Spec], nn.Module]
Protected = Callable[[nn.Module], Collection[str]]
PARTS = ("backbone", "neck", "head")
"""Of the detectors whose architecture is known."""
NOTHING_TO_GAIN = "No convolution of this network needs fewer weights as a depthwise one and a 1x1."


def light(build: Build, protected: Protected, spec: Spec, block: str, parts: Sequence[str]) -> Spec:
    """The spec with a depthwise pair for every dense convolution that gains; InputError where that is not what is asked for."""
    if block != "depthwise":
        raise InputError(
            f"lightweight.block: {block}: a network of your own is made lighter layer by layer, and only a depthwise pair can take "
            f"a convolution's place. Set it to depthwise."
        )
    if left_out := [part for part in PARTS if part not in parts]:
        raise InputError(
            f"lightweight.{left_out[0]}: false: which layers of a network of your own are its {left_out[0]} is not known. Leave "
            f"the setting out; layers that have to stay dense are named by the function `protected`."
        )
    if not (layers := light_layers(build, protected, spec)):
        raise InputError(f"lightweight: {NOTHING_TO_GAIN} Leave the method out.")
    return spec.edited(Separated(layers=layers))


def light_layers(build: Build, protected: Protected, spec: Spec) -> tuple[str, ...]:
    """Names of the convolutions that become depthwise pairs; none: the method is not applicable, as NOTHING_TO_GAIN says."""
    with UnsetWeights():
        network = build(spec)
    return separable_layers(network, protected(network))


def light_weights(dense: nn.Module, light: nn.Module, batches: Sequence[Tensor]) -> LightWeights:
    """Weights for the light network's pairs, fitted on images to the dense convolutions that stand in their places."""
    convs = {name for name, module in dense.named_modules() if isinstance(module, nn.Conv2d)}
    layers = [name for name, module in light.named_modules() if isinstance(module, nn.Sequential) and name in convs]
    return separated_weights(dense, light, layers, batches)
