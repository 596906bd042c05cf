"""Which references a sweep makes: their settings looked up in the menu, checked, and named."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from compressors.channels.importance import CHANCE
from compressors.latency import LatencyIn, estimated_latency, latency_dtype
from compressors.lightweight import light_spec
from compressors.nas import Nas, space_to_search
from compressors.nas.space import smallest
from compressors.planning.cells import Cell, Menu
from compressors.planning.references import (
    GivenReference,
    Narrow,
    NarrowReference,
    RandomPruningReference,
    Rebuilding,
    ReferenceConfig,
    SmallerInput,
    SmallerInputReference,
    narrowed,
    narrowest,
)
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.family import SearchSpace
from detection.frozen import InputError
from detection.spec import Spec, input_shares, smaller_input
from hardware_profiles.schema.profile import HardwareProfile

PREFIX = "reference:"
"""Every reference's name begins with it, and no cell's."""
QUANTIZED = "+quantization"
RESHAPING = ("lightweight", "nas", "pruning", "low_rank")
"""Methods of which a cell needs one for its network to differ from the teacher's."""


class Reference(Cell):
    """Something simpler that the cells must beat. What of it is a method stands in `configs`: random pruning, quantization."""

    setting: ReferenceConfig | GivenReference
    """Of `grid.references`, with what was left open filled in."""
    rebuilding: Rebuilding | None = None
    """How the teacher's architecture is changed before it is trained from scratch; None: it goes on with the trained teacher."""
    like: Cell | None = None
    """The cell whose network says how fast its own must be."""

    @property
    def is_given(self) -> bool:
        """Whether it is the user's detector as it was brought."""
        return self.setting.kind == "given"

    @property
    def float_name(self) -> str:
        """Its name before it is quantized."""
        return self.name.removesuffix(QUANTIZED) if self.setting.quantization else self.name


def references_of(
    wanted: tuple[ReferenceConfig, ...] | None,
    menu: Menu,
    cells: tuple[Cell, ...],
    teacher: Spec,
    profile: HardwareProfile,
    cannot: Collection[str] = (),
) -> tuple[Reference, ...]:
    """The wanted references, or where nothing is said those that the menu allows of; their names differ.

    `cells` are the sweep's, `profile` is its design profile, `cannot` what is not applicable in it. InputError names the field that
    asks for what cannot be.
    """
    sweep = _Sweep(menu, {cell.name: cell for cell in cells}, teacher, profile, cannot)
    if wanted is None:
        return sweep.usual()
    found: dict[str, Reference] = {}
    for position, config in enumerate(wanted):
        place = f"grid.references.{position}"
        for reference in sweep.references(config, place):
            if reference.name in found:
                raise InputError(f"{place}: makes {reference.name!r}, which the list has already; leave one of the two out.")
            found[reference.name] = reference
    return tuple(found.values())


