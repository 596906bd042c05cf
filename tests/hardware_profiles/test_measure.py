"""Rounds: every file timed once, in a fresh pinned process, with the work counted and failures recorded."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hardware_profiles.environment import digest_of, environment
from hardware_profiles.measure import (
    File,
    Hooks,
    Job,
    Picture,
    Protocol,
    RoundError,
    choose_cores,
    in_fresh_process,
    run_round,
    steal_s,
)
from hardware_profiles.runtimes import Array
from tests.hardware_profiles.tiny_model import INPUT_SIZE, write_model

PROTOCOL = Protocol(warmup_calls=2, warmup_s=0.0, timed_calls=5, end_to_end_calls=3)


class Counted:
    """Hooks that count what they were asked for."""

    def __init__(self) -> None:
        self.before_sizes: list[tuple[int, int]] = []
        self.after_shapes: list[tuple[tuple[int, ...], tuple[int, int]]] = []
        self.collecting: list[bool] = []

    def hooks(self) -> Hooks:
        return Hooks(self.before, self.after)

    def before(self, picture: Picture, size: tuple[int, int]) -> Array:
        self.before_sizes.append(size)
        self.collecting.append(gc.isenabled())
        cut = picture[: size[0], : size[1]]
        return np.ascontiguousarray(cut.transpose(2, 0, 1)[None], dtype=np.float32)

    def after(self, boxes: Array, scores: Array, picture: Picture, size: tuple[int, int]) -> int:
        self.after_shapes.append((boxes.shape, size))
        return len(boxes)


def job(folder: Path, files: dict[str, Path], seed: int = 0, runtime: str = "onnxruntime") -> Job:
    """A job over two random pictures."""
    pictures = folder / "pictures.npz"
    random = np.random.default_rng(0)
    np.savez(pictures, *(random.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(2)))
    return Job(
        runtime=runtime,
        threads=1,
        cores=None,
        files=tuple(File(digest=name, path=str(path)) for name, path in files.items()),
        order_seed=seed,
        protocol=PROTOCOL,
        pictures=str(pictures),
        settings={},
        result=str(folder / "result.json"),
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Six different files."""
    return {f"digest{seed}": write_model(tmp_path / f"{seed}.onnx", seed) for seed in range(6)}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_every_file_is_timed_once(runtime: str, files: dict[str, Path], tmp_path: Path) -> None:
    """One block per file, all numbers there, each position taken once, and no percentile below the median."""
    result = run_round(job(tmp_path, files, runtime=runtime), Counted().hooks())
    assert sorted(block.digest for block in result.blocks) == sorted(files)
    assert sorted(block.position for block in result.blocks) == list(range(len(files)))
    for block in result.blocks:
        assert block.error is None
        assert 0 < block.p50_s <= block.p90_s < 1
        assert block.load_s > 0
        assert block.first_s > 0
        assert block.cv >= 0
        assert block.cpu_share > 0
        assert block.end_to_end_p50_s > 0


def test_the_order_is_the_seeds(files: dict[str, Path], tmp_path: Path) -> None:
    """The same seed repeats the order, another one changes it, and none of them is the order given."""

    def order(seed: int) -> list[str]:
        blocks = run_round(job(tmp_path, files, seed), Counted().hooks()).blocks
        return [block.digest for block in sorted(blocks, key=lambda block: block.position)]

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in (1, 2, 3)} | {tuple(files)}) == 4


def test_calls_are_counted(files: dict[str, Path], tmp_path: Path) -> None:
    """Per opened file every picture is prepared once; end to end prepares and finishes `end_to_end_calls` more."""
    counted = Counted()
    run_round(job(tmp_path, files), counted.hooks())
    opened = len(files) + 1  # the first file is opened once more to wake the machine up
    assert len(counted.before_sizes) == 2 * opened + PROTOCOL.end_to_end_calls * len(files)
    assert len(counted.after_shapes) == PROTOCOL.end_to_end_calls * len(files)
    assert set(counted.before_sizes) == {INPUT_SIZE}
    assert set(counted.after_shapes) == {((1, 96, 4), INPUT_SIZE)}


def test_each_file_gets_its_own_input_size(tmp_path: Path) -> None:
    """A file of lower resolution is fed pictures of its own size, within the same round."""
    sizes = {"small": (4, 8), "large": (12, 16)}
    counted = Counted()
    result = run_round(
        job(tmp_path, {n: write_model(tmp_path / f"{n}.onnx", size=size) for n, size in sizes.items()}), counted.hooks()
    )
    assert [block.error for block in result.blocks] == [None, None]
    assert set(counted.before_sizes) == set(sizes.values())


def test_no_garbage_is_collected_while_timing(files: dict[str, Path], tmp_path: Path) -> None:
    """The collector is off during the timed part and on again afterwards."""
    counted = Counted()
    run_round(job(tmp_path, files), counted.hooks())
    assert counted.collecting == [True] * 2 + [False] * (len(counted.collecting) - 2)  # two pictures of the wake-up
    assert gc.isenabled()


