"""The stage `measure`: a row for every cell on every profile, and for every row that has no number the reason."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import flows.measure as stage
from detection.dataset import Images
from detection.frozen import InputError
from flows.measure import Measure, measure
from flows.measure_round import detection_hooks
from flows.records import CellsFile, LatencyFile, LatencyRow
from hardware_profiles.measure import Job, RoundError, RoundResult, run_round
from hardware_profiles.profile import HardwareProfile, load_profile
from tests.flows.latency_factory import DENSE, THIN, record, sweep, three_pictures
from tests.hardware_profiles.tiny_model import write_model

ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the shipped host profiles are for x86_64")
QUICK = Measure(
    profiles=("x86-onnxruntime-1t",),
    rounds=3,
    timed_calls=3,
    end_to_end_calls=2,
    warmup_calls=1,
    warmup_s=0.0,
    pictures=2,
    iou_threshold=0.5,
)


@pytest.fixture
def images() -> Images:
    """Three pictures taken at 24 x 20."""
    return three_pictures()


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of this test's own: tests must neither wait for a real measurement nor hold it up."""
    monkeypatch.setattr(stage, "LOCK", tmp_path / "measure.lock")
    return tmp_path / "measure.lock"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Rounds run for real, but in this process, which saves its start; the jobs they got."""
    jobs: list[Job] = []

    def run(job: Job, entry: str, folder: Path, timeout_s: float) -> RoundResult:
        jobs.append(job)
        return run_round(job, detection_hooks(job))

    monkeypatch.setattr(stage, "in_fresh_process", run)
    return jobs


Run = Callable[..., LatencyFile]


@pytest.fixture
def run(images: Images, tmp_path: Path) -> Run:
    """The stage on the toy pictures; operators are DENSE for the control and THIN for every other cell."""

    def start(
        cells: CellsFile, *profiles: str | HardwareProfile, config: Measure = QUICK, report: Callable[[str], None] = print
    ) -> LatencyFile:
        loaded = [load_profile(profile) if isinstance(profile, str) else profile for profile in profiles]
        return measure(
            cells,
            loaded,
            images,
            config,
            observations=tmp_path / "observations",
            fetch=Path,
            operators_of=lambda cell: [DENSE] if cell.cell == "none" else [THIN],
            report=report,
        )

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
    latency = run(cells, "x86-onnxruntime-1t", report=lines.append)
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
    assert row.speedup_ci95[0] <= row.speedup <= row.speedup_ci95[1]
    assert row.end_to_end_p50_s > row.p50_s
    assert row.peak_rss_bytes > 20e6
    assert row.fits is None  # nobody set a budget
    assert latency.environment["versions"]["onnxruntime"] in row.runtime
    assert [line.split(":")[1].strip() for line in lines] == [f"round {n} of 3, x86-onnxruntime-1t" for n in (1, 2, 3)]


@ON_X86
def test_equal_files_are_timed_once(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """A method that changed nothing leaves the control's file: same rounds, a speedup of exactly 1 and no doubt about it."""
    shared = {"onnxruntime": write_model(tmp_path / "none.onnx")}
    latency = run(sweep(record("none", shared), record("low_rank", shared)), "x86-onnxruntime-1t")
    assert [len(job.files) for job in in_this_process] == [1, 1, 1]
    row = row_of(latency, "low_rank")
    assert row.rounds_s == row_of(latency, "none").rounds_s
    assert (row.speedup, row.speedup_ci95) == (1.0, (1.0, 1.0))


