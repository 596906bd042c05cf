"""Does a detector family keep its promises? `check_family` is what the author of a family runs first.

Each claim is a function that raises AssertionError with what is wrong and what to do. None needs more than a few small pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from detection.checkpoint import Detector, fresh
from detection.costs import count_macs, operator_costs
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.evaluation import as_input
from detection.family import Batch, Capability, Family, family_of
from detection.spec import Skipped, Spec
from detection.training import augmented, rate_factors

BOX_TOLERANCE_PX, SCORE_TOLERANCE = 0.05, 1e-4
"""Between the network and its exported form, which may fold and reorder arithmetic in float32."""
LARGEST_SHARE = 2.0
"""Boxes as shares of the picture have hardly a coordinate above 1; of boxes in pixels all but the first corner's have."""
MOST_REVERSED = 0.5
"""Share of the boxes that may end before they begin: an untrained network may predict some such; read as a place and a size, all
but those near the left and upper edge do."""
STEPS = 12
"""Of gradient descent on one batch, after which a loss that means anything has fallen."""
OPTIONAL: dict[Capability, tuple[str, ...]] = {
    "lightweight": ("light", "light_weights"),
}
"""What a family may leave out, and the capability that it then has to deny."""


@dataclass(frozen=True)
class Subject:
    """What the claims are about: one detector of the family, and a few pictures."""

    family: Family
    spec: Spec
    images: Images

    @property
    def detector(self) -> Detector:
        """A new detector."""
        return fresh(self.spec, 0)

    def batch(self, count: int) -> Batch:
        """The first pictures, as a training step sees them."""
        return make_batch(self.images, np.arange(min(count, len(self.images))), None, np.random.default_rng(0))


def check_family(spec: Spec, images: Images) -> tuple[str, ...]:
    """The claims that hold for the family of a spec, by name; ValueError with every claim that does not.

    `images` are a few labelled pictures of the spec's input size, with its classes.
    """
    subject = Subject(family_of(spec), spec, images)
    broken: dict[str, str] = {}
    for claim in CLAIMS:
        try:
            claim(subject)
        except Exception as error:  # whatever a family's code raises is what its author has to see
            broken[claim.__name__] = str(error) or type(error).__name__
    if broken:
        lines = "\n".join(told_once(broken))
        raise ValueError(f"family {subject.family.name!r}: {len(broken)} of {len(CLAIMS)} claims do not hold:\n{lines}")
    return tuple(claim.__name__ for claim in CLAIMS)


def told_once(broken: dict[str, str]) -> list[str]:
    """A line for each reason, behind the claims that it breaks: one mistake often breaks many."""
    claims: dict[str, list[str]] = {}
    for claim, reason in broken.items():
        claims.setdefault(reason, []).append(claim)
    return [f"- {', '.join(names)}: {reason}" for reason, names in claims.items()]


def spec_survives_json(subject: Subject) -> None:
    """A spec written to a file and read again is the same."""
    again = Spec.model_validate_json(subject.spec.model_dump_json(by_alias=True))
    assert again == subject.spec, "the settings change on their way through JSON; give their fields types that JSON has"


def start_is_drawn_by_the_seed(subject: Subject) -> None:
    """The same seed gives the same weights, and the global generator stays as it was."""
    before = torch.random.get_rng_state()
    first, second = (subject.family.start(subject.spec, 7) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state()), "start moves torch's global generator; use family.random_start"
    assert all(torch.equal(first[name], second[name]) for name in first), "start gives other weights the second time"
    missing = set(subject.family.build(subject.spec).state_dict()) ^ set(first)
    assert not missing, f"start and build disagree about {sorted(missing)[:3]}"


def predictions_are_boxes_and_scores(subject: Subject) -> None:
    """decode gives finite boxes (B, N, 4) and scores (B, N, C) in [0, 1], and each picture is predicted by itself."""
    network, batch = subject.detector.network(), subject.batch(2)
    with torch.no_grad():
        boxes, scores = subject.family.decode(network, subject.family.raw(network, batch.images))
        alone, _ = subject.family.decode(network, subject.family.raw(network, batch.images[:1]))
    count, points, classes = len(batch.images), boxes.shape[1], len(subject.spec.classes)
    assert boxes.shape == (count, points, 4), f"boxes are {tuple(boxes.shape)}, not (B, N, 4)"
    assert scores.shape == (count, points, classes), f"scores are {tuple(scores.shape)}, not ({count}, {points}, {classes})"
    assert bool(boxes.isfinite().all()), "boxes are not finite"
    assert bool(((scores >= 0) & (scores <= 1)).all()), "scores lie outside [0, 1]: apply the sigmoid in decode"
    assert torch.allclose(boxes[:1], alone, atol=BOX_TOLERANCE_PX), "a picture's boxes depend on the others of its batch"


