"""The machine and the software that a measurement depends on; another environment means another measurement."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from hardware_profiles.runtimes import RUNTIMES

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


def environment() -> dict[str, Any]:
    """What latency depends on besides the file: CPU, its features, cores, kernel, governor and versions; null where unknown."""
    about_cpu = _first_cpu()
    features = set((about_cpu.get("flags") or about_cpu.get("Features") or "").split())
    return {
        "cpu": about_cpu.get("model name") or about_cpu.get("Model") or platform.processor() or None,
        "machine": platform.machine(),
        "flags": [flag for flag in FLAGS if flag in features],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in sorted({entry.package for entry in RUNTIMES.values()} | {"numpy"})},
    }


def digest_of(content: Mapping[str, Any]) -> str:
    """sha256 over canonical JSON: the same content, whatever its order of keys, the same digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