@dataclass(frozen=True)
class _Sweep:
    """What references are made from."""

    menu: Menu
    cells: dict[str, Cell]
    teacher: Spec
    profile: HardwareProfile
    cannot: Collection[str]

    def usual(self) -> tuple[Reference, ...]:
        """Random pruning for every variant that has a share of multiply-adds, a narrow network like the first search's, and the
        teacher for smaller pictures: as far as there are such variants and such pictures. All in float."""
        found: list[Reference] = []
        if self._exactly_pruned():
            found += self.references(RandomPruningReference(), "")
        searched = next((cell for cell in self.cells.values() if cell.configs and cell.configs == self.menu.nas[:1]), None)
        if "narrow" not in self.cannot and searched is not None:
            # Refused where nothing is narrow enough, or the teacher cannot fill the menu, which is told where menus are checked.
            with suppress(InputError):
                found += self.references(NarrowReference(like=searched.name), "")
        if "smaller_input" not in self.cannot and len(input_shares(self.teacher)) > 1:
            found += self.references(SmallerInputReference(), "")
        return tuple(found)

    def references(self, config: ReferenceConfig, place: str) -> tuple[Reference, ...]:
        """What one setting makes; `place` is where it stands, for messages."""
        match config:
            case NarrowReference(like=None):
                return (self._narrow_by_share(config, place),)
            case NarrowReference():
                return (self._narrow_like(config, place),)
            case SmallerInputReference():
                return (self._smaller_input(config, place),)
            case RandomPruningReference():
                return self._randomly_pruned(config, place)

    def _narrow_by_share(self, config: NarrowReference, place: str) -> Reference:
        share = config.width_share or 1.0
        if narrowed(self.teacher, share) == self.teacher:
            raise InputError(f"{place}.width_share: {share:g} leaves every width as it is. Choose a smaller one.")
        quantization = self._quantization(config, place)
        name = _named(f"narrow-{share:g}", quantization)
        return Reference(name=name, configs=quantization, setting=config, rebuilding=Narrow(width_share=share))

    def _narrow_like(self, config: NarrowReference, place: str) -> Reference:
        like = self.cells.get(config.like or "")
        if like is None:
            known = ", ".join(repr(name) for name, cell in self.cells.items() if len(cell.configs) == 1 and _is_reshaped(cell))
            raise InputError(f"{place}.like: {config.like!r} is no cell of this sweep, such as {known or 'none'}.")
        if not _is_reshaped(like):
            raise InputError(
                f"{place}.like: the network of {like.name!r} is the teacher's, so a narrower one would be compared with nothing. "
                f"Name a cell with {', '.join(RESHAPING[:-1])} or {RESHAPING[-1]}."
            )
        own = like.config("quantization")
        # Files of float16 are widened when they are loaded.
        latency_in: LatencyIn = "int8" if own is not None and own.precision == "int8" else "float"
        self._refuse_out_of_reach(like, latency_in, place)
        quantization = self._quantization(config, place) if own is None else (_after_training(own),)
        # The name of a quantized cell says already that the reference is quantized.
        name = _named(f"narrow~{like.name}", quantization if own is None else ())
        rebuilding = Narrow(width_share=None, latency_in=latency_in)
        return Reference(name=name, configs=quantization, setting=config, rebuilding=rebuilding, like=like)

    def _smaller_input(self, config: SmallerInputReference, place: str) -> Reference:
        shares = input_shares(self.teacher)[:-1]
        if config.input_share is None and not shares:
            raise InputError(
                f"{place}.input_share: no pictures smaller than {self.teacher.input_size} (height, width) fit the "
                f"detector's strides at the same ratio of sides. Leave this reference out."
            )
        wanted = config.input_share or shares[-1]
        # Shares are shown with four digits, so four must do for asking.
        share = next((own for own in shares if f"{own:.4g}" == f"{wanted:.4g}"), wanted)
        if share == 1:
            raise InputError(f"{place}.input_share: 1 leaves the pictures as they are. Choose a smaller one.")
        try:
            smaller_input(self.teacher, share)
        except InputError as error:
            raise InputError(f"{place}.{error}") from error
        whole = config.model_copy(update={"input_share": share})
        quantization = self._quantization(config, place)
        name = _named(f"input-{share:.4g}", quantization)
        return Reference(name=name, configs=quantization, setting=whole, rebuilding=SmallerInput(input_share=share))

    def _randomly_pruned(self, config: RandomPruningReference, place: str) -> tuple[Reference, ...]:
        """One per setting that is left when only chance decides: importances of equal targets share theirs."""
        exact = self._exactly_pruned()
        if config.like is not None:
            labels = {variant.label(): variant for variant in exact}
            if config.like not in labels:
                known = ", ".join(map(repr, labels)) or "none"
                raise InputError(
                    f"{place}.like: {config.like!r} is no variant of pruning that keep_macs decides and chance does not; those of "
                    f"the menu are {known}."
                )
            exact = (labels[config.like],)
        if not exact:
            raise InputError(f"{place}: the menu has no variant of pruning with keep_macs. Add one or leave this reference out.")
        quantization = self._quantization(config, place)
        found: dict[str, Reference] = {}
        usual = Pruning().gradient_pictures  # chance looks at no pictures
        for variant in exact:
            own = variant.model_copy(update={"importance": CHANCE, "gradient_pictures": usual})
            name, whole = _named(_random_name(own), quantization), config.model_copy(update={"like": variant.label()})
            found.setdefault(name, Reference(name=name, configs=(own, *quantization), setting=whole))
        return tuple(found.values())

    def _exactly_pruned(self) -> tuple[Pruning, ...]:
        return tuple(own for own in self.menu.pruning if own.keep_macs is not None and own.importance != CHANCE)

    def _quantization(self, config: ReferenceConfig, place: str) -> tuple[Quantization, ...]:
        """The menu's first variant where the setting asks for one; () where it does not."""
        if not config.quantization:
            return ()
        if not self.menu.quantization:
            raise InputError(f"{place}.quantization: the menu has no variant of quantization. Add one or set it to false.")
        return (_after_training(self.menu.quantization[0]),)

    def _refuse_out_of_reach(self, like: Cell, latency_in: LatencyIn, place: str) -> None:
        try:
            most_s = self._slowest_s(like, latency_in)
        except InputError as error:  # the fault of the cell, not of the reference
            raise InputError(f"grid.methods.{error}") from error
        least_s = self._latency_s(narrowest(self.teacher), latency_in)
        if least_s > most_s:
            raise InputError(
                f"{place}.like: nothing is narrow enough. On {self.profile.id} even the narrowest network takes an estimated "
                f"{least_s:.3g} s in {latency_in}, that of {like.name!r} at most {most_s:.3g} s. Name a slower cell or leave this "
                f"reference out."
            )

    def _slowest_s(self, cell: Cell, latency_in: LatencyIn) -> float:
        """The most that the estimated latency of a cell's network can be, as far as is known before it is made."""
        light, nas = cell.config("lightweight"), cell.config("nas")
        start = self.teacher if light is None else light_spec(self.teacher, light)
        if cell.config("low_rank") is not None:  # factored where the multiply-adds fall, which may take longer
            return float("inf")
        if nas is None:
            return self._latency_s(start, latency_in)
        return self._searched_s(space_to_search(start, nas), nas, latency_in)

    def _searched_s(self, space: SearchSpace, nas: Nas, latency_in: LatencyIn) -> float:
        """The budget of a search; one in int8 says little about float, and the other way round."""
        most_s = self._latency_s(space.largest, latency_in)
        if nas.latency_in != latency_in:
            return most_s
        least_s = self._latency_s(space.spec(smallest(space)), latency_in)
        return most_s - (1 - nas.budget_share) * (most_s - least_s)

    def _latency_s(self, spec: Spec, latency_in: LatencyIn) -> float:
        return estimated_latency(spec, self.profile, latency_dtype(latency_in, self.profile, "narrow")).point_s


def given_reference() -> Reference:
    """The user's detector as it was brought, in float: the control goes on with its training."""
    return Reference(name=PREFIX + "given", configs=(), setting=GivenReference())


def _named(words: str, quantization: tuple[Quantization, ...]) -> str:
    return PREFIX + words + (QUANTIZED if quantization else "")


def _is_reshaped(cell: Cell) -> bool:
    return any(config.method in RESHAPING for config in cell.configs)


def _random_name(own: Pruning) -> str:
    usual = Pruning()
    words = ["random-pruning", f"{own.keep_macs:g}"]
    words += [own.grouping] if own.grouping != usual.grouping else []
    words += [f"round-{own.round_to}"] if own.round_to != usual.round_to else []
    words += [f"most-{own.most_removed:g}"] if own.most_removed != usual.most_removed else []
    return "-".join(words)


def _after_training(config: Quantization) -> Quantization:
    """The same without a training of its own: a reference's weights see what every cell's see, and no more."""
    usual = Quantization()
    return config.model_copy(update={"qat_epochs": usual.qat_epochs, "qat_learning_rate": usual.qat_learning_rate})