def boxes_are_corners_in_pixels(subject: Subject) -> None:
    """decode gives left, top, right and bottom in pixels of the input, not a place with a size, and not shares of the picture."""
    network, batch = subject.detector.network(), subject.batch(2)
    with torch.no_grad():
        boxes, _ = subject.family.decode(network, subject.family.raw(network, batch.images))
    largest = float(boxes.abs().max())
    assert largest > LARGEST_SHARE, (
        f"no coordinate of a box is above {largest:.3g}: these look like shares of the picture. Multiply x by its width in pixels "
        f"and y by its height in decode"
    )
    left, top, third, fourth = boxes.unbind(-1)
    share = float(((third < left) | (fourth < top)).float().mean())
    could_be_sizes = bool(((third >= 0) & (fourth >= 0)).all())
    assert share <= MOST_REVERSED or not could_be_sizes, (
        f"{share:.0%} of the boxes end before they begin: these look like a place and a size (x, y, width, height). Give "
        f"left, top, right and bottom in decode"
    )


def training_lowers_the_loss(subject: Subject) -> None:
    """A few steps of gradient descent on one batch lower the loss, which is float32 also where the forward is bfloat16."""
    network, batch, family = subject.detector.network().train(), subject.batch(4), subject.family
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    values: list[float] = []
    for _ in range(STEPS):
        _, loss = family.learn(network, batch, half=False)
        assert loss.ndim == 0, f"the loss is {tuple(loss.shape)}, not one number"
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(float(loss.detach()))
    assert all(map(math.isfinite, values)), f"the loss became {values}"
    assert values[-1] < values[0], f"the loss went from {values[0]:.4g} to {values[-1]:.4g} in {STEPS} steps on one batch"
    _, halved = family.learn(network, batch, half=True)
    assert halved.dtype == torch.float32, f"with half the loss is {halved.dtype}: compute it from logits in float32"


def learn_takes_a_forward(subject: Subject) -> None:
    """learn uses the forward it is given, as supernets and fake quantization need; unless neither is possible."""
    cannot = subject.family.cannot(subject.spec)
    if "nas" in cannot and "qat" in cannot:
        return
    network, called = subject.detector.network(), []

    def forward(images: Tensor) -> Any:
        called.append(len(images))
        return subject.family.raw(network, images)

    subject.family.learn(network, subject.batch(2), half=False, forward=forward)
    assert called, "learn ignores `forward`; call it in place of network(images)"


def unsure_boxes_count_less(subject: Subject) -> None:
    """The loss of a batch whose boxes are hardly sure is another; boxes that are wholly sure are labels."""
    if "distillation" in subject.family.cannot(subject.spec):
        return
    network, batch = subject.detector.network(), subject.batch(2)
    sure = batch.present.float()
    with torch.no_grad():
        labels, wholly, hardly = (
            float(subject.family.learn(network, batch._replace(confidence=own), half=False)[1]) for own in (None, sure, sure / 10)
        )
    assert math.isclose(labels, wholly, rel_tol=1e-4), "learn takes boxes of confidence 1 for something else than labels"
    assert not math.isclose(labels, hardly, rel_tol=1e-4), "learn ignores `confidence`; multiply goals and weights of boxes by it"


