"""The planted slowdown is what it is said to be, and only where it is said to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hardware_profiles.runtimes.table import RUNTIMES, Array, Pixels, open_session
from hardware_profiles.timing.protocol import Protocol
from hardware_profiles.timing.round import File, Job
from studies.measurement.planted_round import PREFIX, Slowed, plant
from tests.hardware_profiles.tiny_model import INPUT_SIZE, write_model

PIXELS = np.zeros((1, *INPUT_SIZE, 3), np.uint8)
FOUND = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 2), np.float32)


class Session:
    """A session whose calls take 1000 ns of its own clock, which moves by 10 ns whenever it is read."""

    output_names = ("boxes", "scores")
    input_size = INPUT_SIZE

    def __init__(self) -> None:
        self.now_ns = 0

    def clock(self) -> int:
        self.now_ns += 10
        return self.now_ns

    def blank(self) -> Pixels:
        return PIXELS

    def __call__(self, pixels: Pixels) -> tuple[Array, Array]:
        self.now_ns += 1000
        return FOUND


@pytest.mark.parametrize(("share", "expected_ns"), [(0.0, 1000), (0.05, 1050), (0.2, 1200), (1.0, 2000)])
def test_the_wait_is_a_share_of_the_call(share: float, expected_ns: int) -> None:
    """A call of 1000 ns that is slower by 20 % is over after 1200 ns; the control takes the same path, slower by nothing."""
    session = Session()
    slowed = Slowed(session, share, session.clock)
    assert slowed(PIXELS) is FOUND
    assert session.now_ns == pytest.approx(expected_ns, abs=40)
    assert slowed.input_size == INPUT_SIZE


@pytest.fixture
def runtimes() -> Iterator[None]:
    known = dict(RUNTIMES)
    yield
    RUNTIMES.clear()
    RUNTIMES.update(known)


@pytest.mark.usefixtures("runtimes")
def test_only_named_files_are_slowed(tmp_path: Path) -> None:
    """The planted runtime opens what the real one opens and gives what it gives; a file that no setting names is not slowed."""
    files = {stem: write_model(tmp_path / f"{stem}.onnx") for stem in ("slow", "plain")}
    job = Job(
        runtime="onnxruntime-slowed", threads=1, cores=None, order_seed=0,
        files=tuple(File(digest=stem, path=str(path)) for stem, path in files.items()),
        protocol=Protocol(contention_wait_s=0.0), pictures="", settings={f"{PREFIX}slow": 0.5, "score_threshold": 0.25}, result="",
    )  # fmt: skip
    plant(job)
    expected = open_session("onnxruntime", files["plain"], 1)(PIXELS)
    for stem, share in (("slow", 0.5), ("plain", 0.0)):
        session = open_session(job.runtime, files[stem], 1)
        assert isinstance(session, Slowed)
        assert session._share == share
        np.testing.assert_array_equal(session(session.blank())[1], expected[1])
