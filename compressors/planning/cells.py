"""What a sweep chooses from: the variants of each method, and the cells that they make."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field

from compressors.contract import Phase
from compressors.distillation import Distillation
from compressors.lightweight import Lightweight
from compressors.low_rank import LowRank
from compressors.nas import Nas
from compressors.planning.names import CONTROL, METHODS, MethodName
from compressors.pruning import Pruning
from compressors.quantization import Quantization
from detection.frozen import Frozen, InputError

MethodConfig = Annotated[
    Lightweight | Nas | Pruning | LowRank | Distillation | Quantization,
    Field(discriminator="method"),
]
CHANGING: tuple[MethodName, ...] = ("lightweight", "nas")
"""Methods that change the architecture, whose networks may begin from scratch."""
REDUCTIONS: tuple[MethodName, ...] = ("pruning", "low_rank")
"""Methods that reduce the trained detector, in the order in which they do unless a sweep says otherwise."""
Combinations = Literal["all", "alone"]
"""Whether methods are crossed, or every variant stands on its own."""


class Menu(Frozen):
    """The variants of each method that the grid crosses; a method without variants takes no part."""

    lightweight: tuple[Lightweight, ...] = (Lightweight(),)
    nas: tuple[Nas, ...] = (Nas(),)
    pruning: tuple[Pruning, ...] = (Pruning(),)
    low_rank: tuple[LowRank, ...] = (LowRank(),)
    distillation: tuple[Distillation, ...] = (Distillation(),)
    quantization: tuple[Quantization, ...] = (Quantization(),)

    def without(self, methods: Collection[MethodName]) -> Menu:
        """The same without any variant of these methods."""
        return self.model_copy(update=dict.fromkeys(methods, ())) if methods else self

    def going_on(self) -> Menu:
        """The same for trained weights: variants of CHANGING inherit, unless they say otherwise or ask for other architectures."""
        return self.model_copy(update={name: tuple(map(_going_on, self.variants(name))) for name in CHANGING})

    def variants(self, method: MethodName) -> tuple[Any, ...]:
        """The configurations of one method."""
        return tuple(getattr(self, method))


class Cell(Frozen):
    """One subset of the methods with one variant each; the empty one is the control."""

    name: str
    configs: tuple[MethodConfig, ...]

    def config(self, method: MethodName) -> Any:
        """The configuration of one method, or None where the cell does not use it."""
        return next((config for config in self.configs if config.method == method), None)

    def of(self, *phases: Phase) -> tuple[Any, ...]:
        """The configurations that take part in these phases, in the order of the phases, then of METHODS."""
        return tuple(config for phase in phases for config in self.configs if config.phase == phase)

    def one_of(self, phase: Phase) -> Any:
        """The configuration that takes part in a phase for which a node has one place, or None."""
        found = self.of(phase)
        assert len(found) <= 1, f"{self.name}: {len(found)} methods of phase {phase!r}, and `Node` has a place for one"
        return found[0] if found else None


def cells_of(menu: Menu, combinations: Combinations = "all") -> tuple[Cell, ...]:
    """Every combination, or each variant alone; fewest methods first, the control at the head.

    InputError where two variants of a method have the same label, since their cells would have the same name.
    """
    for method in METHODS:
        _refuse_equal_labels(method, menu)
    if combinations == "alone":
        chosen = [(), *((config,) for method in METHODS for config in menu.variants(method))]
    else:
        options = [(None, *menu.variants(method)) for method in METHODS]
        chosen = [tuple(config for config in row if config is not None) for row in itertools.product(*options)]
    cells = [Cell(name=_cell_name(configs, menu), configs=configs) for configs in chosen]
    return tuple(sorted(cells, key=lambda cell: (len(cell.configs), [METHODS.index(c.method) for c in cell.configs])))


def _going_on(config: Any) -> Any:
    if "weights" in config.model_fields_set or getattr(config, "space", None):
        return config
    return type(config).model_validate({**config.model_dump(exclude_unset=True), "weights": "inherited"})


def _refuse_equal_labels(method: MethodName, menu: Menu) -> None:
    places: dict[str, int] = {}
    for place, config in enumerate(menu.variants(method)):
        first = places.setdefault(config.label(), place)
        if first != place:
            raise InputError(
                f"grid.methods.{method}.{place}: named {config.label()!r} like number {first}, so their cells could not be told "
                f"apart. Change a setting that is part of the name, or give the two sweeps of their own."
            )


def _cell_name(configs: tuple[Any, ...], menu: Menu) -> str:
    names = [config.method if len(menu.variants(config.method)) == 1 else f"{config.method}:{config.label()}" for config in configs]
    return "+".join(names) or CONTROL
