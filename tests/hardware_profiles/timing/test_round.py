"""Rounds: every file timed once, in a fresh pinned process, with the work counted and failures recorded."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import hardware_profiles.timing.round as measuring
from hardware_profiles.timing.calls import Times
from hardware_profiles.timing.protocol import Protocol
from hardware_profiles.timing.round import Block, RoundError, RoundResult, choose_cores, in_fresh_process, run_round
from tests.hardware_profiles.round_factory import PROTOCOL, Counted, job
from tests.hardware_profiles.tiny_model import INPUT_SIZE, write_model

AFFINITY = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
"""Cores that this process may use."""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Six different files."""
    return {f"digest{seed}": write_model(tmp_path / f"{seed}.onnx", seed) for seed in range(6)}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_every_file_is_timed_once(runtime: str, files: dict[str, Path], tmp_path: Path) -> None:
    """One block per file, all numbers there, each position taken once, and no percentile below the median."""
    protocol = PROTOCOL.model_copy(update={"timed_calls": 64})
    result = run_round(job(tmp_path, files, runtime=runtime, protocol=protocol), Counted().hooks())
    assert sorted(block.digest for block in result.blocks) == sorted(files)
    assert sorted(block.position for block in result.blocks) == list(range(len(files)))
    for block in result.blocks:
        assert block.error is None
        assert 0 < block.p50_s <= block.p90_s < 1
        assert block.load_s > 0
        assert block.first_s > 0
        assert block.cv >= 0
        assert block.cpu_share > 0
        assert block.end_to_end_p50_s > block.postprocess_p50_s > 0
        assert block.timed_s > 64 * block.p50_s / 2
        assert block.repeats == 0


def test_few_calls_give_no_90th_percentile(files: dict[str, Path], tmp_path: Path) -> None:
    """63 calls cannot say with 99 % confidence what nine in ten calls stay below, 64 can; all else is there either way."""
    for calls, has_p90 in ((63, False), (64, True)):
        protocol = PROTOCOL.model_copy(update={"timed_calls": calls})
        (block,) = run_round(job(tmp_path, {"one": files["digest0"]}, protocol=protocol), Counted().hooks()).blocks
        assert (block.p90_s is not None) is has_p90
        assert block.p50_s > 0


class Neighbour:
    """A probe of 3 us that reads so many times that, one reading after another, and has to wait before the second timing."""

    def __init__(self, *slowdowns: float) -> None:
        self.left, self.waits, self.least_s, self.contention_wait_s = list(slowdowns), 0, 3e-6, -1.5

    def read_s(self) -> float:
        return self.least_s * self.left.pop(0)

    def wait(self) -> float:
        self.waits += 1
        return 1.5 if self.waits == 2 else 0.0


def timings_of(monkeypatch: pytest.MonkeyPatch, *shares: float) -> list[int]:
    """Have timings find these shares of the core, one after another, instead of timing; the calls made so far."""
    made: list[int] = []

    def take(*given: object, **settings: object) -> Times:
        made.append(len(made))
        times = dict.fromkeys(("p50_s", "end_to_end_p50_s", "postprocess_p50_s", "timed_s"), float(len(made)))
        return Times(**times, p90_s=None, cv=0.0, steal_s=None, cpu_share=shares[len(made) - 1])

    monkeypatch.setattr(measuring, "take_times", take)
    monkeypatch.setattr(measuring, "ContentionProbe", lambda least_s, contention_wait_s: Neighbour(*[1.0] * 20))
    return made


@pytest.mark.parametrize(
    ("shares", "repeats", "contended"),
    [((0.99,), 0, False), ((0.5, 0.99), 1, False), ((0.5, 0.5, 0.99), 2, False), ((0.5, 0.5, 0.5), 2, True)],
)
def test_a_contended_block_is_timed_again(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shares: tuple[float, ...],
    repeats: int,
    contended: bool,
) -> None:
    """At most `most_repeats` times, and only while contended; the last timing stands, whatever it is, and the count beside it."""
    made = timings_of(monkeypatch, *shares)
    protocol = PROTOCOL.model_copy(update={"most_repeats": 2})
    (block,) = run_round(job(tmp_path, {"one": files["digest0"]}, protocol=protocol), Counted().hooks()).blocks
    assert (block.repeats, block.contended) == (repeats, contended)
    assert len(made) == repeats + 1
    assert block.p50_s == len(made)  # the stand-in counts its calls in this field


