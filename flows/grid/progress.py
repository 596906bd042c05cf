"""Progress of long work: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0
"""Without a terminal, a line this often at most, so that a log shows that the work lives."""

Say = Callable[[str], None]


@contextmanager
def counting(title: str, total: int) -> Iterator[Say]:
    """A function to call once per finished piece with a word about it."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total)

            def advance(word: str) -> None:
                bar.update(task, advance=1, description=f"{title}: {word}")

            yield advance
        return
    done, started_s, said_s = 0, time.monotonic(), 0.0

    def line(word: str) -> None:
        nonlocal done, said_s
        done += 1
        now_s = time.monotonic()
        if done == total or now_s - said_s >= LINE_EVERY_S:
            said_s = now_s
            print(f"{title}: {done}/{total} after {now_s - started_s:.0f} s, {word}", file=sys.stderr, flush=True)

    yield line