def points_teach(subject: Subject) -> None:
    """A detector can be its own teacher: points and targets have the same points, scores and maps."""
    if "distillation" in subject.family.cannot(subject.spec):
        return
    network, batch, family = subject.detector.network(), subject.batch(2), subject.family
    with torch.no_grad():
        raw = family.raw(network, batch.images)
        points, (_, scores) = family.points(network, raw), family.decode(network, raw)
    family.refuse_teacher(subject.spec.settings, subject.spec.settings, True)
    targets = family.targets(points, points, subject.spec, subject.spec)
    assert torch.allclose(points.score_logits.sigmoid(), scores, atol=SCORE_TOLERANCE), "points' logits are not those of the scores"
    assert targets.scores.shape == points.score_logits.shape, "targets have other points than the student"
    assert targets.confidence.shape == points.score_logits.shape[:2], "confidence is not (B, N)"
    assert len(targets.features) == len(points.features), "targets have other maps than the student"


def exported_form_predicts_the_same(subject: Subject) -> None:
    """The exported module predicts from bytes, and from planes of them, what the network does; it has weights of its own."""
    network, family = subject.detector.network(), subject.family
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batch, picture = subject.batch(1), torch.from_numpy(as_input(subject.images.pixels[0]).copy())
    planes_of = family.exported(network, True).planes_of
    with torch.no_grad():
        expected = family.decode(network, family.raw(network, batch.images))
        found = {"bytes": family.exported(network, False)(picture), "planes": family.exported(network, True)(planes_of(picture))}
    for taken, (boxes, scores) in found.items():
        assert boxes.shape == expected[0].shape, f"from {taken} the exported form gives boxes {tuple(boxes.shape)}"
        off_px, off = float((boxes - expected[0]).abs().max()), float((scores - expected[1]).abs().max())
        assert off_px <= BOX_TOLERANCE_PX, f"from {taken} the exported form's boxes are {off_px:.3g} px off"
        assert off <= SCORE_TOLERANCE, f"from {taken} the exported form's scores are {off:.3g} off"
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "exporting changes the network's own weights"


def protected_layers_predict(subject: Subject) -> None:
    """The protected layers exist, and the scalar depends on every one of them."""
    network, family = subject.detector.network(), subject.family
    names = family.protected(network)
    assert names, "no layer is protected, so pruning would remove predictions"
    family.scalar(family.raw(network, subject.batch(1).images)).backward()  # type: ignore[no-untyped-call]
    for name in names:
        weight = cast(Tensor | None, getattr(network.get_submodule(name), "weight", None))
        assert weight is not None, f"protected layer {name!r} has no weight"
        assert weight.grad is not None, f"the scalar does not depend on {name!r}"


def augment_is_drawn_by_the_generator(subject: Subject) -> None:
    """The detector's own augmentation gives a batch of as many pictures, and the same one again from the same generator."""
    own = subject.family.augment(subject.spec) if subject.family.augment else None
    if own is None:
        return
    shape = subject.batch(2).images.shape
    first, again = (augmented(own, subject.batch(2), np.random.default_rng(1)) for _ in range(2))
    assert isinstance(first, Batch), f"augment gives a {type(first).__name__}; give batch._replace(images=...)"
    assert first.images.shape == shape, f"augment gives images {tuple(first.images.shape)}, not {tuple(shape)}"
    assert 0 <= float(first.images.min()) <= float(first.images.max()) <= 1, "augment gives images outside [0, 1]"
    most = first.boxes_xyxy_px.shape[:2]
    assert (most[0], first.labels.shape, first.present.shape) == (shape[0], most, most), "augment gives boxes without labels"
    same = all(torch.equal(one, other) for one, other in zip(first[:4], again[:4], strict=True))
    assert same, "augment draws elsewhere than from the generator that it is given, or from torch"


def learning_rates_are_of_modules(subject: Subject) -> None:
    """What learns faster or slower than the rest is in the network."""
    rate_factors(subject.family, subject.detector.network())


