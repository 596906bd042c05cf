"""The machine and the software that a measurement depends on, and what the system tells of this process and its cores meanwhile."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from hardware_profiles.runtimes.table import RUNTIMES

X86_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16")
ARM_FLAGS = ("asimddp", "asimdhp", "i8mm", "bf16", "sve")
"""CPU features that change which kernels the runtimes choose."""
LIBRARIES = ("numpy", "opencv-python-headless")
"""What else is in the time of a detector: letterboxing and selection."""
SYSTEM = Path("/sys/devices/system/cpu")
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def environment() -> dict[str, Any]:
    """What latency depends on besides the file, null where unknown; another environment means another measurement."""
    about_cpu = _first_cpu()
    packages = sorted({entry.package for entry in RUNTIMES.values()} | set(LIBRARIES))
    features = cpu_flags()
    return {
        "cpu": about_cpu.get("model name") or about_cpu.get("Model") or platform.processor() or None,
        "cpu_model": cpu_model(),
        "cache": about_cpu.get("cache size"),
        "machine": platform.machine(),
        "flags": [flag for flag in (*X86_FLAGS, *ARM_FLAGS) if flag in features],
        "cores": cores_here(),
        "kernel": f"{platform.system()} {platform.release()}",
        "governor": _text(SYSTEM / "cpu0/cpufreq/scaling_governor"),
        "greatest_clock_khz": _text(SYSTEM / "cpu0/cpufreq/cpuinfo_max_freq"),
        "smt": _text(SYSTEM / "smt/active"),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in packages},
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
    about_cpu = _first_cpu()
    keys = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU revision")
    return " ".join(f"{key} {about_cpu[key]}" for key in keys if key in about_cpu) or None


def cpu_flags() -> frozenset[str]:
    """Features of this processor in the words of /proc/cpuinfo; empty where there is none."""
    about_cpu = _first_cpu()
    return frozenset((about_cpu.get("flags") or about_cpu.get("Features") or "").split())


def runtime_in(environment: Mapping[str, Any], runtime: str) -> str:
    """Name and version of a runtime where this is the environment, for instance "onnxruntime 1.31.1"; the bare name if unknown."""
    version = environment.get("versions", {}).get(RUNTIMES[runtime].package)
    return f"{runtime} {version}" if version else runtime


def digest_of(content: Mapping[str, Any]) -> str:
    """sha256 over canonical JSON: the same content, whatever its order of keys, the same digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def steal_s(cores: tuple[int, ...] | None) -> float | None:
    """Seconds since boot that the hypervisor gave to others on these cores (all where None); None where the kernel does not say."""
    wanted = {"cpu"} if cores is None else {f"cpu{core}" for core in cores}
    rows = [line.split() for line in (_text(Path("/proc/stat")) or "").splitlines()]
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
    """Give freed memory back and start the peak again, so that a file does not answer for the one before it."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):  # no glibc, or a kernel that does not let us: the peak is then that of the process so far
        return


def _first_cpu() -> dict[str, str]:
    """The first block of /proc/cpuinfo; empty on systems without one."""
    first, _, _ = (_text(Path("/proc/cpuinfo")) or "").partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _status_bytes(field: str) -> int | None:
    lines = (line.split() for line in (_text(Path("/proc/self/status")) or "").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{field}:"), None)


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