def test_without_repeats_a_contended_block_is_marked(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`most_repeats: 0` takes what comes, and says so."""
    made = timings_of(monkeypatch, 0.5)
    (block,) = run_round(job(tmp_path, {"one": files["digest0"]}), Counted().hooks()).blocks
    assert (block.repeats, block.contended, len(made)) == (0, True, 1)


def test_a_block_beside_a_neighbour_is_timed_again(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read before and after the calls, the greater counts; each timing waits first; the least reading is handed on."""
    probe = Neighbour(1.0, 1.5, 1.5, 1.0, 1.1, 1.0)
    timings_of(monkeypatch, 1.0, 1.0, 1.0)
    monkeypatch.setattr(measuring, "ContentionProbe", lambda least_s, contention_wait_s: probe)
    warmed: list[int] = []
    monkeypatch.setattr(measuring, "warm_up", lambda session, inputs, calls, seconds: warmed.append(probe.waits))
    protocol = PROTOCOL.model_copy(update={"most_repeats": 5})
    result = run_round(job(tmp_path, {"one": files["digest0"]}, protocol=protocol), Counted().hooks())
    (block,) = result.blocks
    assert (block.repeats, block.contended, block.probe_s) == (2, False, pytest.approx(3.3e-6))
    assert (probe.waits, result.probe_s, result.waited_s) == (3, 3e-6, 1.5)
    assert warmed == [0, 0, 2], "to wake the machine up, after opening the file, and after the wait that was one"


def test_a_round_reads_a_real_probe(files: dict[str, Path], tmp_path: Path) -> None:
    """What earlier rounds read is its least where nothing quicker was read since."""
    wanted = job(tmp_path, {"one": files["digest0"]})
    first = run_round(wanted, Counted().hooks())
    assert first.probe_s is not None
    assert (first.blocks[0].probe_s or 0) >= first.probe_s > 1e-7
    assert run_round(wanted.model_copy(update={"probe_s": 1e-12}), Counted().hooks()).probe_s == 1e-12


def test_several_threads_have_no_probe(files: dict[str, Path], tmp_path: Path) -> None:
    """The runtime's workers may still be spinning beside it; what others read is handed on."""
    wanted = job(tmp_path, {"one": files["digest0"]}).model_copy(update={"threads": 2, "probe_s": 4e-6})
    result = run_round(wanted, Counted().hooks())
    assert (result.blocks[0].probe_s, result.probe_s) == (None, 4e-6)


def test_later_rounds_tell_what_the_first_could_not() -> None:
    """In contention from its first moment on, a round's blocks look quiet until a quieter reading is known."""
    blocks = (
        Block(digest="a", position=0, probe_s=6e-6),
        Block(digest="b", position=1, probe_s=4.7e-6),
        Block(digest="c", position=2),
        Block(digest="d", position=3, contended=True),
    )
    found = RoundResult(blocks=blocks, runtime_rss_bytes=None).contended_by(4e-6)
    assert [block.contended for block in found.blocks] == [True, False, False, True]


def test_blocks_that_an_older_version_stored_are_read() -> None:
    """A store keeps blocks for years; two of their fields had other names."""
    stored = '{"digest": "a", "position": 0, "disturbed": true, "yardstick_s": 6e-6}'
    assert Block.model_validate_json(stored) == Block(digest="a", position=0, contended=True, probe_s=6e-6)


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
    """A file's peak lies above what an empty runtime holds, which is a Python process with a runtime loaded; one number a round."""
    result = run_round(job(tmp_path, {"only": write_model(tmp_path / "m.onnx")}), Counted().hooks())
    assert result.runtime_rss_bytes > 20e6
    assert result.blocks[0].runtime_rss_bytes == result.runtime_rss_bytes
    assert result.blocks[0].peak_rss_bytes >= result.runtime_rss_bytes


def test_memory_of_an_earlier_file_is_not_counted_again(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 60 are held before the first file, which adds 40; 90 are held before the second, which adds 5."""
    held, peaks = iter([50, 60, 60, 90]), iter([100, 95])  # 50: an empty runtime
    monkeypatch.setattr(measuring, "resident_bytes", lambda: next(held))
    monkeypatch.setattr(measuring, "peak_resident_bytes", lambda: next(peaks))
    blocks = run_round(job(tmp_path, {name: files[name] for name in ("digest0", "digest1")}), Counted().hooks()).blocks
    assert [block.peak_rss_bytes for block in blocks] == [60 + 40, 60 + 5]
    assert [block.runtime_rss_bytes for block in blocks] == [50, 50]


def test_cores_are_the_last_allowed_ones() -> None:
    """A thread gets a core of its own; more threads than cores are refused, for they would time each other."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    if allowed is None:
        assert choose_cores(1) is None
        return
    assert choose_cores(1) == (allowed[-1],)
    assert choose_cores(len(allowed)) == tuple(allowed)
    with pytest.raises(ValueError, match=f"{len(allowed) + 1} threads need as many cores, but this process may use {len(allowed)}"):
        choose_cores(len(allowed) + 1)


ENTRY = """
import os, sys
from pathlib import Path
from hardware_profiles.timing.round import Job, RoundResult, pin
job = Job.model_validate_json(Path(sys.argv[1]).read_text())
pin(job.cores, job.threads)
{body}
"""


TIMED = """
import numpy as np
from hardware_profiles.timing.round import run_round
from hardware_profiles.timing.calls import Hooks
hooks = Hooks(lambda picture, size: np.zeros((1, *size, 3), np.uint8), lambda *given: None)
(Path(job.result).parent / "cores").write_text(str(sorted(os.sched_getaffinity(0))))
Path(job.result).write_text(run_round(job, lambda path: hooks).model_dump_json())
"""
"""For ENTRY: times the job's files with hooks that do nothing."""


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
Path(job.result).write_text(RoundResult(blocks=(), runtime_rss_bytes=None).model_dump_json())
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
    """Beside a busy loop on the same core we get about half of it: the block is timed again, and says that it did not help."""
    entry.write_text(ENTRY.format(body=TIMED))
    cores = choose_cores(1)
    big = write_model(tmp_path / "big.onnx", size=(256, 256))
    wanted = job(tmp_path, {"big": big}).model_copy(update={"cores": cores, "protocol": Protocol(timed_calls=200, most_repeats=1)})
    hog = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cores})\nwhile True: pass"])
    try:
        (block,) = in_fresh_process(wanted, "entry_module", tmp_path, 60).blocks
    finally:
        hog.kill()
        hog.wait()
    assert 0 < block.cpu_share < 0.85
    assert (block.repeats, block.contended) == (1, True)


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
    (tmp_path / "result.json").write_text('{"blocks": [], "runtime_rss_bytes": null}')
    with pytest.raises(RoundError, match=message):
        in_fresh_process(job(tmp_path, {}), "entry_module", tmp_path, timeout_s)


def test_a_protocol_needs_calls() -> None:
    """Nought timed calls would give a median of nothing."""
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Protocol(timed_calls=0)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.skipif(len(choose_cores(1) or ()) == 0 or len(AFFINITY) < 2, reason="needs two cores to pin to")
def test_two_threads_get_two_cores(runtime: str, entry: Path, tmp_path: Path) -> None:
    """A round of two threads is pinned to two cores and yields its numbers; together the threads may use more than one core."""
    entry.write_text(ENTRY.format(body=TIMED))
    cores = choose_cores(2)
    wanted = job(tmp_path, {"big": write_model(tmp_path / "big.onnx", size=(64, 64))}, runtime=runtime)
    (block,) = in_fresh_process(wanted.model_copy(update={"cores": cores, "threads": 2}), "entry_module", tmp_path, 60).blocks
    assert block.error is None
    assert block.p50_s > 0
    assert (tmp_path / "cores").read_text() == str(sorted(cores))
