"""The stage `measure`: a row for every cell on every profile, and for every row that has no number the reason."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from detection.data.dataset import Images
from detection.frozen import InputError
from flows.measure.session import MeasureSession
from flows.measure.stage import forecast_s, measure
from flows.progress import Say, duration
from flows.records.schema import CellRecord, CellsFile, LatencyFile, LatencyRow
from flows.records.store import Store
from flows.sweep.settings import QUICK, Measure, quick
from hardware_profiles.estimate.model import Operator
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.round import Job
from tests.flows import rounds_factory
from tests.flows.cli_runner import Sixfold
from tests.flows.latency_factory import DENSE, THIN, record, sweep, three_pictures
from tests.flows.rounds_factory import FEW, ON_X86, replace_lock, replace_process
from tests.flows.sweep_factory import Sweep
from tests.hardware_profiles.tiny_model import write_model


@pytest.fixture
def images() -> Images:
    """Three pictures taken at 24 x 20."""
    return three_pictures()


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the machine's."""
    replace_lock(monkeypatch, tmp_path)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Rounds run for real, but in this process, which saves its start; the jobs they got."""
    return replace_process(monkeypatch, rounds_factory.in_this_process)


class ToySession(MeasureSession):
    """Operators are DENSE for the control and THIN for every other cell."""

    def operators_of(self, record: CellRecord, profile: HardwareProfile) -> Sequence[Operator]:
        del profile
        return [DENSE] if record.cell == "none" else [THIN]


Run = Callable[..., LatencyFile]


@pytest.fixture
def run(images: Images, tmp_path: Path) -> Run:
    """The stage on the toy pictures."""

    def start(cells: CellsFile, *profiles: str | HardwareProfile, config: Measure = FEW, say: Say = print) -> LatencyFile:
        loaded = [load_profile(profile) if isinstance(profile, str) else profile for profile in profiles]
        return measure(ToySession(Store(tmp_path), cells, images, config), loaded, say)

    return start


def control_only(folder: Path) -> CellsFile:
    """A sweep of nothing but the control, for onnxruntime."""
    return sweep(record("none", {"onnxruntime": write_model(folder / "none.onnx")}))


def row_of(latency: LatencyFile, cell: str, profile: str = "x86-onnxruntime-1t") -> LatencyRow:
    """The one row, which must be there."""
    row = latency.row(cell, profile)
    assert row is not None
    return row


@ON_X86
def test_a_cell_is_measured_beside_the_control_in_fresh_processes(run: Run, tmp_path: Path) -> None:
    """End to end through real processes: three rounds, medians of medians, range, memory, environment and version."""
    cells = sweep(
        record("none", {"onnxruntime": write_model(tmp_path / "none.onnx", 0)}),
        record("pruning", {"onnxruntime": write_model(tmp_path / "pruning.onnx", 1)}),
    )
    lines: list[str] = []
    latency = run(cells, "x86-onnxruntime-1t", say=lines.append)
    row = row_of(latency, "pruning")
    assert (row.source, row.why) == ("measured", None)
    assert row.runtime.startswith("onnxruntime 1.")
    assert row.artifact_digest == cells.cells[1].artifacts["onnxruntime"].digest
    assert len(row.rounds_s) == len(row.control_rounds_s) == 3
    assert row.control_rounds_s == row_of(latency, "none").rounds_s
    assert row.p50_s == sorted(row.rounds_s)[1]
    assert row.interval_s == (min(row.rounds_s), max(row.rounds_s))
    ratios = [control / own for control, own in zip(row.control_rounds_s, row.rounds_s, strict=True)]
    assert row.speedup == pytest.approx((ratios[0] * ratios[1] * ratios[2]) ** (1 / 3))
    assert row.speedup_ci95 is None  # three rounds are too few for an interval
    assert row.end_to_end_p50_s > row.p50_s
    assert row.p90_s is None  # 3 calls tell nothing about one in ten
    assert row.peak_rss_bytes > 20e6
    assert row.fits is None  # nobody set a budget
    assert latency.environment["versions"]["onnxruntime"] in row.runtime
    said = [line.split(":")[1].strip().split(",")[0] for line in lines]
    assert [words for words in said if not words.startswith("round ")] == [  # a contended round has a line of its own
        "3 rounds of 2 files on x86-onnxruntime-1t",
        "timed_calls is 3",
        "0 of 6 blocks repeated",
    ]


@ON_X86
def test_equal_files_are_timed_once(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """A method that changed nothing leaves the control's file: same rounds and a speedup of exactly 1."""
    shared = {"onnxruntime": write_model(tmp_path / "none.onnx")}
    latency = run(sweep(record("none", shared), record("low_rank", shared)), "x86-onnxruntime-1t")
    assert [len(job.files) for job in in_this_process] == [1, 1, 1]
    row = row_of(latency, "low_rank")
    assert row.rounds_s == row_of(latency, "none").rounds_s
    assert (row.speedup, row.speedup_ci95) == (1.0, (1.0, 1.0))  # however few the rounds


