"""`sixfold profiles`: what people read of a device, and how they add their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli.profile_tables import limits, reliability, times_from
from flows.measure.session import MeasureSession
from flows.measure.stage import measure
from flows.records.schema import CellRecord, LatencyRow
from flows.records.store import Store
from flows.sweep.plan_checks import load_plan
from flows.sweep.settings import Measure
from hardware_profiles.estimate.fit.measurements import MeasuredNetwork
from hardware_profiles.estimate.model import Operator, estimate
from hardware_profiles.schema.library import FOLDER, known_profiles, load_host_cpu, load_profile
from hardware_profiles.schema.profile import Calibration, Calibrations, HardwareProfile, PerDtype
from tests.flows.cli_runner import Ended, Sixfold
from tests.flows.latency_factory import DENSE, record, sweep, three_pictures
from tests.flows.sweep_factory import listing, write_params
from tests.hardware_profiles.profile_factory import write

Profiles = Callable[..., Ended]


@pytest.fixture
def profiles(sixfold: Sixfold, tmp_path: Path) -> Profiles:
    """Runs `sixfold profiles ...` in an empty folder, in this process."""
    return lambda *arguments: sixfold(tmp_path, "profiles", *arguments)


def line_of(text: str, name: str) -> str:
    """The table's line that starts with the name."""
    return next(line for line in text.splitlines() if line.lstrip("│ ").startswith(f"{name} "))


def test_the_list_says_where_times_come_from_and_which_files_there_are(profiles: Profiles) -> None:
    """One line a profile: estimated only where no files are made, on the device where they are."""
    ended = profiles("list")
    assert ended.code == 0
    assert all(line_of(ended.out, name) for name in known_profiles())
    assert "on the device, else estimated" in line_of(ended.out, "raspberry-pi-5")
    assert "no: RKNN .rknn" in line_of(ended.out, "rk3588-npu")
    assert "estimated only" in line_of(ended.out, "coral-edge-tpu")
    assert profiles().out == ended.out, "`sixfold profiles` alone lists"


def test_the_list_goes_on_where_a_file_is_wrong(profiles: Profiles, tmp_path: Path) -> None:
    """A template that is still to be filled in hides nothing else."""
    path = write(tmp_path, threads=0)
    ended = profiles("list", "--folder", str(tmp_path))
    assert ended.code == 0
    assert line_of(ended.out, "nvidia-t4")
    assert f"board: not usable yet, 1 to correct; `sixfold profiles check {path}` says what." in ended.out


