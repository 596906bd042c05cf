"""The environment: what decides latency besides the file, and a digest of it."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

import hardware_profiles.timing.environment as module
from hardware_profiles.timing.environment import digest_of, environment


def test_the_environment_names_what_decides() -> None:
    """CPU, versions and cores are there, nothing else changes between two looks, and it survives JSON."""
    now = environment()
    assert now == environment()
    assert now["machine"] == platform.machine()
    assert set(now["versions"]) == {"numpy", "onnxruntime", "opencv-python-headless", "openvino"}
    assert now["versions"]["numpy"] == np.__version__
    assert now["cores"] >= 1


def test_a_digest_is_of_the_content() -> None:
    """Order of keys does not matter, values do; the digest is sha256 of canonical JSON."""
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    # printf '{"a":1}' | sha256sum
    assert digest_of({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Processor
stepping\t: 8
cache size\t: 4096 KB
flags\t\t: fpu avx2 avx512_vnni hypervisor

processor\t: 1
model\t\t: 1
"""


def test_processors_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clouds call different processors by one name; family, model and stepping of the first one differ all the same."""
    text = module._text
    monkeypatch.setattr(module, "_text", lambda path: CPUINFO if path == Path("/proc/cpuinfo") else text(path))
    now = environment()
    assert now["cpu"] == "Intel(R) Xeon(R) Processor"
    assert now["cpu_model"] == "cpu family 6 model 143 stepping 8"
    assert now["cache"] == "4096 KB"
    assert now["flags"] == ["avx2", "avx512_vnni"]


def test_what_the_system_does_not_tell_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without /proc and /sys still has an environment; unknown things are null, not made up."""
    monkeypatch.setattr(module, "_text", lambda path: None)
    now = environment()
    assert [now[name] for name in ("cpu_model", "cache", "governor", "greatest_clock_khz", "smt")] == [None] * 5
    assert now["flags"] == []
