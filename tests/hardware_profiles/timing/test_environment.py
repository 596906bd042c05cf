"""The environment: what decides latency besides the file, and a digest of it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
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


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for control groups instead of the machine's, and eight cores by affinity."""
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path / "cgroup"


def write(path: Path, text: str) -> None:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "3200000 100000\n"}, 8),
        ("0::/slurm/job\n", {"slurm/cpu.max": "200000 100000\n", "slurm/job/cpu.max": "max 100000\n"}, 2),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 8),
        (
            "4:memory:/m\n1:cpu,cpuacct:/docker/1\n",
            {"cpu,cpuacct/docker/1/cpu.cfs_quota_us": "500000\n", "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n"},
            5,
        ),
        ("1:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("2:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "100000\n", "cpuset/cpu.cfs_period_us": "100000\n"}, 8),
    ],
    ids=str,
)
def test_a_control_group_limits_the_cores(own: str, files: dict[str, str], cores: int, groups: Path) -> None:
    """Quota over period in whole cores, of version 2 and 1, of the own group and those above; one core is the least."""
    write(groups.parent / "own", own)
    for name, text in files.items():
        write(groups / name, text)
    assert module.cores_here() == cores
    assert environment()["cores"] == cores


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset of util-linux")
def test_a_process_bound_to_a_core_has_one() -> None:
    """As a cpuset, Slurm or a user's `taskset` binds it, whatever the machine has."""
    core = str(min(os.sched_getaffinity(0)))
    code = "from hardware_profiles.timing.environment import cores_here; print(cores_here())"
    done = subprocess.run(["taskset", "-c", core, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