def test_a_broken_file_fails_alone(files: dict[str, Path], tmp_path: Path) -> None:
    """Its block has the error and no numbers; the other files have theirs, whatever the order."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    for seed in range(3):
        blocks = {
            block.digest: block for block in run_round(job(tmp_path, files | {"broken": broken}, seed), Counted().hooks()).blocks
        }
        assert "broken.onnx: onnxruntime cannot open it" in (blocks["broken"].error or "")
        assert blocks["broken"].p50_s is None
        assert all(blocks[digest].p50_s for digest in files)


@pytest.mark.skipif(platform.system() != "Linux", reason="memory is read from /proc")
def test_memory_is_that_of_the_process(tmp_path: Path) -> None:
    """A file's peak lies above the baseline; the baseline is that of a Python process with a runtime loaded."""
    result = run_round(job(tmp_path, {"only": write_model(tmp_path / "m.onnx")}), Counted().hooks())
    assert result.baseline_rss_bytes > 20e6
    assert result.blocks[0].peak_rss_bytes >= result.baseline_rss_bytes


@pytest.mark.skipif(platform.system() != "Linux", reason="steal time is read from /proc/stat")
def test_steal_time_is_the_eighth_number() -> None:
    """Seconds, per core and for all of them, as psutil reads it."""
    import psutil

    before, own, after = psutil.cpu_times().steal, steal_s(None), psutil.cpu_times().steal
    assert before <= own <= after
    assert steal_s((0,)) <= steal_s(None) + 0.01


def test_cores_are_the_last_allowed_ones() -> None:
    """A thread gets a core of its own; more threads than cores are refused, for they would time each other."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    if allowed is None:
        assert choose_cores(1) is None
        return
    assert choose_cores(1) == (allowed[-1],)
    with pytest.raises(ValueError, match=f"{len(allowed) + 1} threads need as many cores, but this process may use {len(allowed)}"):
        choose_cores(len(allowed) + 1)


ENTRY = """
import os, sys
from pathlib import Path
from hardware_profiles.measure import Job, RoundResult, pin
job = Job.model_validate_json(Path(sys.argv[1]).read_text())
pin(job.cores, job.threads)
{body}
"""


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable module `entry_module` that a test fills."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "entry_module.py"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_a_round_runs_pinned_in_another_process(entry: Path, tmp_path: Path) -> None:
    """The process is not ours, may use the one core only, and is told its number of threads."""
    body = """
seen = f"{os.getpid()} {sorted(os.sched_getaffinity(0))} {os.environ['OMP_NUM_THREADS']}"
(Path(job.result).parent / "seen").write_text(seen)
Path(job.result).write_text(RoundResult(blocks=(), baseline_rss_bytes=None).model_dump_json())
"""
    entry.write_text(ENTRY.format(body=body))
    cores = choose_cores(1)
    here = sorted(os.sched_getaffinity(0))
    assert in_fresh_process(job(tmp_path, {}).model_copy(update={"cores": cores}), "entry_module", tmp_path, 60).blocks == ()
    process, rest = (tmp_path / "seen").read_text().split(" ", 1)
    assert int(process) != os.getpid()
    assert rest == f"[{cores[0]}] 1"
    assert sorted(os.sched_getaffinity(0)) == here


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_a_shared_core_shows(files: dict[str, Path], entry: Path, tmp_path: Path) -> None:
    """Beside a busy loop on the same core we get about half of it, and the blocks say so."""
    body = """
import numpy as np
from hardware_profiles.measure import Hooks, run_round
hooks = Hooks(lambda picture, size: np.zeros((1, 3, *size), np.float32), lambda *given: None)
Path(job.result).write_text(run_round(job, hooks).model_dump_json())
"""
    entry.write_text(ENTRY.format(body=body))
    cores = choose_cores(1)
    big = write_model(tmp_path / "big.onnx", size=(256, 256))
    wanted = job(tmp_path, {"big": big}).model_copy(update={"cores": cores, "protocol": Protocol(timed_calls=200)})
    hog = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cores})\nwhile True: pass"])
    try:
        (block,) = in_fresh_process(wanted, "entry_module", tmp_path, 60).blocks
    finally:
        hog.kill()
        hog.wait()
    assert 0 < block.cpu_share < 0.85


@pytest.mark.parametrize(
    ("body", "timeout_s", "message"),
    [
        ("sys.exit('no more memory')", 60, "ended with exit code 1: no more memory"),
        ("os.abort()", 60, "ended with exit code -6"),
        ("pass", 60, "ended with exit code 0"),
        ("while True: pass", 0.5, "took longer than 0.5 s"),
    ],
)
def test_a_round_that_ends_badly_says_so(entry: Path, tmp_path: Path, body: str, timeout_s: float, message: str) -> None:
    """An error, a crash, silence and a hang: none is taken for a result, not even when an older result lies there."""
    entry.write_text(ENTRY.format(body=body))
    (tmp_path / "result.json").write_text('{"blocks": [], "baseline_rss_bytes": null}')
    with pytest.raises(RoundError, match=message):
        in_fresh_process(job(tmp_path, {}), "entry_module", tmp_path, timeout_s)


def test_the_environment_names_what_decides() -> None:
    """CPU, versions and cores are there, nothing else changes between two looks, and it survives JSON."""
    now = environment()
    assert now == environment()
    assert now["machine"] == platform.machine()
    assert set(now["versions"]) == {"numpy", "onnxruntime", "openvino"}
    assert now["versions"]["numpy"] == np.__version__
    assert now["cores"] >= 1


def test_a_digest_is_of_the_content() -> None:
    """Order of keys does not matter, values do; the digest is sha256 of canonical JSON."""
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    # printf '{"a":1}' | sha256sum
    assert digest_of({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_a_protocol_needs_calls() -> None:
    """Nought timed calls would give a median of nothing."""
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Protocol(timed_calls=0)