@ON_X86
def test_each_round_has_its_own_order(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """Seeds differ between rounds and repeat between runs; with another seed they are others."""
    cells = control_only(tmp_path)
    run(cells, "x86-onnxruntime-1t")
    run(cells, "x86-onnxruntime-1t")
    run(cells, "x86-onnxruntime-1t", config=QUICK.model_copy(update={"seed": 1}))
    seeds = [job.order_seed for job in in_this_process]
    assert len(set(seeds[:3])) == 3
    assert seeds[3:6] == seeds[:3]
    assert not set(seeds[6:]) & set(seeds[:3])


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


@ON_X86
def test_a_crashed_round_spares_the_other_profiles(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One runtime's crash leaves its profile without numbers and with the reason; the other one is measured, round after round."""

    def crash(job: Job, entry: str, folder: Path, timeout_s: float) -> RoundResult:
        if job.runtime == "openvino":
            raise RoundError("a round's process ended with exit code -11: no output")
        return run_round(job, detection_hooks(job))

    monkeypatch.setattr(stage, "in_fresh_process", crash)
    file = write_model(tmp_path / "none.onnx")
    latency = run(sweep(record("none", {"onnxruntime": file, "openvino": file})), "x86-openvino-1t", "x86-onnxruntime-1t")
    assert row_of(latency, "none", "x86-openvino-1t").why == "a round's process ended with exit code -11: no output"
    assert len(row_of(latency, "none").rounds_s) == 3


@ON_X86
@pytest.mark.parametrize(("share", "disturbed"), [(0.6, True), (0.99, False)])
def test_a_disturbed_round_is_reported(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float, disturbed: bool
) -> None:
    """Where others had 40 % of the core the user reads so at once, not from odd numbers later."""

    def shared(job: Job, entry: str, folder: Path, timeout_s: float) -> RoundResult:
        result = run_round(job, detection_hooks(job))
        return result.model_copy(update={"blocks": tuple(block.model_copy(update={"cpu_share": share}) for block in result.blocks)})

    monkeypatch.setattr(stage, "in_fresh_process", shared)
    lines: list[str] = []
    run(control_only(tmp_path), "x86-onnxruntime-1t", report=lines.append)
    assert ["other work took 40% of the core" in line for line in lines] == [disturbed] * 3


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


def test_datasheet_profiles_are_estimated_beside_measured_ones(run: Run) -> None:
    """Nothing runs for a datasheet profile, and its rows stand in the same file, marked as estimates."""
    latency = run(sweep(record("none"), record("pruning")), "raspberry-pi-5", "jetson-nano")
    assert [(row.cell, row.profile, row.source) for row in latency.rows] == [
        ("none", "raspberry-pi-5", "estimated"),
        ("pruning", "raspberry-pi-5", "estimated"),
        ("none", "jetson-nano", "estimated"),
        ("pruning", "jetson-nano", "estimated"),
    ]
    assert all(row.p50_s > 0 for row in latency.rows)


@ON_X86
def test_observations_are_kept_and_never_overwritten(run: Run, in_this_process: list[Job], tmp_path: Path) -> None:
    """Each run adds one file per artifact under (digest, profile, environment, protocol), raw blocks included."""
    cells = control_only(tmp_path)
    latency = run(cells, "x86-onnxruntime-1t")
    before = {path: path.read_bytes() for path in (tmp_path / "observations").rglob("*.json")}
    run(cells, "x86-onnxruntime-1t")
    after = {path: path.read_bytes() for path in (tmp_path / "observations").rglob("*.json")}
    assert (len(before), len(after)) == (1, 2)
    assert before.items() <= after.items()
    (path,) = before
    row = row_of(latency, "none")
    assert path.relative_to(tmp_path / "observations").parts[:3] == (row.artifact_digest, "x86-onnxruntime-1t", row.environment)
    seen = json.loads(path.read_text())
    assert [block["p50_s"] for block in seen["rounds"]] == list(row.rounds_s)
    assert all(block["steal_s"] is None or block["steal_s"] >= 0 for block in seen["rounds"])
    assert seen["protocol"]["timed_calls"] == QUICK.timed_calls


@ON_X86
def test_two_measurements_never_overlap(
    run: Run, in_this_process: list[Job], own_lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another holds the lock nothing is timed: the user is told, and after the timeout gets an error."""
    monkeypatch.setattr(stage, "LOCK_TIMEOUT_S", 0.1)
    cells = control_only(tmp_path)
    lines: list[str] = []
    with FileLock(own_lock), pytest.raises(RoundError, match=r"still held after 0\.1 s"):
        run(cells, "x86-onnxruntime-1t", report=lines.append)
    assert in_this_process == []
    assert "another measurement runs on this machine" in lines[0]
    assert row_of(run(cells, "x86-onnxruntime-1t"), "none").p50_s > 0  # the lock was given back


@ON_X86
def test_pictures_are_as_large_as_they_were_taken(
    run: Run, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round gets 24 x 20 pictures without padding, so that letterboxing is part of end-to-end time."""
    taken: list[np.ndarray] = []

    def look(job: Job, entry: str, folder: Path, timeout_s: float) -> RoundResult:
        with np.load(job.pictures) as packed:
            taken.extend(packed[name] for name in packed.files)
        return run_round(job, detection_hooks(job))

    monkeypatch.setattr(stage, "in_fresh_process", look)
    run(control_only(tmp_path), "x86-onnxruntime-1t", config=QUICK.model_copy(update={"rounds": 1}))
    assert [picture.shape for picture in taken] == [(24, 20, 3)] * 2
    assert [np.unique(picture).tolist() for picture in taken] == [[10], [230]]


def test_no_pictures_is_an_input_error(images: Images, tmp_path: Path) -> None:
    """An empty split is refused before anything starts."""
    empty = dataclasses.replace(images, picture_ids=())
    with pytest.raises(InputError, match="split 'val' holds no pictures"):
        measure(
            sweep(record("none")),
            [load_profile("jetson-nano")],
            empty,
            QUICK,
            observations=tmp_path,
            fetch=Path,
            operators_of=lambda cell: [DENSE],
        )
