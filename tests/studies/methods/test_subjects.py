"""The study's configuration and the plan that it is about say the same."""

from __future__ import annotations

import pytest

from compressors.planning.names import METHODS
from flows.sweep.params import Plan, load_plan
from studies.methods.subjects import SUBJECTS, Subject, cell_of, label_of
from tests.places import ROOT

MAKEFILE = ROOT / "Makefile"
LEAST_VARIANTS = 5


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The plan of `make methods`."""
    return load_plan(MAKEFILE.parent / "plans/methods.yaml")


def test_every_method_is_a_subject() -> None:
    """One each, in the order of a cell's name."""
    assert tuple(subject.method for subject in SUBJECTS) == METHODS


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.method)
def test_named_cells_are_in_the_plan(subject: Subject, plan: Plan) -> None:
    """The variant with three seeds, the plain one, and at least one reference of every kind that a table is to show."""
    names = {cell.name for cell in plan.cells}
    assert cell_of(subject.method, subject.three_seeds) in names
    assert subject.plain is None or cell_of(subject.method, subject.plain) in names
    assert set(subject.references) <= {reference.setting.kind for reference in plan.references}
    assert subject.references or subject.plain, "every method has something to beat"


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.method)
def test_every_method_has_five_operating_points(subject: Subject, plan: Plan) -> None:
    """Without the plain variant, which is a reference; and each stands alone."""
    own = [cell for cell in plan.cells if [config.method for config in cell.configs] == [subject.method]]
    plain = cell_of(subject.method, subject.plain or "")
    assert len([cell for cell in own if cell.name != plain]) >= LEAST_VARIANTS
    assert len(own) == len(plan.params.grid.methods.variants(subject.method))


def test_every_share_is_compared_with_random_pruning(plan: Plan) -> None:
    """At equal multiply-adds: a reference for each share that is pruned to."""
    shares = {variant.keep_macs for variant in plan.params.grid.methods.pruning}
    random = [own.config("pruning") for own in plan.references if own.setting.kind == "random_pruning"]
    assert {config.keep_macs for config in random} == shares


@pytest.mark.parametrize(
    ("name", "label"),
    [("pruning:taylor-0.5", "taylor-0.5"), ("pruning", "pruning"), ("reference:narrow~nas:nsga2", "narrow~nas:nsga2")],
)
def test_labels_identify_a_row(name: str, label: str) -> None:
    """Of a cell its variant, of a reference what it is, colons and all."""
    assert label_of(name) == label
