"""A detector as data: its family, what it predicts, the family's own settings, and the edits that compression made, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from detection.families import rules_of
from detection.frozen import Frozen, InputError, PositiveInt


class LayerWidth(Frozen):
    """Channels that go into and come out of one layer; a normalisation has both equal."""

    inputs: PositiveInt
    outputs: PositiveInt


class KeptChannels(Frozen):
    """Edit: the named layers have these widths now (structured pruning)."""

    edit: Literal["kept_channels"] = "kept_channels"
    layers: dict[str, LayerWidth]


class Ranks(Frozen):
    """Ranks of a factored layer: Tucker-2 keeps two, an SVD keeps one.

    Tucker-2: 1x1, kxk, 1x1 (arXiv:1511.06530). SVD: kx1, 1xk (arXiv:1405.3866), which for a 1x1 convolution is 1x1, 1x1 and for a
    fully connected layer two of them.
    """

    inputs: PositiveInt | None
    """Rank on the input side; None for an SVD."""
    outputs: PositiveInt
    """Rank on the output side; for an SVD, the channels between its two halves."""


class Factored(Frozen):
    """Edit: each named layer is now a row of thinner ones (low-rank decomposition)."""

    edit: Literal["factored"] = "factored"
    layers: dict[str, Ranks]


class Separated(Frozen):
    """Edit: each named dense convolution is now a depthwise one and a 1x1, nothing between them (Xception, arXiv:1610.02357)."""

    edit: Literal["separated"] = "separated"
    layers: Annotated[tuple[str, ...], Field(min_length=1)]


class Skipped(Frozen):
    """Edit: the named blocks are left out; what goes into one comes out of it (stochastic depth, arXiv:1603.09382, trains so)."""

    edit: Literal["skipped"] = "skipped"
    blocks: Annotated[tuple[str, ...], Field(min_length=1)]


Edit = Annotated[KeptChannels | Factored | Separated | Skipped, Field(discriminator="edit")]


class Spec(Frozen):
    """All that is needed, besides weights, to rebuild a detector."""

    schema_version: Literal[2] = Field(default=2, alias="schema", serialization_alias="schema")
    family: str = "compact"
    """A name of `detection.families.FAMILIES`."""
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    input_size: tuple[PositiveInt, PositiveInt]
    """(height, width) of the letterboxed image in pixels."""
    settings: SerializeAsAny[Frozen]
    """What else the family needs to build it, of the family's own type."""
    edits: tuple[Edit, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _settings_are_the_familys(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("settings"), dict):
            return given | {"settings": parse_settings(given.get("family", "compact"), given["settings"])}
        return given

    @model_validator(mode="after")
    def _is_complete(self) -> Spec:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes {self.classes}: each name may stand once")
        family = rules_of(self.family)
        if not isinstance(self.settings, family.settings):
            raise ValueError(f"settings: {type(self.settings).__name__} are not those of family {self.family!r}")
        stride_px = family.stride_px(self.settings)
        if self.input_size[0] % stride_px or self.input_size[1] % stride_px:
            raise ValueError(
                f"input_size {self.input_size} (height, width): both must be multiples of {stride_px}, the coarsest stride"
            )
        return self

    def at(self, input_size: tuple[int, int]) -> Spec:
        """The same network for pictures of another size, (height, width) in pixels; ValidationError where they do not fit."""
        return Spec(family=self.family, classes=self.classes, input_size=input_size, settings=self.settings, edits=self.edits)

    def having(self, settings: Frozen) -> Spec:
        """The same with other settings of its family; ValidationError where the input does not fit them."""
        return Spec(family=self.family, classes=self.classes, input_size=self.input_size, settings=settings, edits=self.edits)

    def only(self, has: Callable[[str], bool]) -> Spec:
        """The same with edits of those layers alone that there are: `has` is asked of a weight of each."""
        kept = list[Edit]()
        for edit in self.edits:
            match edit:
                case KeptChannels() | Factored():
                    layers = {name: own for name, own in edit.layers.items() if has(f"{name}.weight")}
                    kept.extend([edit.model_copy(update={"layers": layers})] if layers else [])
                case Separated():
                    names = tuple(name for name in edit.layers if has(f"{name}.weight"))
                    kept.extend([Separated(layers=names)] if names else [])
                case Skipped():
                    blocks = tuple(name for name in edit.blocks if has(f"{name}.weight"))
                    kept.extend([Skipped(blocks=blocks)] if blocks else [])
        return self.model_copy(update={"edits": tuple(kept)})

    def edited(self, edit: Edit) -> Spec:
        """The same with one more edit."""
        return self.model_copy(update={"edits": (*self.edits, edit)})


def parse_settings(family: str, given: Any) -> Frozen:
    """Settings of a family from data; ValueError where there is no such family, ValidationError where they are none of its own."""
    own = rules_of(family).settings
    return given if isinstance(given, own) else own.model_validate(given)


def input_shares(spec: Spec) -> tuple[float, ...]:
    """Every share of the input's sides that the network can take, ascending; the last is 1."""
    (height_px, width_px), stride_px = spec.input_size, rules_of(spec.family).stride_px(spec.settings)
    heights = range(stride_px, height_px + 1, stride_px)
    return tuple(own_px / height_px for own_px in heights if width_px * own_px % (height_px * stride_px) == 0)


def smaller_input(spec: Spec, share: float) -> Spec:
    """The detector for pictures whose sides are this share of its own; InputError names the shares that fit."""
    height_px, width_px = (side * share for side in spec.input_size)
    if 0 < share <= 1 and height_px == round(height_px) and width_px == round(width_px):
        try:
            return spec.at((round(height_px), round(width_px)))
        except ValidationError:
            pass  # the strides do not fit
    allowed = ", ".join(f"{own:.4g}" for own in input_shares(spec))
    raise InputError(
        f"input_share {share}: of {spec.input_size} (height, width) it leaves no whole multiple of the coarsest stride, "
        f"{rules_of(spec.family).stride_px(spec.settings)}; allowed are {allowed}."
    )


def full_ranks(shape: Sequence[int], two: bool) -> Ranks:
    """Ranks with which nothing is lost of a kernel (outputs, inputs, height, width): the two of Tucker-2, or the one of an SVD."""
    outputs, inputs, height, width = (*shape, 1, 1)[:4]
    if two:
        return Ranks(inputs=min(inputs, outputs * height * width), outputs=min(outputs, inputs * height * width))
    return Ranks(inputs=None, outputs=min(inputs * height, outputs * width))


def refuse_above_full(layer: str, ranks: Ranks, shape: Sequence[int]) -> None:
    """InputError where a rank is more than a kernel of this shape (outputs, inputs, height, width) can have."""
    full = full_ranks(shape, two=ranks.inputs is not None)
    for side in ("inputs", "outputs"):
        rank, most = getattr(ranks, side), getattr(full, side)
        if rank is not None and rank > most:
            raise InputError(f"edits.layers.{layer}.{side}: rank {rank} is above full, which is {most} for this layer; lower it.")
