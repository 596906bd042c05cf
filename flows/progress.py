"""Progress of long work that a person can read: what is done, what runs and for how long, what waits, and the time left.

A bar on a terminal; elsewhere a line at the start, a line a minute, and one when something ends that takes its time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TextIO, TypeVar

LINE_EVERY_S = 60.0
"""Without a terminal, so that a log shows that the work lives."""
AT_ONCE_S = 10.0
"""What ends is told at once where the last line is older than this."""
SHORT_S = 2.0
"""Counted work that takes less says nothing."""
MB = 10**6
LOOK_EVERY_S = 1.0
"""How often the thread looks whether a line is due, and a bar is drawn."""
SHOWN = 3
"""Of what runs, the longest first."""
clock = time.monotonic

Item = TypeVar("Item")
Say = Callable[[str], None]
"""Takes one line for people: `print`, or a test's `list.append`."""
PrintTable = Callable[[Sequence[str], Sequence[Sequence[str]]], None]
"""Takes heads and the lines below them: `flows.cli.options.print_table`."""
TimeLeft = Callable[[Mapping[str, float]], float | None]
"""Seconds that the rest will take; gets what runs now and for how many seconds already."""
Tell = Callable[[str, bool], None]
"""Shows the state of the work. Gets what ended just now, if anything, and whether pieces like it end seldom enough to be told of
one by one."""


@contextmanager
def progress(
    title: str, total: int, unit: str = "", *, left_s: TimeLeft | None = None, first_after_s: float = 0.0, quiet: bool = False
) -> Iterator[Work]:
    """What to tell of `total` pieces of work while the block runs. Lines go to stderr.

    `left_s` forecasts the rest; without it the pieces so far do. quiet: nothing wakes up or is drawn between two calls, for work
    that measures time.
    """
    work, stream = Work(title, total, unit, left_s), sys.stderr  # a task that runs meanwhile may have its own stderr
    with ExitStack() as stack:
        show = _bar(work, stream, quiet, stack) if stream.isatty() else _lines(work, stream, first_after_s, quiet, stack)
        work.tell = show
        show("", False)
        try:
            yield work
        except BaseException:
            stack.close()
            if work.took_s >= first_after_s:
                print(f"{title}: stopped after {duration(work.took_s)}, {work.so_far()}", file=stream, flush=True)
            raise
    if work.took_s >= first_after_s:
        print(f"{title}: {work.so_far()} in {duration(work.took_s)}", file=stream, flush=True)


def steps(items: Iterable[Item], total: int, title: str, unit: str) -> Iterator[Item]:
    """The same items, `total` of them; how far their user has come is told where it takes more than two seconds."""
    with progress(title, total, unit, first_after_s=SHORT_S) as work:
        for item in items:
            yield item
            work.advance()


@contextmanager
def reading(title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """What takes the number of further bytes done; how far it is is told where it takes more than two seconds."""
    total_mb, seen_bytes = -(-total_bytes // MB), 0
    with progress(title, total_mb, "MB", first_after_s=SHORT_S) as work:

        def tell(done_bytes: int) -> None:
            nonlocal seen_bytes
            seen_bytes += done_bytes
            if further := min(seen_bytes // MB, total_mb) - work.done:  # parts may be read twice
                work.advance(further)

        yield tell
        work.advance(total_mb - work.done)


def duration(seconds: float) -> str:
    """A time as people say it: seconds below two minutes, minutes below two hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if seconds < 7200 else f"{minutes // 60} h {minutes % 60} min"


class Work:
    """Pieces of work, of which some are done, some run and some wait."""

    def __init__(self, title: str, total: int, unit: str, left_s: TimeLeft | None) -> None:
        self.title, self.total, self.unit, self._forecast = title, total, unit, left_s
        self.done = self.failed = 0
        self._started_s = clock()
        self._running: dict[str, float] = {}
        self.tell: Tell = lambda ended, rare: None

    def start(self, name: str) -> None:
        """A piece runs from now on."""
        self._running = {**self._running, name: clock()}
        self.tell("", False)

    def finish(self, name: str, outcome: str = "", *, failed: bool = False) -> None:
        """A piece ended, whether its start was told or not."""
        self._running = {other: since for other, since in self._running.items() if other != name}
        self.failed += failed
        self.done += 1
        self.tell(f"{name} {outcome}".strip(), True)

    def advance(self, count: int = 1) -> None:
        """Pieces without names ended."""
        self.done += count
        self.tell("", False)

    @property
    def took_s(self) -> float:
        """Seconds since the start."""
        return clock() - self._started_s

    def so_far(self) -> str:
        """How many are done, in words."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.done:,} of {self.total:,}{unit} done" + (f" ({self.failed} failed)" if self.failed else "")

    def line(self) -> str:
        """How it stands now, in words."""
        now_s, running = clock(), self._running
        spent = {name: now_s - since_s for name, since_s in sorted(running.items(), key=lambda own: own[1])}
        parts = [self.so_far()]
        if running:
            some = ", ".join(f"{name} for {duration(own_s)}" for name, own_s in list(spent.items())[:SHOWN])
            more = f" and {len(spent) - SHOWN} more" if len(spent) > SHOWN else ""
            parts.append(f"{len(spent)} running ({some}{more})")
        waiting = self.total - self.done - len(running)
        if waiting > 0 and not self.unit:
            parts.append(f"{waiting} waiting")
        left_s = self._left_s(spent)
        if left_s is not None and self.done < self.total:
            parts.append(f"about {duration(left_s)} left")
        return f"{self.title}: {', '.join(parts)}"

    def _left_s(self, spent: Mapping[str, float]) -> float | None:
        if self._forecast is not None:
            return self._forecast(spent)
        return self.took_s / self.done * (self.total - self.done) if self.done else None


def _lines(work: Work, stream: TextIO, first_after_s: float, quiet: bool, stack: ExitStack) -> Tell:
    """Shows the work as lines, from a thread where nobody calls for long."""
    lock, stop = threading.Lock(), threading.Event()
    said_s: float | None = None

    def tell(ended: str, rare: bool) -> None:
        nonlocal said_s
        with lock:
            due_s = work.took_s >= first_after_s if said_s is None else clock() - said_s >= (AT_ONCE_S if rare else LINE_EVERY_S)
            if due_s and (work.done < work.total or said_s is None):
                said_s = clock()
                print(work.line() + (f"; {ended}" if ended else ""), file=stream, flush=True)

    def watch() -> None:
        while not stop.wait(LOOK_EVERY_S):
            tell("", False)

    if not quiet:
        thread = threading.Thread(target=watch, name=f"progress of {work.title}", daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
    return tell


def _bar(work: Work, stream: TextIO, quiet: bool, stack: ExitStack) -> Tell:
    """Shows the work as a bar with a line above it; both vanish in the end."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    last = ""

    def shown() -> Group:
        text = Text(work.line() + (f"; {last}" if last else ""), no_wrap=True, overflow="ellipsis")
        return Group(text, ProgressBar(total=max(1, work.total), completed=work.done))

    live = Live(
        get_renderable=shown, console=Console(file=stream), auto_refresh=not quiet, refresh_per_second=1 / LOOK_EVERY_S,
        transient=True, redirect_stdout=sys.stdout.isatty(),
    )  # fmt: skip
    stack.enter_context(live)

    def tell(ended: str, rare: bool) -> None:
        nonlocal last
        last = ended if rare or ended else last
        if quiet:
            live.refresh()

    return tell