def test_a_host_profile_is_measured_where_machine_runtime_and_cores_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the list says what is missing."""
    host = load_profile("x86-onnxruntime-2t")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("flows.cli.profile_tables.cores_here", lambda: 2)
    assert times_from(host) == "measured here"
    monkeypatch.setattr("flows.cli.profile_tables.cores_here", lambda: 1)
    assert times_from(host) == "on a machine with 2 cores"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert times_from(host) == "on a x86_64 machine"


def test_show_prints_every_number_with_its_source(profiles: Profiles) -> None:
    """Nothing of the file is left out; what nobody knows stands there as unknown."""
    ended, profile = profiles("show", "coral-edge-tpu"), load_profile("coral-edge-tpu")
    assert ended.code == 0
    for field, source in profile.sources.items():
        assert source.split()[0] in line_of(ended.out, field)
    assert "unknown" in line_of(ended.out, "op_overhead_us.int8")
    assert "What it cannot do" in ended.out
    assert "[t / 3, t x 3]" in ended.out


def test_show_lists_all_shipped_profiles(profiles: Profiles) -> None:
    """No profile has a number that the table has no place for."""
    for name in known_profiles():
        out = profiles("show", name).out
        assert all(line_of(out, field) for field in load_profile(name).sources if not field.startswith("calibration."))


def test_limits_say_what_happens_instead() -> None:
    """A GPU without int8 runs int8 files as float; an accelerator of int8 alone hands float work to the processor beside it."""
    nano, coral = load_profile("jetson-nano"), load_profile("coral-edge-tpu")
    assert "Multiply in int8: int8 files are estimated at the speed of fp16." in limits(nano, None)
    told = limits(coral, load_host_cpu(coral))
    assert "Compute in float: what is not quantized runs on raspberry-pi-4 instead." in told
    assert "Keep more than 7,245,660 bytes of parameters: the rest is fetched in every inference." in told
    no_resize = nano.model_copy(update={"unsupported_ops": ("Resize",), "weight_granularity": ("per_tensor",)})
    assert "Run Resize: a detector that has them does not run." in limits(no_resize, None)


@pytest.mark.parametrize(
    ("networks", "word"), [(16, "calibrated"), (4, "estimated (calibrated needs 5 networks and 30% error at most)")]
)
def test_reliability_says_how_well_a_fit_foretells(networks: int, word: str) -> None:
    """Number of networks, leave-one-out error, which networks, and the interval; under 5 networks it stays estimated."""
    fitted = Calibration(networks=networks, leave_one_out_mape=0.12, validated_on="architectures only", origin="YOLOBench")
    pi = load_profile("raspberry-pi-5").model_copy(update={"calibration": Calibrations(fp32=fitted)})
    interval = f"an estimate t stands for [t / {pi.interval_factor.fp32:g}, t x {pi.interval_factor.fp32:g}]"
    assert reliability(pi)[0] == f"fp32: {word}; fp32 n={networks}, 12%, architectures only; YOLOBench; {interval}"


def test_check_finds_nothing_wrong_with_what_is_shipped(profiles: Profiles) -> None:
    """By name, by file, and all of them."""
    assert profiles("check").out == f"OK: {len(known_profiles())} profiles\n"
    assert profiles("check", "nvidia-t4", str(FOLDER / "jetson-nano.yaml")).out == "OK: 2 profiles\n"


def test_check_tells_every_problem_of_every_file(profiles: Profiles, tmp_path: Path) -> None:
    """Exit 2 and one line a problem: file, field, what was found, what is allowed."""
    first, second = write(tmp_path, "first", threads=0, clock_ghz=2.4), write(tmp_path, "second", host_cpu="first")
    ended = profiles("check", str(first), str(second), "toaster", "nvidia-t4")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("sixfold: 4 problems")
    assert f"{first}: threads: should be greater than 0, found 0\n" in ended.err
    assert f"{first}: clock_ghz: no such field; allowed: " in ended.err
    assert f"{second}: host_cpu: second -> first, but {first} is wrong itself: threads" in ended.err
    assert "no hardware profile 'toaster'; have coral-edge-tpu, " in ended.err


@pytest.mark.parametrize(("name", "message"), [("nvidia-t4", "is the name of a built-in profile"), ("missing", "cannot be read")])
def test_check_refuses_files_that_could_not_be_used(profiles: Profiles, tmp_path: Path, name: str, message: str) -> None:
    """One that hides a shipped profile, and one that is not there."""
    path = write(tmp_path, "nvidia-t4").with_stem(name)
    ended = profiles("check", str(path))
    assert ended.code == 2
    assert f"{path}: " in ended.err
    assert message in ended.err


def test_new_writes_a_template_that_check_asks_to_fill(profiles: Profiles) -> None:
    """The file's name, what to do next and the setting that makes it known are printed; check then names the empty fields."""
    ended = profiles("new", "my-board", "--from", "raspberry-pi-5")
    assert ended.code == 0
    assert ended.out.startswith("profiles/my-board.yaml\nNext: fill in its empty fields")
    assert "set measure.profiles_folder to profiles in the params file" in ended.out
    asked = profiles("check", "profiles/my-board.yaml")
    assert asked.code == 2
    assert "profiles/my-board.yaml: peak_gops: should be {fp32, fp16, int8}, but is empty" in asked.err


def test_new_in_a_workspace_writes_beside_the_plan_that_it_runs(sixfold: Sixfold, tmp_path: Path) -> None:
    """A workspace's params.yaml is a link; the setting that is printed is relative to what it points at."""
    write_params(tmp_path / "plans", measure__profiles_folder=None)
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "params.yaml").symlink_to(tmp_path / "plans" / "params.yaml")
    ended = sixfold(run, "profiles", "new", "my-board")
    assert ended.out.startswith("../../plans/profiles/my-board.yaml\n")
    assert "set measure.profiles_folder to profiles in the params file" in ended.out
    assert (tmp_path / "plans" / "profiles" / "my-board.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My Board", "'My Board' is no name for a profile"),
        ("../board", "is no name"),
        ("nvidia-t4", "nvidia-t4 is a built-in profile"),
    ],
)
def test_new_refuses_bad_names(profiles: Profiles, tmp_path: Path, name: str, message: str) -> None:
    """Nothing is written."""
    ended = profiles("new", name)
    assert (ended.code, listing(tmp_path)) == (2, {})
    assert message in ended.err


def test_new_never_overwrites(profiles: Profiles, tmp_path: Path) -> None:
    """A profile somebody filled in stays as it is."""
    path = write(tmp_path)
    before = path.read_text()
    ended = profiles("new", "board", "--folder", str(tmp_path))
    assert (ended.code, path.read_text()) == (2, before)
    assert "there already" in ended.err


def test_new_refuses_to_copy_from_nothing(profiles: Profiles, tmp_path: Path) -> None:
    """--from names a profile that is there."""
    ended = profiles("new", "board", "--from", "toaster")
    assert (ended.code, listing(tmp_path)) == (2, {})
    assert "no hardware profile 'toaster'" in ended.err


