"""Rounds on this machine: their order, their failures, what the user is told, and the pictures they work on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.data.dataset import Images
from flows.measure.host import host_rounds, why_not_here
from flows.measure.measured_rows import Rounds
from hardware_profiles.schema.library import load_profile
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.round import Block, File, Job, RoundError, RoundResult
from tests.flows.latency_factory import three_pictures
from tests.flows.rounds_factory import FEW, HOST, ON_X86, in_this_process, replace_lock, replace_process, tiny_files

pytestmark = ON_X86


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the machine's."""
    replace_lock(monkeypatch, tmp_path)


@pytest.fixture
def images() -> Images:
    """Three pictures taken at 24 x 20."""
    return three_pictures()


@pytest.fixture
def host() -> HardwareProfile:
    """One thread of ONNX Runtime."""
    return load_profile(HOST)


def one_profile(host: HardwareProfile, files: tuple[File, ...], *more: Any, **named: Any) -> Rounds:
    """The rounds of one profile."""
    return host_rounds([host], {host.id: files}, *more, **named)[host.id]


def blocks(job: Job, **about: float | bool) -> RoundResult:
    """A round that was not made: every file has the same block."""
    return RoundResult(
        blocks=tuple(Block.model_validate({"digest": file.digest, "position": 0, "p50_s": 0.001, **about}) for file in job.files),
        runtime_rss_bytes=None,
    )


def test_each_round_has_its_own_order(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Seeds differ between rounds and repeat between runs; with another seed they are others."""
    jobs = replace_process(monkeypatch, blocks)
    for config in (FEW, FEW, FEW.model_copy(update={"seed": 1})):
        one_profile(host, tiny_files(tmp_path), images, config)
    seeds = [job.order_seed for job in jobs]
    assert len(set(seeds[:3])) == 3
    assert seeds[3:6] == seeds[:3]
    assert not set(seeds[6:]) & set(seeds[:3])


def test_rounds_hand_on_what_the_probe_read(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first round knows of nothing; each later one, of whichever profile, of what the one before it knew."""
    readings = iter([5e-6, 4e-6, 4e-6, 3e-6])

    def read(job: Job) -> RoundResult:
        return blocks(job).model_copy(update={"probe_s": next(readings)})

    jobs = replace_process(monkeypatch, read)
    other = load_profile("x86-openvino-1t")
    files = tiny_files(tmp_path)
    host_rounds([host, other], {host.id: files, other.id: files}, images, FEW.model_copy(update={"rounds": 2}))
    assert [job.probe_s for job in jobs] == [None, 5e-6, 4e-6, 4e-6]


def test_all_rounds_are_judged_by_the_least_reading(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first round had a neighbour and did not know; the others did not have one; the wait stands in its line."""
    least = iter([6e-6, 4e-6, 4e-6])

    def read(job: Job) -> RoundResult:
        known = next(least)
        return blocks(job, probe_s=known).model_copy(update={"probe_s": known, "waited_s": 3.2})

    replace_process(monkeypatch, read)
    said: list[str] = []
    found = one_profile(host, tiny_files(tmp_path), images, FEW, said.append)
    assert [result.blocks[0].contended for result in found.results] == [True, False, False]
    assert said[-1] == "measure: 0 of 3 blocks repeated, 1 still contended"
    assert "waited 3 s for contention on the core to end" in said[0]


def test_profiles_take_turns(host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Round by round, not profile by profile: what slows the machine for a minute slows both."""
    jobs = replace_process(monkeypatch, blocks)
    other = load_profile("x86-openvino-1t")
    files = tiny_files(tmp_path)
    host_rounds([host, other], {host.id: files, other.id: files}, images, FEW)
    assert [job.runtime for job in jobs] == ["onnxruntime", "openvino"] * 3


def test_a_crashed_round_spares_the_other_profiles(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One runtime's crash leaves its profile without numbers and with the reason; the other one is measured, round after round."""

    def crash(job: Job) -> RoundResult:
        if job.runtime == "openvino":
            raise RoundError("a round's process ended with exit code -11: no output")
        return blocks(job)

    replace_process(monkeypatch, crash)
    other, files = load_profile("x86-openvino-1t"), tiny_files(tmp_path)
    found = host_rounds([other, host], {host.id: files, other.id: files}, images, FEW)
    assert found[other.id] == Rounds(why="a round's process ended with exit code -11: no output")
    assert len(found[host.id].results) == 3


def said(host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, folder: Path, **about: float | bool) -> list[str]:
    """What the user reads when every block of three rounds over two files is like this."""
    replace_process(monkeypatch, lambda job: blocks(job, **about))
    lines: list[str] = []
    one_profile(host, tiny_files(folder, count=2), images, FEW, say=lines.append)
    return lines


def test_repeated_blocks_are_counted(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the line of their round, and over all rounds at the end."""
    *rounds, last = said(host, images, monkeypatch, tmp_path, repeats=2, contended=True)
    assert len(rounds) == 3
    assert all("2 files in 0 s, 2 of 2 blocks repeated, 2 still contended" in line for line in rounds)
    assert last == "measure: 6 of 6 blocks repeated, 6 still contended"


def test_quiet_rounds_say_little(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many rounds wait, and in the end what they took; and that nothing had to be repeated."""
    lines = said(host, images, monkeypatch, tmp_path)
    assert lines == ["measure: 0 of 6 blocks repeated, 0 still contended"]
    assert capsys.readouterr().err == "measure: 0 of 3 done, 3 waiting\nmeasure: 3 of 3 done in 0 s\n"


@pytest.mark.parametrize(("share", "contended"), [(0.6, True), (0.99, False)])
def test_a_contended_round_is_reported(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float, contended: bool
) -> None:
    """Where others had 40 % of the core the user reads so at once, not from odd numbers later."""
    lines = said(host, images, monkeypatch, tmp_path, cpu_share=share)
    assert sum("other work took 40% of the core" in line for line in lines) == (3 if contended else 0)


def test_a_foreign_machine_is_not_measured(host: HardwareProfile, images: Images) -> None:
    """A host profile of another instruction set has no rounds here, and neither has one with more threads than cores."""
    foreign = host.model_copy(update={"machine": "riscv64"})
    assert why_not_here(foreign) == f"this machine is {platform.machine()}, the profile is for riscv64"
    assert one_profile(foreign, (File(digest="0" * 64, path="never opened"),), images, FEW).results == ()
    assert "1000 threads need as many cores" in (why_not_here(host.model_copy(update={"threads": 1000})) or "")


def test_pictures_are_as_large_as_they_were_taken(
    host: HardwareProfile, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The round gets 24 x 20 pictures without padding, so that letterboxing is part of end-to-end time."""
    taken: list[np.ndarray] = []

    def look(job: Job) -> RoundResult:
        with np.load(job.pictures) as packed:
            taken.extend(packed[name] for name in packed.files)
        return in_this_process(job)

    replace_process(monkeypatch, look)
    one_profile(host, tiny_files(tmp_path), images, FEW.model_copy(update={"rounds": 1}))
    assert [picture.shape for picture in taken] == [(24, 20, 3)] * 2
    assert [np.unique(picture).tolist() for picture in taken] == [[10], [230]]
