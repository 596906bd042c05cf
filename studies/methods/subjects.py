"""What the study shows of each method: what its variants are compared with, and which of them is trained with three seeds."""

from __future__ import annotations

from typing import Literal

from compressors.planning.names import MethodName
from detection.frozen import Frozen
from flows.records.schema import REFERENCE_PREFIX, is_reference

Rivalry = Literal["equal_macs", "no_slower", "plain"]
"""What a variant has to beat. `equal_macs`: random pruning with the same settings; `no_slower`: of the references that are measured
no slower than it, the one with the best val mAP; `plain`: the plainest variant of its own method."""


class Subject(Frozen):
    """One method in the study."""

    method: MethodName
    three_seeds: str
    """Label of the variant that is trained with three seeds: one from the middle."""
    rivalry: Rivalry
    references: tuple[str, ...] = ()
    """Kinds of `grid.references` that its table shows."""
    plain: str | None = None
    """Label of the variant that is shown as a reference: without what the method adds."""


SUBJECTS: tuple[Subject, ...] = (
    Subject(
        method="lightweight", three_seeds="ghost", rivalry="no_slower", references=("narrow", "smaller_input")
    ),
    Subject(method="nas", three_seeds="nsga2-0.5", rivalry="no_slower", references=("narrow", "smaller_input")),
    Subject(method="pruning", three_seeds="taylor-0.5", rivalry="equal_macs", references=("random_pruning",)),
    Subject(
        method="low_rank", three_seeds="tucker-macs-0.6-everywhere", rivalry="no_slower", references=("narrow", "smaller_input")
    ),
    Subject(method="distillation", three_seeds="scores+LD+PKD", rivalry="plain", plain="labels"),
    Subject(method="quantization", three_seeds="int8-val", rivalry="plain", plain="int8-minmax"),
)  # fmt: skip
"""In the order of a cell's name."""


def cell_of(method: str, label: str) -> str:
    """The name of the cell with this variant alone, in a menu that has several variants of the method."""
    return f"{method}:{label}"


def label_of(name: str) -> str:
    """The variant in a cell of one method alone (the method itself where the menu has no other), or what a reference is."""
    if is_reference(name):
        return name.removeprefix(REFERENCE_PREFIX)
    return name.partition(":")[2] or name
