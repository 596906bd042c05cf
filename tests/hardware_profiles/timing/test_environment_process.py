"""Memory and steal as psutil reads them."""

from __future__ import annotations

import mmap
import platform

import psutil
import pytest

from hardware_profiles.timing.environment import peak_resident_bytes, reset_peak, resident_bytes, steal_s, tick_s

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="read from /proc")


def test_steal_time_is_the_eighth_number() -> None:
    """Seconds, per core and for all of them, as psutil reads it."""
    before, own, after = psutil.cpu_times().steal, steal_s(None), psutil.cpu_times().steal
    assert before - tick_s() / 2 <= own <= after + tick_s() / 2
    assert steal_s((0,)) <= steal_s(None) + tick_s()


def test_memory_is_the_resident_set() -> None:
    """As psutil reads it, within a megabyte of what moves meanwhile."""
    assert resident_bytes() == pytest.approx(psutil.Process().memory_info().rss, abs=1e6)


def test_the_peak_remembers_what_is_gone() -> None:
    """50 MB that were written and freed are in the peak and no longer in what is held; a reset forgets them."""
    reset_peak()
    before = resident_bytes()
    with mmap.mmap(-1, 50_000_000) as held:  # not from malloc, which may keep what is freed for the next one
        held.write(b"1" * len(held))
        assert resident_bytes() > before + 45e6
    assert peak_resident_bytes() > before + 45e6 > resident_bytes()
    reset_peak()
    assert peak_resident_bytes() < before + 45e6
