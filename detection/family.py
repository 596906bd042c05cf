"""The interface of a detector family: a table of functions, which is all that methods and stages know of a detector.

A family is one folder of `detection/` and one line of `detection.families.FAMILIES`. Its own code may know everything about its
networks; nobody else imports it. What a family cannot do it says in `cannot`, with the reason that users read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from detection.families import rules_of
from detection.frozen import Frozen
from detection.operators import OperatorCost
from detection.spec import Spec

if TYPE_CHECKING:
    from detection.checkpoint import Detector

Capability = Literal[
    "lightweight", "nas", "pruning", "low_rank", "distillation", "quantization", "training", "qat", "narrow", "smaller_input"
]
"""What a family may be unable to do: the methods, training at all, quantization-aware training, and the references that rebuild
it."""
Selection = Literal["nms", "best"]
"""By non-maximum suppression, or the best scores as they are (set predictors)."""
Raw = Any
"""What a network says before decoding, in the family's own form; nobody else looks inside."""


class Batch(NamedTuple):
    """What one training step learns from: images and their boxes, padded to the largest count in the batch. B images, M boxes."""

    images: Tensor  # (B, 3, height, width) in [0, 1]
    boxes_xyxy_px: Tensor  # (B, M, 4), pixels of the letterboxed image
    labels: Tensor  # (B, M)
    present: Tensor  # (B, M) bool: false where padded
    confidence: Tensor | None = None  # (B, M) in (0, 1]: how sure each box is; None: all are labels, which are sure

    def on(self, device: torch.device) -> Batch:
        """The same batch where the network is."""
        if device.type == "cpu":
            return self
        return Batch._make(None if own is None else own.to(device, non_blocking=True) for own in self)


Augment = Callable[[Batch, np.random.Generator], Batch]
"""A batch for training as `detection.data.augmentation` made it -> as it is learned from, drawn by the generator."""


class Points(NamedTuple):
    """What distillation compares. B images, N points, C classes."""

    score_logits: Tensor  # (B, N, C)
    side_logits: Tensor | None  # (B, N, 4 * K): distributions over K bins for each side of a box; None where boxes are numbers
    features: tuple[Tensor, ...]  # (B, channels, height, width) each: the maps that the last layers read, fine to coarse
    boxes_xyxy_px: Tensor | None = None  # (B, N, 4), where boxes are numbers


class TeacherTargets(NamedTuple):
    """What a teacher says at the student's points. B images, N points of the student, C classes."""

    scores: Tensor  # (B, N, C) in [0, 1]
    side_logits: Tensor | None  # (B, N, 4 * K)
    confidence: Tensor  # (B, N): the teacher's best score for a box at this very point
    features: tuple[Tensor, ...]  # as many as the student has
    boxes_xyxy_px: Tensor | None = None  # (B, N, 4)


class Exported(Protocol):
    """The network as it is exported: a module that takes pictures (B, height, width, 3) as uint8, or planes of them.

    Layers that predict by a product may lie in its attribute `predictions`: by that name they are known in the file, and stay
    float. Without it they are found from the graph.
    """

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes xyxy in pixels (B, N, 4) and scores in [0, 1] (B, N, C)."""
        ...

    def planes_of(self, pictures: Tensor) -> Tensor:
        """Pictures as floats in [0, 255] with channels first: what tools that quantize understand."""
        ...


class Interface(Protocol):
    """How a model file is fed and read; `detection.file_interface` has the one that there is."""

    def write(self, folder: Path) -> None:
        """Put it next to a model file."""
        ...


class Learn(Protocol):
    """Forward and loss in one, since some detectors need the labels in their forward."""

    def __call__(
        self, network: nn.Module, batch: Batch, *, half: bool, forward: Callable[[Tensor], Raw] | None = None
    ) -> tuple[Raw, Tensor]:
        """What the network said, and the loss against the labels in float32.

        A box of less than full `confidence` is a soft label: the class's goal is multiplied by it, and so is the weight of the box.
        half: the forward runs in bfloat16 where torch sees fit (autocast). forward stands in for network(images) where the weights
        are not the module's own: a path of a supernet, a traced network with fake quantization.
        """
        ...


class SearchSpace(Protocol):
    """Networks of one family that a search may choose from."""

    @property
    def largest(self) -> Spec:
        """The one with the most of everything."""
        ...

    def options(self) -> dict[str, tuple[int, ...]]:
        """Name of each decision -> its options, ascending."""
        ...

    def spec(self, choice: Mapping[str, int]) -> Spec:
        """The detector of one choice."""
        ...


class Reduction(NamedTuple):
    """A number of a detector's settings that may be smaller: what is left has the weights that it had."""

    options: tuple[int, ...]
    """Ascending; the last is the detector's own."""
    having: Callable[[Spec, int], Spec]
    """The spec with another number, edits as they are."""
    has: Callable[[str, int], bool]
    """Whether the network with this number has a weight of this name; a weight that it has is as large as before."""


class LightWeights(NamedTuple):
    """Weights for light blocks, fitted to the dense ones that they replace."""

    weights: dict[str, Tensor]
    units: list[str]
    """Names of the light units whose weights were fitted."""