@ON_X86
def test_cells_without_a_number_say_why(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """Failed, skipped, without a file for the runtime, with a broken file: four rows, four reasons, and the control unharmed."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    cells = sweep(
        record("none", {"onnxruntime": write_model(tmp_path / "none.onnx")}),
        record("nas", status="failed", error="out of memory; log in nas.log"),
        record("pruning", status="skipped", error="its parent failed"),
        record("low_rank", {"openvino": write_model(tmp_path / "other.onnx", 3)}),
        record("quantization", {"onnxruntime": broken}),
    )
    latency = run(cells, "x86-onnxruntime-1t")
    whys = {row.cell: row.why for row in latency.rows}
    assert whys["none"] is None
    assert whys["nas"] == "the cell failed: out of memory; log in nas.log"
    assert whys["pruning"] == "the cell was skipped: its parent failed"
    assert whys["low_rank"] == "the cell has no file for onnxruntime"
    assert "onnxruntime cannot open it" in whys["quantization"]
    assert all(row.p50_s is None and row.speedup is None and row.rounds_s == () for row in latency.rows if row.cell != "none")
    assert row_of(latency, "none").p50_s > 0


@ON_X86
def test_without_a_control_there_is_no_speedup(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """Times stay, ratios do not, and the row says so."""
    file = {"onnxruntime": write_model(tmp_path / "pruning.onnx")}
    row = row_of(run(sweep(record("none", status="failed", error="x"), record("pruning", file)), "x86-onnxruntime-1t"), "pruning")
    assert row.p50_s > 0
    assert (row.speedup, row.speedup_ci95, row.control_rounds_s) == (None, None, ())
    assert row.why == "no speedup: the control has no time on this profile"


@ON_X86
def test_references_have_rows(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """A reference is measured beside the cells; one of lower resolution is fed its own size."""
    none = record("none", {"onnxruntime": write_model(tmp_path / "none.onnx")})
    smaller = record("lower_resolution", {"onnxruntime": write_model(tmp_path / "small.onnx", size=(4, 8))})
    row = row_of(run(sweep(none, references=[smaller]), "x86-onnxruntime-1t"), "lower_resolution")
    assert row.p50_s > 0
    assert row.why is None


def test_a_foreign_machine_is_not_measured(run: Run, tmp_path: Path) -> None:
    """A host profile of another instruction set gets rows that say so, instead of this machine's times under its name."""
    foreign = load_profile("x86-onnxruntime-1t").model_copy(update={"machine": "riscv64"})
    row = row_of(run(control_only(tmp_path), foreign), "none")
    assert row.why == f"this machine is {platform.machine()}, the profile is for riscv64"
    assert row.p50_s is None


@ON_X86
def test_too_little_memory_does_not_fit(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """Python alone exceeds a budget of a megabyte; the times are kept, for they are true."""
    host = load_profile("x86-onnxruntime-1t")
    tight = host.model_copy(update={"memory": host.memory.model_copy(update={"budget_bytes": 1_000_000})})
    row = row_of(run(control_only(tmp_path), tight), "none")
    assert row.fits is False
    assert row.why == f"needs {row.peak_rss_bytes} bytes, x86-onnxruntime-1t allows 1000000"
    assert row.p50_s > 0


def test_devices_elsewhere_are_modelled_beside_measured_ones(run: Run) -> None:
    """Nothing runs for a device elsewhere; its rows stand in the same file, marked by what its numbers were fitted on."""
    latency = run(sweep(record("none"), record("pruning")), "raspberry-pi-5", "jetson-nano")
    assert [(row.cell, row.profile, row.source) for row in latency.rows] == [
        ("none", "raspberry-pi-5", "calibrated"),
        ("pruning", "raspberry-pi-5", "calibrated"),
        ("none", "jetson-nano", "estimated"),
        ("pruning", "jetson-nano", "estimated"),
    ]
    assert all(row.p50_s > 0 for row in latency.rows)


def test_no_pictures_is_an_input_error(images: Images, tmp_path: Path) -> None:
    """An empty split is refused before anything starts."""
    empty = dataclasses.replace(images, picture_ids=())
    with pytest.raises(InputError, match="split 'val' holds no pictures"):
        measure(ToySession(Store(tmp_path), sweep(record("none")), empty, FEW), [load_profile("jetson-nano")])


@ON_X86
def test_what_was_seen_is_kept(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """A row's rounds are those of an observation under its artifact, profile and environment; the next call adds another."""
    cells = control_only(tmp_path)
    row = row_of(run(cells, "x86-onnxruntime-1t"), "none")
    (path,) = (tmp_path / "observations" / "latency").rglob("*.json")
    assert path.relative_to(tmp_path / "observations").parts[1:4] == (
        row.artifact_digest,
        "x86-onnxruntime-1t",
        row.environment,
    )
    seen = json.loads(path.read_text())
    assert [block["p50_s"] for block in seen["rounds"]] == list(row.rounds_s)
    assert seen["protocol"]["timed_calls"] == FEW.timed_calls
    run(cells, "x86-onnxruntime-1t")
    assert len(list((tmp_path / "observations" / "latency").rglob("*.json"))) == 2


@ON_X86
def test_the_file_says_how_it_was_timed(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """Rounds, calls and pictures stand beside the environment, so that a quick look is not taken for the real thing."""
    latency = run(control_only(tmp_path), "x86-onnxruntime-1t")
    assert latency.protocol == {"rounds": 3} | FEW.recorded()
    assert LatencyFile.model_validate_json(latency.model_dump_json(by_alias=True)) == latency


def test_quick_is_the_same_with_smaller_numbers() -> None:
    """The preset's numbers where they are smaller, the plan's where those are; nothing else differs."""
    assert quick(Measure()) == Measure(**QUICK)
    tiny = Measure(rounds=2, timed_calls=100, seed=7)
    assert quick(tiny) == Measure(**(QUICK | {"rounds": 2, "seed": 7}))
    assert Measure.model_validate(quick(tiny).model_dump()) == quick(tiny)


@ON_X86
def test_the_command_looks_quickly(swept_copy: Sweep, sixfold: Sixfold) -> None:
    """`sixfold measure --quick` writes the same file, and the file says by which numbers."""
    ended = sixfold(swept_copy.folder, "measure", "--quick", "--no-tracking")
    assert ended.code == 0, ended.err
    latency = LatencyFile.model_validate_json((swept_copy.folder / "results/latency.json").read_text())
    planned = swept_copy.plan.params.measure
    assert planned.pictures > QUICK["pictures"] == latency.protocol["pictures"]
    assert latency.protocol == {"rounds": quick(planned).rounds} | quick(planned).recorded()


def test_the_forecast_counts_work() -> None:
    """64 files a profile, 13 million multiply-adds: call 0.4 + 0.22 ms, block 0.15 s + 75 calls, round 1.5 s + 64 blocks."""
    cells = [record("none").model_copy(update={"macs": 13_200_000})]
    config = Measure(rounds=8, timed_calls=64, end_to_end_calls=5, warmup_s=0.02)
    by_hand_s = 8 * 2 * (1.5 + 64 * (0.13 + 0.02 + 75 * 0.62e-3))
    assert forecast_s(cells, [64, 64], config) == pytest.approx(by_hand_s)
    assert duration(by_hand_s) == "4 min"
    assert forecast_s(cells, [], config) == forecast_s(cells, [0], config) == 0
