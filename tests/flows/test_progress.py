"""What long work says of itself: the first line, a line a minute, what ends at once, the time left, and how it stopped."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterator

import pytest

from flows import progress as progress_module
from flows.progress import duration, progress, reading, steps


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every progress in this test."""
    own = Clock()
    monkeypatch.setattr(progress_module, "clock", own)
    return own


@pytest.fixture(autouse=True)
def no_thread_survives() -> Iterator[None]:
    """The thread that says a line a minute ends with the work."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "60 s"), (119.0, "119 s"), (120.0, "2 min"), (7140.0, "119 min"), (7260.0, "2 h 1 min")],
)
def test_durations_as_people_say_them(seconds: float, words: str) -> None:
    """Seconds below two minutes, minutes below two hours."""
    assert duration(seconds) == words


def test_the_first_line_comes_before_any_work(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits and how long it will take, at once."""
    with progress("grid", 12, left_s=lambda _running: 2040.0):
        assert capsys.readouterr().err == "grid: 0 of 12 done, 12 waiting, about 34 min left\n"
    assert clock() == 100.0


def test_a_line_tells_what_runs_and_for_how_long(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Done, running with its time, waiting, time left; of many running ones the longest three."""
    asked: list[dict[str, float]] = []

    def left_s(running: dict[str, float]) -> float:
        asked.append(dict(running))
        return 90.0

    with progress("grid", 8, left_s=left_s) as work:
        for name in ("a", "b", "c", "d"):
            work.start(name)
            clock.now_s += 100.0
        capsys.readouterr()
        work.finish("a", "ok")
        assert capsys.readouterr().err == (
            "grid: 1 of 8 done, 3 running (b for 5 min, c for 3 min, d for 100 s), 4 waiting, about 90 s left; a ok\n"
        )
        work.start("a")
        work.start("e")
        clock.now_s += 10.0
        work.finish("d", "failed", failed=True)
        line = capsys.readouterr().err
    assert "2 of 8 done (1 failed), 4 running (b for 5 min, c for 4 min, a for 10 s and 1 more), 2 waiting" in line
    assert asked[-1]["b"] == 310.0


def test_what_ends_soon_after_a_line_is_not_told_by_itself(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred tasks of a second each are not a hundred lines; the last line tells that all is done."""
    with progress("grid", 100) as work:
        for number in range(100):
            work.start(str(number))
            clock.now_s += 1.0
            work.finish(str(number), "ok")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "grid: 100 of 100 done in 100 s"


def test_a_line_a_minute_comes_by_itself(clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thing runs for long nobody calls; the line comes all the same."""
    monkeypatch.setattr(progress_module, "LOOK_EVERY_S", 0.001)
    said = threading.Event()

    class Ear(io.StringIO):
        def write(self, text: str) -> int:
            if "for 61 s" in text:
                said.set()
            return super().write(text)

    ear = Ear()
    monkeypatch.setattr(sys, "stderr", ear)
    with progress("grid", 2) as work:
        work.start("teacher")
        clock.now_s += 61.0
        assert said.wait(10.0)
    assert "grid: 0 of 2 done, 1 running (teacher for 61 s), 1 waiting" in ear.getvalue()


def test_a_task_that_redirects_its_output_does_not_get_the_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks that run in this process write to their own logs meanwhile."""
    log = io.StringIO()
    with progress("grid", 2) as work, contextlib.redirect_stderr(log):
        clock.now_s += 60.0
        work.finish("a", "ok")
    assert "1 of 2 done" in capsys.readouterr().err
    assert log.getvalue() == ""


def test_quiet_work_has_no_thread(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of ours wakes up while latency is timed; lines come when a round ends."""
    before = threading.active_count()
    with progress("measure", 2, quiet=True) as work:
        assert threading.active_count() == before
        work.start("round 1")
        clock.now_s += 30.0
        work.finish("round 1", "3 files in 30 s")
    assert capsys.readouterr().err.splitlines()[1] == "measure: 1 of 2 done, 1 waiting, about 30 s left; round 1 3 files in 30 s"


def test_counted_work_that_is_soon_done_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Below two seconds; and what is given comes back in its order."""
    assert list(steps(range(5), 5, "prepare train", "pictures")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_counted_work_tells_how_many_and_how_long(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A line after two seconds, then one a minute, whatever ends; the end with what it took."""
    for _ in steps(range(1600), 1600, "prepare train", "pictures"):
        clock.now_s += 0.125
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "prepare train: 16 of 1,600 pictures done, about 3 min left"
    assert lines[-1] == "prepare train: 1,600 of 1,600 pictures done in 3 min"
    assert len(lines) == 5


def test_work_that_is_stopped_says_how_far_it_came(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C or an error: the last line is where it stood."""

    def interrupted() -> None:
        with progress("grid", 3) as work:
            work.finish("a", "ok")
            clock.now_s += 5.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err.splitlines()[-1] == "grid: stopped after 5 s, 1 of 3 done"


def test_a_terminal_gets_a_bar_and_the_same_words(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is there while the work runs, and the last line stays; what others print goes above it."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("grid", 4, quiet=True) as work:
        work.start("teacher")
        clock.now_s += 65.0
        work.finish("teacher", "ok")
    shown = terminal.getvalue()
    assert "━" in shown
    assert "1 running (teacher for 0 s), 3 waiting" in shown
    assert shown.rstrip().splitlines()[-1].endswith("grid: 1 of 4 done in 65 s")


def test_bytes_are_told_in_megabytes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """After two seconds, never more than there are though parts may be read twice, and at the end all."""
    with reading("unpack set.zip", 2_500_000) as tell:
        tell(900_000)
        assert capsys.readouterr().err == ""
        clock.now_s += 3
        tell(900_000)
        assert capsys.readouterr().err == "unpack set.zip: 1 of 3 MB done, about 6 s left\n"
        tell(9_000_000)
        clock.now_s += 60
        tell(1)
    assert capsys.readouterr().err == "unpack set.zip: 3 of 3 MB done in 63 s\n"


def test_short_work_says_nothing_though_it_fails(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """The message of what went wrong stands alone; what took longer says how far it came."""
    with pytest.raises(ValueError, match="damaged"), reading("unpack set.zip", 2_500_000):
        raise ValueError("damaged")
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="damaged"), reading("unpack set.zip", 2_500_000):
        clock.now_s += 5
        raise ValueError("damaged")
    assert capsys.readouterr().err.splitlines()[-1] == "unpack set.zip: stopped after 5 s, 0 of 3 MB done"
