"""`sixfold measure` over the workspace: a device's rows are measured, imported or estimated, and each says which."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from detection.compact.blueprint import Blueprint
from detection.frozen import InputError
from flows.grid.nodes import SECTION
from flows.measure.devices.remote import nobody
from flows.measure.session import Bench, _measures, export_profiles, import_profile, judge_design, measure_profiles
from flows.records.schema import LatencyFile, read_records, write_records
from flows.records.store import Store
from flows.sweep import workspace
from flows.sweep.measure_settings import Measure
from flows.sweep.params import Grid, Params, Plan
from hardware_profiles.schema.library import load_profile
from hardware_profiles.timing.environment import digest_of
from tests.conftest import TINY
from tests.flows.cli_runner import Sixfold
from tests.flows.device_factory import NAME, device_profile, faked_results, signed, two_cells
from tests.flows.latency_factory import three_pictures
from tests.flows.records_factory import cells_file, measured_row, ok_cell

ESTIMATED = "raspberry-pi-5" if platform.machine() == "x86_64" else "x86-openvino-1t"
QUICK = {
    "rounds": 2,
    "timed_calls": 4,
    "end_to_end_calls": 1,
    "warmup_calls": 1,
    "warmup_s": 0.0,
    "most_repeats": 0,
    "patience_s": 0.0,
    "pictures": 2,
}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Three cells with two files, one device of this machine's kind, and a store that knows what the cells consist of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    device_profile(tmp_path)
    store = Store(tmp_path / "store")
    with store.writing(SECTION, "0" * 64) as folder:
        blueprint = Blueprint(classes=("a", "b"), input_size=(64, 96), architecture=TINY)
        (folder / "blueprint.json").write_text(blueprint.model_dump_json(by_alias=True))
    config = Measure(profiles=(NAME,), profiles_folder=tmp_path, **QUICK)
    return Bench(Plan(Params(sweep="toy", measure=config), tmp_path, ""), store, two_cells(tmp_path), three_pictures(), config)


def exported(bench: Bench, names: tuple[str, ...] = ()) -> Path:
    """What would be carried to the device."""
    export_profiles(bench, names, Path("carried"), lambda _: None)
    return Path("carried") / NAME


def answer(bench: Bench) -> Path:
    """A results.json with invented times: medians of 2.5 ms, of 5 ms for one of the two files."""
    path = Path("results.json")
    path.write_text(json.dumps(faked_results(exported(bench))))
    return path


def sources(latency: LatencyFile) -> list[tuple[str, str]]:
    """Profile and source of each row."""
    return [(row.profile, row.source) for row in latency.rows]


def test_without_a_device_the_estimate_stands_in_and_says_why(bench: Bench) -> None:
    """Under its own label, with numbers, and with both ways to a measurement."""
    latency = measure_profiles(bench, report=lambda _: None)
    assert {row.source for row in latency.rows} <= {"estimated", "calibrated"}
    for row in latency.rows:
        assert row.p50_s is not None
        assert row.rounds_s == ()
        assert f"--labels=device={NAME}" in (row.why or "")
        assert f"sixfold measure --export FOLDER --profile {NAME}" in (row.why or "")


def test_imported_rounds_become_measured_rows(bench: Bench) -> None:
    """Times, speedup, environment and runtime are those of the device; what was not measured there is empty."""
    results = answer(bench)
    write_records(workspace.LATENCY, measure_profiles(bench, report=lambda _: None))
    latency = import_profile(bench, results, lambda _: None)
    assert latency is not None
    assert sources(latency) == [(NAME, "measured")] * 3
    control, pruned, shared = latency.rows
    assert sorted([control.p50_s, pruned.p50_s]) == [pytest.approx(2.5e-3), pytest.approx(5e-3)]
    assert pruned.speedup == pytest.approx(control.p50_s / pruned.p50_s)
    assert shared.speedup == 1.0
    environment = json.loads(results.read_text())["environment"]
    assert {row.environment for row in latency.rows} == {digest_of(environment)}
    assert {row.runtime for row in latency.rows} == {"onnxruntime 1.20.0"}
    assert {row.end_to_end_p50_s for row in latency.rows} == {None}


def test_the_next_measurement_uses_what_was_imported(bench: Bench) -> None:
    """The same rows, without importing again."""
    results = answer(bench)
    write_records(workspace.LATENCY, measure_profiles(bench, report=lambda _: None))
    latency = import_profile(bench, results, lambda _: None)
    assert latency is not None
    assert measure_profiles(bench, joined=nobody, report=lambda _: None).rows == latency.rows


def test_an_import_leaves_other_profiles_alone(bench: Bench) -> None:
    """Nothing else is measured or estimated anew."""
    results = answer(bench)
    both = bench.config.model_copy(update={"profiles": (ESTIMATED, NAME)})
    two = Bench(bench.loaded, bench.store, bench.records, bench.images, both)
    write_records(workspace.LATENCY, measure_profiles(two, joined=nobody, report=lambda _: None))
    before = read_records(workspace.LATENCY, LatencyFile)
    latency = import_profile(two, results, lambda _: None)
    assert latency is not None
    assert [row.profile for row in latency.rows] == [ESTIMATED] * 3 + [NAME] * 3
    assert latency.rows[:3] == before.rows[:3]


def test_a_cell_that_was_made_since_has_no_number(bench: Bench, tmp_path: Path) -> None:
    """It is not estimated beside measured ones; its row says what to do."""
    results = answer(bench)
    import_profile(bench, results, lambda _: None)
    (tmp_path / "anew").mkdir()
    anew = two_cells(tmp_path / "anew", pruned_seed=8)
    latency = measure_profiles(Bench(bench.loaded, bench.store, anew, bench.images, bench.config), joined=nobody)
    assert sources(latency) == [(NAME, "measured")] * 3
    pruned = latency.row("pruning", NAME)
    assert pruned is not None
    assert pruned.p50_s is None
    assert pruned.why == f"no times of this file: it was not there when {NAME} was measured; measure or export again"


def test_without_rows_yet_an_import_waits_for_the_next_measurement(bench: Bench) -> None:
    """A latency.json of one profile alone would be half of a result."""
    said: list[str] = []
    assert import_profile(bench, answer(bench), said.append) is None
    assert said == [f"imported for {NAME}\nNext: `sixfold measure`."]
    assert not workspace.LATENCY.exists()


def test_a_refused_import_changes_nothing(bench: Bench) -> None:
    """Neither the rows nor the store."""
    results = answer(bench)
    content = json.loads(results.read_text())
    results.write_text(json.dumps(signed(content | {"manifest": "0" * 64})))
    with pytest.raises(InputError, match="answers the export 000000000000, which this store does not know"):
        import_profile(bench, results)
    assert not bench.observations.sessions.exists()


def test_export_takes_the_devices_of_the_params(bench: Bench) -> None:
    """Where none is named; with the next two commands."""
    said: list[str] = []
    export_profiles(bench, (), Path("carried"), said.append)
    assert [line.split(":")[0] for line in said] == [f"carried/{NAME}", "Next"]
    assert (Path("carried") / NAME / "measure.py").is_file()


def test_export_without_a_device_says_how_to_name_one(bench: Bench) -> None:
    """A plan with hosts and foreign runtimes only."""
    none = bench.config.model_copy(update={"profiles": ("jetson-nano",)})
    with pytest.raises(InputError, match=r"no device that sixfold makes files for, only jetson-nano\. Name one with --profile"):
        export_profiles(Bench(bench.loaded, bench.store, bench.records, bench.images, none), (), Path("carried"))


def test_by_hand_from_end_to_end(bench: Bench) -> None:
    """Export, the real script in its own process, import: measured rows of this machine as if it were the device."""
    folder = exported(bench, (NAME,))
    write_records(workspace.LATENCY, measure_profiles(bench, joined=nobody, report=lambda _: None))
    command = [sys.executable, "measure.py"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    latency = import_profile(bench, folder / "results.json", lambda _: None)
    assert latency is not None
    assert sources(latency) == [(NAME, "measured")] * 3
    assert all(len(row.rounds_s) == 2 for row in latency.rows)


@pytest.mark.parametrize(
    "arguments",
    [("--profile", NAME), ("--export", "carried", "--import", "results.json")],
    ids=["profile alone", "export and import"],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], sixfold: Sixfold, tmp_path: Path) -> None:
    """Before anything is read: exit 2 and what goes with what."""
    ended = sixfold(tmp_path, "measure", *arguments)
    assert ended.code == 2
    assert ended.err == "sixfold: --profile goes with --export FOLDER, and --export does not go with --import.\n"


FIVE = ("none", "nas", "pruning", "low_rank", "distillation")


def measured_bench(tmp_path: Path, design: str, measured: str) -> tuple[Bench, LatencyFile]:
    """Five cells of one network that took a second each on the measured profile."""
    store = Store(tmp_path / "store")
    cells = cells_file([ok_cell(() if name == "none" else (name,), 0.5) for name in FIVE])
    blueprint = Blueprint(classes=("a", "b"), input_size=(64, 96), architecture=TINY)
    for cell in cells.cells:
        with store.writing(SECTION, cell.node) as folder:
            (folder / "blueprint.json").write_text(blueprint.model_dump_json(by_alias=True))
    config = Measure(profiles=(measured,), **QUICK)
    params = Params(sweep="toy", measure=config, grid=Grid(design_profile=design))
    rows = [measured_row(name, measured, 1.0, 1.0) for name in FIVE]
    latency = LatencyFile(environment={}, rows=tuple(rows))
    return Bench(Plan(params, tmp_path, ""), store, cells, three_pictures(), config), latency


@pytest.mark.parametrize("design", ["zen4-onnxruntime-1t", "x86-onnxruntime-1t"])
def test_the_design_profile_is_judged_by_what_its_device_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, design: str
) -> None:
    """Whichever host profile of that runtime and those threads was measured: it is the same machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.measure.session.advice", lambda found, fetch, folder: tuple(found))
    (found,) = judge_design(*measured_bench(tmp_path, design, "x86-onnxruntime-1t"))
    assert found.profile.id == design
    assert [own.record.cell for own in found.files] == list(FIVE)


@pytest.mark.parametrize("design", ["zen4-openvino-1t", "x86-onnxruntime-2t", "raspberry-pi-5"])
def test_nothing_is_said_of_a_device_that_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, design: str) -> None:
    """Another runtime, other threads and another machine have times of their own."""
    monkeypatch.chdir(tmp_path)
    assert judge_design(*measured_bench(tmp_path, design, "x86-onnxruntime-1t")) == ()


def test_another_instruction_set_is_another_machine() -> None:
    """An Arm host's runtime and threads say nothing about an x86 profile."""
    here = load_profile("x86-onnxruntime-1t")
    assert _measures(here, load_profile("zen4-onnxruntime-1t"))
    assert not _measures(here.model_copy(update={"machine": "aarch64"}), load_profile("zen4-onnxruntime-1t"))