def costs_count_the_layers(subject: Subject) -> None:
    """Multiply-adds are those of the convolutions and products that run, within 2 %."""
    network, counted = subject.detector.network(), []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        transposed = isinstance(layer, nn.ConvTranspose2d)  # multiplies at each place that it reads
        counted.append(cast(Tensor, layer.weight)[0].numel() * (inputs[0] if transposed else output).numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        subject.family.raw(network, torch.zeros(1, 3, *subject.spec.input_size))
    told, ran = count_macs(subject.spec), sum(counted)
    assert abs(told - ran) <= 0.02 * ran, f"costs tell {told:,} multiply-adds, the layers did {ran:,}"
    assert any(cost.predicts for cost in operator_costs(subject.spec)), "no operator is marked as predicting"


def refusals_are_sentences(subject: Subject) -> None:
    """What is not applicable is said in a sentence, for every capability that the family left out."""
    cannot = subject.family.cannot(subject.spec)
    for capability, reason in cannot.items():
        assert capability in get_args(Capability), f"cannot names {capability!r}; capabilities are {get_args(Capability)}"
        assert reason.strip().endswith("."), f"cannot[{capability!r}]: say why in a sentence that ends with a full stop"
    for optional, parts in OPTIONAL.items():
        absent = [part for part in parts if getattr(subject.family, part) is None]
        assert not absent or optional in cannot, f"{absent[0]} is None, so cannot() must say why {optional!r} is not applicable"


def other_networks_build(subject: Subject) -> None:
    """Light, narrow and searched networks can be built and predict, as far as the family offers them."""
    family, spec = subject.family, subject.spec
    cannot, offered = family.cannot(spec), list[Spec]()
    if family.light is not None and "lightweight" not in cannot:
        offered.append(family.light(spec, "depthwise", ("backbone", "neck", "head")))
    if family.narrowed is not None and "narrow" not in cannot:
        offered.append(family.narrowed(spec, 0.5))
    if family.space is not None and "nas" not in cannot and not spec.edits:  # an edited network is searched by its parts alone
        space = family.space(spec, (0.5, 1.0), 8, {})
        offered.append(space.spec({name: options[0] for name, options in space.options().items()}))
        assert space.spec({name: options[-1] for name, options in space.options().items()}) == space.largest, (
            "the last option everywhere is not the largest network of the space"
        )
    for other in offered:
        with torch.no_grad():
            family.raw(family.build(other).eval(), torch.zeros(1, 3, *other.input_size))


def blocks_can_be_left_out(subject: Subject) -> None:
    """Every skippable block gives maps as large as those that it takes, so without it the same points are predicted."""
    network, family = subject.detector.network(), subject.family
    sizes: dict[str, tuple[Any, Any]] = {}

    def note(name: str, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes[name] = (tuple(inputs[0].shape), tuple(output.shape))

    names = () if family.skippable is None else family.skippable(network)
    for name in names:
        network.get_submodule(name).register_forward_hook(partial(note, name))
    with torch.no_grad():
        family.raw(network, subject.batch(1).images)
    for name in names:
        assert name in sizes, f"skippable names {name!r}, which does not run"
        taken, given = sizes[name]
        assert taken == given, f"skippable names {name!r}, which takes maps {taken} and gives {given}"
    if names:
        family.raw(family.build(subject.spec.edited(Skipped(blocks=names))).eval(), subject.batch(1).images)


def smaller_numbers_keep_weights(subject: Subject) -> None:
    """With less of what is `reducible`, the network has the weights that `has` says, as large as before, and predicts."""
    family, spec = subject.family, subject.spec
    for name, own in ({} if family.reducible is None else family.reducible(spec, (0.5,))).items():
        assert own.options == tuple(sorted(set(own.options))), f"reducible[{name!r}]: options {own.options} do not ascend"
        number = own.options[0]
        network = family.build(own.having(spec, number)).eval()
        sizes = {(weight, tensor.shape) for weight, tensor in network.state_dict().items()}
        kept = {(weight, tensor.shape) for weight, tensor in subject.detector.weights.items() if own.has(weight, number)}
        assert sizes == kept, f"reducible[{name!r}]: with {number}, weights differ: {sorted(name for name, _ in sizes ^ kept)[:6]}"
        family.raw(network, subject.batch(1).images)


Claim = Callable[[Subject], None]
CLAIMS: tuple[Claim, ...] = (
    spec_survives_json,
    start_is_drawn_by_the_seed,
    predictions_are_boxes_and_scores,
    boxes_are_corners_in_pixels,
    training_lowers_the_loss,
    learn_takes_a_forward,
    unsure_boxes_count_less,
    points_teach,
    exported_form_predicts_the_same,
    protected_layers_predict,
    augment_is_drawn_by_the_generator,
    learning_rates_are_of_modules,
    costs_count_the_layers,
    refusals_are_sentences,
    other_networks_build,
    smaller_numbers_keep_weights,
    blocks_can_be_left_out,
)
