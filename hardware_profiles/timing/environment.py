"""The machine and the software that a measurement depends on; another environment means another measurement."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from hardware_profiles.runtimes.table import RUNTIMES

FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",  # x86
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",  # Arm
)
"""CPU features that change which kernels the runtimes choose."""


LIBRARIES = ("numpy", "opencv-python-headless")
"""What else is in the time of a detector: letterboxing and selection."""
SYSTEM = Path("/sys/devices/system/cpu")
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def environment() -> dict[str, Any]:
    """What latency depends on besides the file: CPU, caches, cores, kernel, clock settings and versions; null where unknown."""
    about_cpu = _first_cpu()
    features = set((about_cpu.get("flags") or about_cpu.get("Features") or "").split())
    return {
        "cpu": about_cpu.get("model name") or about_cpu.get("Model") or platform.processor() or None,
        "cpu_model": _cpu_model(about_cpu),
        "cache": about_cpu.get("cache size"),
        "machine": platform.machine(),
        "flags": [flag for flag in FLAGS if flag in features],
        "cores": cores_here(),
        "kernel": f"{platform.system()} {platform.release()}",
        "governor": _text(SYSTEM / "cpu0/cpufreq/scaling_governor"),
        "greatest_clock_khz": _text(SYSTEM / "cpu0/cpufreq/cpuinfo_max_freq"),
        "smt": _text(SYSTEM / "smt/active"),
        "python": platform.python_version(),
        "versions": {
            package: _version(package) for package in sorted({entry.package for entry in RUNTIMES.values()} | set(LIBRARIES))
        },
    }


def cores_here() -> int:
    """Cores that this process may use: those of its affinity (cpusets, `taskset`), and no more than its control groups allow.

    A quota of part of a core counts as none, for whoever plans with it would be slowed down; one is the least.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(share) for share in _cgroup_shares())]))


def _cgroup_shares() -> Iterator[float]:
    """Cores' worth of time that the control groups of this process have, of version 1 and 2, where that is limited."""
    for line in (_text(OWN_CGROUPS) or "").splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (CGROUPS / controllers, CGROUPS / "cpu") if controllers else (CGROUPS,):
            own = mount / path.strip("/")
            # The groups above count as well. In a container the mount may be its own group, so that its path leads nowhere.
            for folder in (own, *own.parents):
                numbers = (_text(folder / "cpu.max") or "").split()
                numbers = numbers or [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
                if all(number.isdigit() for number in numbers) and int(numbers[1]):
                    yield int(numbers[0]) / int(numbers[1])
                if folder == mount:
                    break


def cpu_model() -> str | None:
    """Family, model and stepping of this processor, or their Arm counterparts: clouds hide different ones behind one name."""
    return _cpu_model(_first_cpu())


def runtime_in(environment: Mapping[str, Any], runtime: str) -> str:
    """Name and version of a runtime where this is the environment, for instance "onnxruntime 1.31.1"; the bare name if unknown."""
    version = environment.get("versions", {}).get(RUNTIMES[runtime].package)
    return f"{runtime} {version}" if version else runtime


def digest_of(content: Mapping[str, Any]) -> str:
    """sha256 over canonical JSON: the same content, whatever its order of keys, the same digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _cpu_model(about_cpu: dict[str, str]) -> str | None:
    keys = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU revision")
    return " ".join(f"{key} {about_cpu[key]}" for key in keys if key in about_cpu) or None


def _first_cpu() -> dict[str, str]:
    """The first block of /proc/cpuinfo; empty on systems without one."""
    first, _, _ = (_text(Path("/proc/cpuinfo")) or "").partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
