"""The study's configuration and the plan that it is about say the same; and which reference a variant has to beat."""

from __future__ import annotations

import pytest

from compressors.planning.names import METHODS
from flows.records.schema import CellRecord
from flows.report.recommendation import relative_speed
from flows.sweep.params import Plan
from flows.sweep.plan_checks import load_plan
from studies.methods.subjects import SUBJECTS, Subject, baselines, cell_of, label_of, timed_row
from tests.flows.records_factory import cells_file, latency_file, ok_cell
from tests.places import ROOT
from tests.studies.methods.methods_factory import PROFILE, RUNTIME, alone, reference, row

MAKEFILE = ROOT / "Makefile"
LEAST_VARIANTS = 5
BY_METHOD: dict[str, Subject] = {subject.method: subject for subject in SUBJECTS}


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


def chosen(method: str, variants: list[CellRecord], references: list[CellRecord], times_ms: dict[str, float]) -> dict[str, str]:
    """Variant -> baseline in the one runtime, where these cells took so long."""
    cells = cells_file([ok_cell((), 0.55), *variants], runtimes=(RUNTIME,), references=references)
    known = {record.cell: record for record in (*cells.cells, *cells.references)}
    latency = latency_file([row(known[name], ms / 1e3) for name, ms in times_ms.items()])
    found = baselines(BY_METHOD[method], variants, references, cells, latency)
    return {name: own.cell for (name, _), own in found.items()}


def test_random_pruning_with_equal_settings_is_the_baseline() -> None:
    """Whatever the importance; a variant whose share nobody pruned at random has none."""
    common = {"round_to": None, "most_removed": 0.8}
    taylor = alone("pruning", "taylor-0.5", 0.5, importance="taylor", keep_macs=0.5, gradient_pictures=64, **common)
    fpgm = alone("pruning", "fpgm-0.5", 0.5, importance="fpgm", keep_macs=0.5, gradient_pictures=32, **common)
    other = alone("pruning", "taylor-0.3", 0.5, importance="taylor", keep_macs=0.3, gradient_pictures=64, **common)
    chance = {"method": "pruning", "importance": "random", "keep_macs": 0.5, "gradient_pictures": 64, **common}
    references = [
        reference("random-pruning-0.5-round-8", "random_pruning", 0.4, pruning=chance | {"round_to": 8}),
        reference("random-pruning-0.5", "random_pruning", 0.4, pruning=chance),
    ]
    assert chosen("pruning", [taylor, fpgm, other], references, {}) == {
        "pruning:taylor-0.5": "reference:random-pruning-0.5",
        "pruning:fpgm-0.5": "reference:random-pruning-0.5",
    }


def test_of_the_references_no_slower_the_best_by_val_is_the_baseline() -> None:
    """Within 5 % counts as no slower: of 5.2 ms and 5 the better one is taken, of 5.3 it is not. Nothing as fast: no baseline."""
    variants = [alone("nas", "half", 0.5), alone("nas", "quarter", 0.5)]
    references = [
        reference("narrow-0.3", "narrow", 0.46),
        reference("narrow-0.5", "narrow", 0.48),
        reference("narrow-0.7", "narrow", 0.52),
    ]
    times = {
        "nas:half": 5.0,
        "nas:quarter": 1.0,
        "reference:narrow-0.3": 3.0,
        "reference:narrow-0.5": 5.2,
        "reference:narrow-0.7": 5.3,
    }
    assert chosen("nas", variants, references, times) == {"nas:half": "reference:narrow-0.5"}


def test_without_a_measured_time_nothing_is_no_slower() -> None:
    """Estimates decide nothing here."""
    assert chosen("nas", [alone("nas", "half", 0.5)], [reference("narrow-0.5", "narrow", 0.48)], {}) == {}


def test_the_plain_variant_is_the_baseline_of_its_like() -> None:
    """Other ranges are compared with minimum and maximum; float16, and what was trained aware of quantization, are other things."""
    usual = {"precision": "int8", "qat_epochs": 0}
    plain, entropy = alone("quantization", "int8-minmax", 0.5, **usual), alone("quantization", "int8-entropy", 0.5, **usual)
    half = alone("quantization", "float16", 0.5, precision="float16", qat_epochs=0)
    aware = alone("quantization", "int8-minmax-qat2", 0.5, precision="int8", qat_epochs=2)
    cells = cells_file([ok_cell((), 0.55), plain, entropy, half, aware], runtimes=(RUNTIME,))
    found = baselines(BY_METHOD["quantization"], [entropy, half, aware], [plain], cells, latency_file([]))
    assert {name: own.cell for (name, _), own in found.items()} == {"quantization:int8-entropy": "quantization:int8-minmax"}


def test_speeds_are_compared_round_by_round() -> None:
    """5 ms against 4 in the same eight rounds, both with the same noise: 0.8x in every one; with another control: nothing."""
    slow, fast = alone("nas", "slow", 0.5), alone("nas", "fast", 0.5)
    cells = cells_file([slow, fast], runtimes=(RUNTIME,))
    latency = latency_file([row(slow, 0.005), row(fast, 0.004)])
    rows = [timed_row(cells, latency, name, RUNTIME) for name in (slow.cell, fast.cell)]
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[0].profile == PROFILE
    compared = relative_speed(rows[0], rows[1])
    assert compared is not None
    assert compared.ratio == pytest.approx(0.8)
    assert relative_speed(rows[0], rows[1].model_copy(update={"control_rounds_s": (0.011,) * 8})) is None
