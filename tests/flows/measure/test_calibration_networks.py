"""Networks drawn from a search space: which they are, that their files are what is asked for, and that their table calibrates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressors.nas import Nas
from detection.checkpoint import Detector
from detection.compact.architecture import Architecture, architecture_of
from detection.costs import count_macs
from detection.data.dataset import load_split
from detection.frozen import InputError
from detection.spec import Spec
from flows.measure.calibration_networks import Subject, SubjectFile, benchmark_networks, draw, subjects_of, time_files, write_files
from flows.sweep.plan_checks import load_plan
from flows.sweep.workspace import PREPARED
from hardware_profiles.estimate.fit.measurements import read_measurements
from hardware_profiles.schema.library import load_profile
from hardware_profiles.timing.environment import cpu_model
from hardware_profiles.timing.round import Block, Job, RoundError, RoundResult
from tests.flows.cli_runner import Sixfold, refused
from tests.flows.rounds_factory import HOST, ON_X86, in_this_process, replace_lock, replace_process
from tests.flows.sweep_entries import lend
from tests.flows.sweep_factory import write_params

SPACE = Nas(width_shares=(0.5, 1.0), evaluations=4, population=4)


@pytest.fixture
def start(tiny_detector: Detector) -> Spec:
    """What the search would start from."""
    return tiny_detector.spec


@pytest.fixture
def run(tiny_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a plan and its prepared data; timing in it waits for nobody."""
    replace_lock(monkeypatch, tmp_path)
    few = {"measure__warmup_s": 0.0, "measure__most_repeats": 0, "measure__contention_wait_s": 0.0, "measure__pictures": 2}
    menu = {"lightweight": [{}], "nas": [SPACE.model_dump(mode="json", exclude={"method"})], "pruning": []}
    params = write_params(tmp_path / "run", grid__methods=menu, **few)
    lend(tiny_prepared, load_plan(params), tmp_path / "run" / PREPARED)
    return tmp_path / "run"


def test_draws_differ_and_repeat(start: Spec) -> None:
    """The largest first, then others of the space, none twice; the same seed draws the same, another others. Depths: a family."""
    drawn = draw(start, SPACE, 6, seed=0)
    assert drawn[0] == ("depths 1-1-1-1", start)
    assert len({spec.model_dump_json() for _, spec in drawn}) == 6
    assert draw(start, SPACE, 6, seed=0) == drawn
    assert draw(start, SPACE, 6, seed=1) != drawn
    assert draw(start, SPACE, 3, seed=0) == drawn[:3]
    assert {architecture_of(spec).neck_width for _, spec in drawn} <= {8, 16}


def test_a_space_holds_only_so_many(start: Spec) -> None:
    """One width and every depth but one fixed: both architectures, and no endless search for a third."""
    start = start.having(start.settings.model_copy(update={"stage_depths": (1, 1, 1, 2)}))
    drawn = draw(start, Nas(width_shares=(1.0,), evaluations=2), 3, seed=0)
    assert [family for family, _ in drawn] == ["depths 1-1-1-2", "depths 1-1-1-1"]


def test_networks_of_many_decisions_differ_in_size() -> None:
    """Eleven widths and depths: multiply-adds of the middle half of the draws span a factor of 3.5, of independent ones 2.1."""
    wide = Architecture(stem_width=64, stage_widths=(64, 128, 256, 256), stage_depths=(3, 3, 3, 3), neck_width=128, head_width=128)
    large = Spec(classes=("a",), input_size=(64, 96), settings=wide)
    drawn = draw(large, Nas(width_shares=(0.2, 0.4, 0.6, 0.8, 1.0)), 24, seed=0)
    quarter, _, three_quarters = np.quantile([count_macs(spec) for _, spec in drawn], (0.25, 0.5, 0.75))
    assert three_quarters / quarter > 2.8


@ON_X86
def test_the_table_calibrates(run: Path, sixfold: Sixfold, monkeypatch: pytest.MonkeyPatch) -> None:
    """A float and an int8 file of each network, timed in every round, and `sixfold profiles calibrate` fits a profile to them."""
    jobs = replace_process(monkeypatch, in_this_process)
    ended = sixfold(run, "profiles", "benchmark", HOST, "--count", "4", "--rounds", "2")
    assert ended.code == 0, ended
    assert f"Next: `sixfold profiles calibrate {HOST} calibration/{HOST}.csv` fits the profile to this machine." in ended.out
    found = read_measurements(run / "calibration" / f"{HOST}.csv", "onnxruntime")
    assert [anchor.dtype for anchor in found] == ["fp32", "int8"] * 5
    assert all(anchor.threads == 1 and anchor.latency_s > 0 and anchor.cpu == cpu_model() for anchor in found)
    kinds = [anchor.family.split(" ")[1] for anchor in found if anchor.family]
    assert kinds == ["as"] * 2 + ["light"] * 2 + ["depths"] * 6
    assert [len(job.files) for job in jobs] == [10, 10]
    assert len({job.order_seed for job in jobs}) == 2
    ended = sixfold(run, "profiles", "calibrate", HOST, f"calibration/{HOST}.csv")
    assert ended.code == 0, ended
    fitted = load_profile(f"{HOST}-calibrated", run / "profiles").calibration.int8
    assert fitted is not None
    assert (fitted.networks, fitted.cpu) == (5, cpu_model())


