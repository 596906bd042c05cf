"""What the system tells about this process and its cores: memory held, peak, and time that the hypervisor gave to others."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def steal_s(cores: tuple[int, ...] | None) -> float | None:
    """Seconds since boot that the hypervisor gave to others on these cores (all where None); None where the kernel does not say."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    wanted = {"cpu"} if cores is None else {f"cpu{core}" for core in cores}
    rows = [line.split() for line in stat.read_text().splitlines()]
    ticks = [int(row[8]) for row in rows if row[0] in wanted and len(row) > 8]  # proc_stat(5): the eighth number is steal
    return sum(ticks) * tick_s() if ticks else None


def tick_s() -> float:
    """The unit in which the kernel reports steal: 10 ms on most systems."""
    return 1.0 / os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int | None:
    """Memory that this process holds now; None where /proc does not tell."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int | None:
    """The most this process held since `reset_peak`; None where /proc does not tell."""
    return _status_bytes("VmHWM")


def reset_peak() -> None:
    """Give freed memory back and start the peak afresh, so that a file does not answer for the one before it."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):  # no glibc, or a kernel that does not let us: the peak is then that of the process so far
        return


def _status_bytes(field: str) -> int | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{field}:"), None)
