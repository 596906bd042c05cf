"""What is wrong with a profile as a whole: each field may be fine alone, and yet two of them contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hardware_profiles.runtimes.table import RUNTIMES

if TYPE_CHECKING:
    from hardware_profiles.schema.profile import HardwareProfile

CPU_CLASSES = ("x86_cpu", "arm_cpu")
SHARED_MEMORY_CLASSES = (*CPU_CLASSES, "mcu")
"""Processors that run the application themselves: there is nothing that a link could lie between."""
GREATEST_UTILISATION = 5.0625
"""Multiplications that Winograd's F(6x6, 3x3) saves: 324 become 64. More than that times the peak is a percentage by mistake."""
OWN_SOURCE = "calibration."
"""Numbers that say where they come from beside them, in `origin`."""


def contradictions(profile: HardwareProfile) -> Iterator[str]:
    """Each contradiction as `dotted.field: what is wrong; what to do`."""
    yield from _sources(profile)
    yield from _types(profile)
    yield from _numbers_of_types(profile)
    yield from _memory_and_link(profile)
    yield from _fallback(profile)
    yield from _host(profile)


def _sources(profile: HardwareProfile) -> Iterator[str]:
    numbers = set(numbers_of(profile.model_dump(exclude={"schema_version", "sources"})))
    for name in sorted(numbers - set(profile.sources)):
        if not name.startswith(OWN_SOURCE):
            yield f"sources: no source for {name}; add one, or make the number null"
    for name in sorted(set(profile.sources) - numbers):
        yield f"sources.{name}: no number of this profile; correct the name or remove the source"


def _types(profile: HardwareProfile) -> Iterator[str]:
    have = ", ".join(profile.dtypes)
    if len(set(profile.dtypes)) < len(profile.dtypes):
        yield f"dtypes: {have} names a type twice; name each once"
    if profile.float_dtype is None and "int8" not in profile.dtypes:
        yield f"float_dtype: null is for devices that take int8 alone, but dtypes are {have}; name the float type"
    elif profile.float_dtype is None and profile.dtypes != ("int8",):
        yield f"float_dtype: null, but dtypes are {have}; name the float type, or keep int8 alone"
    if profile.float_dtype is not None and profile.float_dtype not in profile.dtypes:
        yield f"float_dtype: {profile.float_dtype} is not among dtypes {have}; allowed: one of them, or null for int8 alone"
    for dtype in profile.winograd:
        if dtype not in profile.dtypes:
            yield f"winograd: {dtype} is not among dtypes {have}; remove it or add the type"
    for field in ("class_utilisation", "calibration"):
        for dtype, value in getattr(profile, field):
            if value is not None and dtype not in profile.dtypes:
                yield f"{field}.{dtype}: {dtype} is not among dtypes {have}; make it null or add the type"


def _numbers_of_types(profile: HardwareProfile) -> Iterator[str]:
    for dtype in profile.dtypes:
        for field in ("peak_gops", "utilisation", "interval_factor"):
            if getattr(profile, field).of(dtype) is None:
                yield f"{field}.{dtype}: null, but {dtype} is among dtypes; give the number or remove the type"
        factor = profile.interval_factor.of(dtype)
        if factor is not None and factor < 1:
            yield f"interval_factor.{dtype}: {factor:g} is below 1; an interval holds its own estimate: give 1 or more"
    peaks = profile.peak_gops
    for name, peak in (("fp32", peaks.fp32), ("fp16", peaks.fp16)):
        if peaks.int8 and peak and peaks.int8 < peak:
            yield f"peak_gops.int8: {peaks.int8:g} is below {name}'s {peak:g}; give dense peaks, null where the device has no int8"
    for name, value in _utilisations(profile):
        if value > GREATEST_UTILISATION:
            yield f"{name}: {value:g} times the peak; allowed up to {GREATEST_UTILISATION:g}: give a share, 0.6 for 60 %"


def _utilisations(profile: HardwareProfile) -> Iterator[tuple[str, float]]:
    tree = profile.model_dump(include={"utilisation", "class_utilisation"})
    for name in numbers_of(tree):
        value: Any = tree
        for part in name.split("."):
            value = value[part]
        yield name, value


def _memory_and_link(profile: HardwareProfile) -> Iterator[str]:
    memory = profile.memory
    theoretical, effective = memory.bandwidth_theoretical_gbs, memory.bandwidth_effective_gbs
    if theoretical and effective and effective > theoretical:
        yield f"memory.bandwidth_effective_gbs: {effective:g} is above the theoretical {theoretical:g}; one of them is wrong"
    if memory.on_chip_bytes and not (profile.link or effective or theoretical):
        yield "memory.on_chip_bytes: no bandwidth says what lies beyond it costs; give link, or a bandwidth of the memory"
    if profile.link is not None and profile.device_class in SHARED_MEMORY_CLASSES:
        yield (
            f"link: a device of class {profile.device_class} shares its memory with the application; make link null, "
            "or correct device_class: links are for edge_gpu, edge_npu and datacenter_gpu"
        )


def _fallback(profile: HardwareProfile) -> Iterator[str]:
    if profile.float_dtype is None and profile.fallback is None:
        yield (
            "fallback: null, but the device takes int8 alone, and every detector has some float operators; "
            "name the profile of the processor beside it"
        )
    if profile.fallback == profile.id:
        yield f"fallback: circular: {profile.id} names itself; name the profile of the processor beside it, or null"


def _host(profile: HardwareProfile) -> Iterator[str]:
    if profile.kind != "host":
        return
    if profile.runtime not in RUNTIMES:
        yield f"runtime: {profile.runtime} cannot be measured here; a host profile needs {' or '.join(RUNTIMES)}"
    if profile.device_class not in CPU_CLASSES:
        yield f"device_class: {profile.device_class}, but host profiles are measured on the processor: {' or '.join(CPU_CLASSES)}"


def numbers_of(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all numbers in a tree of mappings; null, true and false are no numbers."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from numbers_of(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name