def test_the_params_file_makes_a_folder_of_profiles_known(profiles: Profiles, tmp_path: Path) -> None:
    """measure.profiles_folder is relative to the params file; list, show and check look into it, and so does the door."""
    (tmp_path / "plan" / "mine").mkdir(parents=True)
    write(tmp_path / "plan" / "mine")
    params = write_params(
        tmp_path / "plan", measure__profiles=["board"], measure__profiles_folder="mine", grid__design_profile="board"
    )
    assert line_of(profiles("list", "--params", str(params)).out, "board")
    assert profiles("show", "board", "--params", str(params)).out.startswith("board: a board\n")
    assert profiles("check", "--params", str(params)).out == f"OK: {len(known_profiles()) + 1} profiles\n"
    assert load_plan(params).profiles_folder == tmp_path / "plan" / "mine"


def test_a_wrong_profile_of_the_params_folder_stops_work_at_the_door(profiles: Profiles, tmp_path: Path) -> None:
    """A stage refuses it by name, and `profiles check` still runs to say what is wrong with it."""
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine", threads=0)
    write_params(tmp_path, measure__profiles=["board"], measure__profiles_folder="mine")
    ended = profiles("check", "board")
    assert ended.code == 2
    assert "board.yaml: threads: should be greater than 0, found 0" in ended.err
    with pytest.raises(ValueError, match=r"params\.yaml: .*board\.yaml: threads: should be greater than 0"):
        load_plan(tmp_path / "params.yaml")


def test_a_search_cannot_aim_at_a_device_without_float(tmp_path: Path) -> None:
    """Searches compare float networks; the message names the processor beside the accelerator."""
    params = write_params(tmp_path, grid__design_profile="coral-edge-tpu")
    with pytest.raises(ValueError, match=r"grid\.design_profile names coral-edge-tpu, which takes int8 alone.*raspberry-pi-4"):
        load_plan(params)


def test_measure_hands_float_operators_to_the_fallback() -> None:
    """A float detector on an accelerator of int8 alone is estimated on the processor beside it, and cannot run without one."""
    coral = load_profile("coral-edge-tpu")
    assert load_host_cpu(coral) is not None

    def row(session: type[MeasureSession]) -> LatencyRow:
        return measure(session(Store(Path()), sweep(record("none")), three_pictures(), Measure()), [coral]).rows[0]

    class Dense(MeasureSession):
        def operators_of(self, record: CellRecord, profile: HardwareProfile) -> list[Operator]:
            del record, profile
            return [DENSE]

    class Alone(Dense):
        def host_cpu(self, profile: HardwareProfile) -> None:
            del profile

    assert row(Dense).p50_s is not None
    alone = row(Alone)
    assert (alone.p50_s, alone.fits) == (None, False)
    assert "takes int8 alone" in (alone.why or "")


def test_a_missing_folder_is_told(profiles: Profiles) -> None:
    """The option and the setting alike."""
    ended = profiles("list", "--folder", "nowhere")
    assert ended.code == 2
    assert "nowhere: no such folder of hardware profiles" in ended.err


def test_calibrate_writes_a_fitted_profile(profiles: Profiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of a device that works at 0.7 of its peak give 0.7 back, in a new file that loads; count and error are printed."""
    (tmp_path / "mine").mkdir()
    plain = {"op_overhead_us": {}, "memory": {}, "channel_alignment": {}}
    write(tmp_path / "mine", **plain)
    true = load_profile("board", tmp_path / "mine").model_copy(update={"utilisation": PerDtype(fp32=0.7)})
    networks = [(dataclasses.replace(DENSE, macs=count * 10**7),) for count in (1, 2, 5, 10, 20, 50)]
    measured = tuple(
        MeasuredNetwork("a", network, "fp32", estimate(network, true).point_s, origin="times.csv") for network in networks
    )
    monkeypatch.setattr("hardware_profiles.estimate.fit.measurements.read_measurements", lambda path, runtime: measured)
    ended = profiles("calibrate", "board", "times.csv", "--folder", "mine")
    assert ended.code == 0, ended.err
    told = line_of(ended.out, "fp32")
    assert all(word in told for word in ("│ 6 ", "0.0%", "utilisation", "0.5", "0.7", "calibrated"))
    written = load_profile("board-calibrated", tmp_path / "mine")
    assert written.utilisation.fp32 == pytest.approx(0.7, rel=1e-3)
    assert written.calibration.fp32 is not None
    assert written.calibration.fp32.networks == 6
    again = profiles("calibrate", "board", "times.csv", "--folder", "mine")
    assert again.code == 2
    assert "there already" in again.err


def test_calibrate_refuses_what_it_cannot_fit_on(profiles: Profiles, tmp_path: Path) -> None:
    """The file and the line are named, nothing is written."""
    (tmp_path / "times.csv").write_text("model,latency\n")
    ended = profiles("calibrate", "raspberry-pi-5", "times.csv")
    assert (ended.code, list(listing(tmp_path))) == (2, ["times.csv"])
    assert "times.csv, line 1: no column dtype, latency_ms" in ended.err