@ON_X86
def test_a_file_that_cannot_be_timed_ends_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No table without a time in each line: the message names the file and the reason."""

    def broken(job: Job) -> RoundResult:
        blocks = (Block(digest=file.digest, position=0, error="it does not open") for file in job.files)
        return RoundResult(blocks=tuple(blocks), runtime_rss_bytes=None)

    replace_process(monkeypatch, broken)
    (run.parent / "calibration").mkdir()
    (run.parent / "calibration" / f"{HOST}.csv").write_text("of other files by the same names")
    with pytest.raises(RoundError, match=r"float\.onnx: it does not open"):
        benchmark_networks([run / "params.yaml"], load_profile(HOST), run.parent / "calibration", 4, seed=0, rounds=1)
    assert not list((run.parent / "calibration").glob("*.csv")), "nor the one of before, whose files are gone"


def test_a_plan_asks_about_its_detector_light_narrow_and_searched_ones(run: Path, start: Spec) -> None:
    """Each once, though inherited weights or a search's largest name the same again; draws are spread over the searches."""
    light = [{"block": "depthwise"}, {"block": "depthwise", "weights": "inherited"}]
    searches = [{**SPACE.model_dump(mode="json", exclude={"method"}), "budget_share": share} for share in (0.3, 0.6)]
    references = [{"kind": "narrow", "width_share": 0.5}, {"kind": "narrow", "like": "pruning"}]
    write_params(
        run, grid__combinations="alone", grid__methods={"lightweight": light, "nas": searches}, grid__references=references
    )
    plan = load_plan(run / "params.yaml")
    found = subjects_of(plan, start, draws=5, seed=0)
    kinds = [subject.family.removeprefix(f"{plan.params.sweep} ").split()[0] for subject in found]
    assert kinds == ["as", "light", "narrow", *["depths"] * 4], "both searches look through one space"
    assert len({subject.spec.model_dump_json() for subject in found}) == len(found)


def test_too_few_networks_are_refused(run: Path) -> None:
    """Before any is written: no fit could be made of them."""
    with pytest.raises(InputError, match="--count 1: 2 different networks in all; a fit needs 5"):
        benchmark_networks([run / "params.yaml"], load_profile(HOST), run.parent / "calibration", 1, seed=0, rounds=1)
    assert not (run.parent / "calibration").exists()


def test_another_machines_profile_is_refused(run: Path) -> None:
    """Before any is written, with the reason."""
    arm = load_profile(HOST).model_copy(update={"machine": "riscv64"})
    with pytest.raises(InputError, match=r"cannot be timed here: this machine is .*, the profile is for riscv64"):
        benchmark_networks([run / "params.yaml"], arm, run.parent / "calibration", 4, seed=0, rounds=1)
    assert not (run.parent / "calibration").exists()


def test_a_profile_without_float_gets_int8_files_alone(run: Path, tmp_path: Path) -> None:
    """Each type that the device computes in, and no other: the fit takes no other times."""
    plan = load_plan(run / "params.yaml")
    train, images = (load_split(run / PREPARED, split) for split in ("train", "val"))
    start = Spec(classes=images.classes, input_size=plan.params.data.input_size, settings=plan.params.teacher.architecture)
    subjects = [Subject(start, "one")]
    int8 = load_profile(HOST).model_copy(update={"dtypes": ("int8",), "float_dtype": None})
    assert [own.dtype for own in write_files(subjects, int8, train, images, tmp_path / "a")] == ["int8"]
    floats = load_profile(HOST).model_copy(update={"dtypes": ("fp32",)})
    assert [own.dtype for own in write_files(subjects, floats, train, images, tmp_path / "b")] == ["fp32"]


def test_one_plan_twice_is_refused(run: Path) -> None:
    """Its files would overwrite each other; the message names the option."""
    with pytest.raises(InputError, match="--params: two plans name the same sweep"):
        benchmark_networks([run / "params.yaml"] * 2, load_profile(HOST), run.parent / "calibration", 4, seed=0, rounds=1)


def test_a_device_is_not_timed_here(run: Path, sixfold: Sixfold) -> None:
    """Only profiles of this machine: another one's networks are timed on it, and calibrate reads that table."""
    refused(sixfold(run, "profiles", "benchmark", "raspberry-pi-5"), "raspberry-pi-5: a device profile", "kind host")
    assert not (run / "calibration").exists()


@ON_X86
def test_a_contended_time_does_not_count_beside_quiet_ones(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three rounds the second had a neighbour: the median is that of the other two; where all had one, of all three."""
    taken = {"first": [(0.001, False), (0.004, True), (0.003, False)], "second": [(0.001, True), (0.004, True), (0.003, True)]}
    rounds = iter(range(3))

    def told(job: Job) -> RoundResult:
        place = next(rounds)
        blocks = [
            Block(digest=file.digest, position=0, p50_s=taken[name][place][0], contended=taken[name][place][1])
            for file, name in zip(job.files, taken, strict=True)
        ]
        return RoundResult(blocks=tuple(blocks), runtime_rss_bytes=None)

    replace_process(monkeypatch, told)
    params = load_plan(run / "params.yaml").params
    files = [SubjectFile(run / name, "fp32", "one") for name in taken]
    val = load_split(run / PREPARED, "val")
    found = time_files(files, load_profile(HOST), val, params.measure.model_copy(update={"rounds": 3}), lambda text: None)
    assert found == (0.002, 0.003)
