"""One measurement at a time on a machine: two side by side spoil each other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flows.messages import Say
from hardware_profiles.timing.round import RoundError

LOCK = Path(tempfile.gettempdir()) / "sixfold-measure.lock"
"""One for the machine, not for the checkout."""
LOCK_TIMEOUT_S = 3600.0


@contextmanager
def alone(say: Say) -> Iterator[None]:
    """Held by one measurement of this machine at a time; the others say that they wait, and give up after an hour."""
    try:
        lock = FileLock(LOCK, mode=0o666)  # whoever measures next may be another user
        lock.acquire(timeout=0)
    except Timeout:
        say(f"measure: another measurement runs on this machine ({LOCK}); waiting for it")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout as error:
            raise RoundError(f"{LOCK}: still held after {LOCK_TIMEOUT_S:g} s; end the other measurement and try again") from error
    except OSError as error:
        raise RoundError(f"{LOCK}: cannot be locked ({error.strerror}); remove it, or name another folder in TMPDIR") from error
    try:
        yield
    finally:
        lock.release()