@dataclass(frozen=True)
class Family:
    """How detectors of one kind are made, trained, compared, exported and changed."""

    name: str
    settings: type[Frozen]
    """What a spec of this family holds besides classes, input size and edits."""
    cannot: Callable[[Spec], Mapping[Capability, str]]
    """What is not applicable to this detector -> the reason, in a sentence."""
    label: Callable[[Frozen], str]
    """Settings in a few words, for the names of nodes and variants."""
    stride_px: Callable[[Frozen], int]
    """The sides of its input are multiples of this."""

    build: Callable[[Spec], nn.Module]
    """The network, edits applied, weights random or whatever the construction leaves."""
    start: Callable[[Spec, int], Mapping[str, Tensor]]
    """Weights of a new detector: random ones by the seed, or those of a checkpoint."""

    learn: Learn
    raw: Callable[[nn.Module, Tensor], Raw]
    """What a network says of images (B, 3, height, width) in [0, 1]."""
    decode: Callable[[nn.Module, Raw], tuple[Tensor, Tensor]]
    """Boxes xyxy in pixels (B, N, 4) and scores in [0, 1] (B, N, C)."""
    points: Callable[[nn.Module, Raw], Points]
    targets: Callable[[Points, Points, Spec, Spec], TeacherTargets]
    """What a teacher says at a student's points: (points of the teacher, of the student, the teacher's spec, the student's)."""
    refuse_teacher: Callable[[Frozen, Frozen, bool], None]
    """ValueError where a teacher cannot teach a student: (settings of the teacher, of the student, whether boxes are compared)."""

    exported: Callable[[nn.Module, bool], Exported]
    """The module that is written to a file; with True it takes planes. It shares no weights with the network given."""
    select: Callable[[Spec], Selection]
    """How final detections of this detector are chosen."""

    protected: Callable[[nn.Module], tuple[str, ...]]
    """Names of the last prediction layers, whose outputs have a meaning and keep their width and precision."""
    scalar: Callable[[Raw], Tensor]
    """A number that depends on all that is predicted, to follow the dependencies between layers back from."""
    costs: Callable[[Spec], tuple[OperatorCost, ...]]
    """Every operator for one picture, as the exported file has them; one that belongs to a module begins with its name."""
    costs_are_of_layers: bool = False
    """Whether `costs` has layers with parameters alone. Latency is then estimated on the exported graph."""

    write: Callable[[Mapping[str, Tensor], Path], None] | None = None
    """Of families whose detectors are files: (weights, where) -> the file is written there, and `exported` is not asked."""
    from_file: Callable[[bytes], Mapping[str, Tensor]] | None = None
    """The content of such a file -> weights."""
    interface: Callable[[Spec], Interface] | None = None
    """How their files are fed and read; None: they take pictures and give boxes and scores as `Exported` says."""
    read_spec: Callable[[Any, Path, tuple[int, int], tuple[str, ...]], Spec] | None = None
    """Of families of networks that others wrote: (what a plan says, the plan's folder, (height, width), classes) -> its spec."""
    read_trained: Callable[[Any, Path, tuple[int, int], tuple[str, ...] | None, int], Detector | None] | None = None
    """The same with its trained weights, None where it begins with random ones: (what a plan says of it, the plan's folder,
    (height, width), classes of the data or None before it is prepared, a seed for class heads that are made anew)."""
    learning_rates: Callable[[nn.Module], Mapping[str, float]] | None = None
    """Names of modules -> the factor on the learning rate of what is in them, the innermost counts; None: all learn alike."""
    augment: Callable[[Spec], Augment | None] | None = None
    """What else happens to batches in trainings of this detector; None: nothing."""
    unwrapped: Callable[[nn.Module], nn.Module] | None = None
    """The network as its author wrote it, out of what `build` gives, which is then no longer used; None: they are the same."""
    about: Callable[[Spec], Iterator[str]] | None = None
    """What was read of a user's, in lines for people."""
    light: Callable[[Spec, str, tuple[str, ...]], Spec] | None = None
    """The spec with light blocks: (spec, kind of block, parts of the network); InputError where they cannot be had."""
    light_weights: Callable[[nn.Module, nn.Module, Sequence[Tensor]], LightWeights] | None = None
    """(trained dense network, light network with its weights where both are alike, batches of images to look at) -> weights for the
    light one's other parts."""
    space: Callable[[Spec, tuple[float, ...], int, Mapping[str, Any]], SearchSpace] | None = None
    """(spec, shares of its widths, multiple of widths, the family's own options); InputError where there is no such space."""
    skippable: Callable[[nn.Module], tuple[str, ...]] | None = None
    """Names of the blocks that may be left out: what comes out of each is as large as what goes in."""
    reducible: Callable[[Spec, tuple[float, ...]], Mapping[str, Reduction]] | None = None
    """(spec, shares of large numbers) -> numbers of its settings that a search may take smaller, by name."""
    narrowed: Callable[[Spec, float], Spec] | None = None
    """The detector with every width at this share of its own; None: narrow networks are made of its channel groups."""
    widths: Callable[[Spec], tuple[int, ...]] | None = None
    """The widths that `narrowed` makes smaller."""


def family_named(name: str) -> Family:
    """The family of a name; InputError where there is none."""
    return cast(Family, rules_of(name))


def family_of(spec: Spec) -> Family:
    """The family of a detector."""
    return family_named(spec.family)


class UnsetWeights(TorchFunctionMode):
    """While entered, networks are built without drawing their weights: for those who set them all, or look at shapes only.

    Drawing takes half of the time of building.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The tensor as it is in place of what torch.nn.init would draw; everything else as ever."""
        given = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def random_start(build: Callable[[Spec], nn.Module], spec: Spec, seed: int) -> dict[str, Tensor]:
    """Weights as the construction draws them; the same seed gives the same and leaves the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: tensor.detach().contiguous() for name, tensor in build(spec).state_dict().items()}
