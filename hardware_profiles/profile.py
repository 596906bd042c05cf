"""What is known about a device that a detector must run on: one YAML file each, every number with its source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hardware_profiles.runtimes import RUNTIMES

DType = Literal["fp32", "fp16", "int8"]
DeviceClass = Literal["x86_cpu", "arm_cpu", "edge_gpu", "edge_npu", "datacenter_gpu", "mcu"]
Kind = Literal["host", "datasheet"]
Positive = Annotated[float, Field(gt=0)]
FOLDER = Path(__file__).parent
TEMPLATE = FOLDER / "raspberry-pi-5.yaml"


class ProfileError(ValueError):
    """A hardware profile is missing or wrong; the message says which file and field, what is allowed and what to do."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PerDtype(_Closed):
    """One number per type of the multiplied values; null where the device has no such arithmetic, or nobody knows."""

    fp32: Positive | None = None
    fp16: Positive | None = None
    int8: Positive | None = None

    def of(self, dtype: DType) -> float | None:
        """The number of one type, or None."""
        value: float | None = getattr(self, dtype)
        return value


class Blocks(_Closed):
    """Channels that are computed together, per type; 1: every single channel counts."""

    fp32: Annotated[int, Field(gt=0)] | None = None
    fp16: Annotated[int, Field(gt=0)] | None = None
    int8: Annotated[int, Field(gt=0)] | None = None

    def of(self, dtype: DType) -> int | None:
        """The block of one type, or None."""
        value: int | None = getattr(self, dtype)
        return value


class Memory(_Closed):
    """How fast data moves, in 1e9 bytes a second, and how much of it a detector may keep."""

    bandwidth_theoretical_gbs: Positive | None = None
    bandwidth_effective_gbs: Positive | None = None
    budget_bytes: Annotated[int, Field(gt=0)] | None = None
    """What the whole process may occupy; null: nobody set a limit."""


class HardwareProfile(_Closed):
    """A device, the runtime on it and how many threads it gets. A number that nobody knows is null, never a guess."""

    schema_version: Literal[1] = Field(alias="schema", serialization_alias="schema")
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Same as the file name without `.yaml`."""
    name: str
    device_class: DeviceClass
    kind: Kind
    """`host`: measured on the machine that runs the stage. `datasheet`: only estimated from the numbers below."""
    machine: str
    """Instruction set as `uname -m` says it; a host profile is measured on no other."""
    runtime: str
    """What runs the detector. Files are produced for onnxruntime and openvino only; another name is allowed on datasheets."""
    threads: Annotated[int, Field(gt=0)]
    dtypes: Annotated[tuple[DType, ...], Field(min_length=1)]
    """What the device can multiply in. An int8 file still runs where int8 is absent, at the speed of `float_dtype`."""
    float_dtype: Literal["fp32", "fp16"]
    """What a detector that is not quantized is computed in."""
    peak_gops: PerDtype
    """Dense peak over all threads in 1e9 operations a second; one multiply-add is two operations."""
    utilisation: PerDtype
    """Share of the peak that whole networks reach; one constant per type, fitted on measured networks. May exceed 1 where
    the runtime saves multiplications (Winograd)."""
    channel_alignment: Blocks
    """Channels are computed in blocks of so many: 17 channels cost as much as 32 where this is 16. Null: not modelled."""
    memory: Memory
    op_overhead_us: PerDtype
    """What each operator costs besides its work, in microseconds; quantized graphs cost more. Null: not modelled."""
    interval_factor: Annotated[float, Field(ge=1)]
    """k: an estimate t stands for the interval [t / k, t * k]."""
    requires_reduce_range: bool
    """True where u8 x s8 products saturate (x86 without VNNI): int8 weights must keep to 7 bits."""
    sources: dict[str, Annotated[str, Field(min_length=1)]]
    """Dotted field -> where its number comes from. Every number above has an entry."""

    @property
    def producible(self) -> bool:
        """True where the files that sixfold makes are what the device runs; else an estimate is all there can be."""
        return self.runtime in RUNTIMES

    @model_validator(mode="after")
    def _numbers_have_sources(self) -> HardwareProfile:
        numbers = set(_numbers(self.model_dump(exclude={"schema_version", "sources"})))
        if missing := sorted(numbers - set(self.sources)):
            raise ValueError(f"no source for {', '.join(missing)}; add each to `sources`, or make the number null")
        if idle := sorted(set(self.sources) - numbers):
            raise ValueError(f"sources name {', '.join(idle)}, no number of this profile; allowed: {', '.join(sorted(numbers))}")
        return self

    @model_validator(mode="after")
    def _makes_sense(self) -> HardwareProfile:
        if self.float_dtype not in self.dtypes:
            raise ValueError(f"float_dtype {self.float_dtype} is not among dtypes {', '.join(self.dtypes)}")
        for dtype in self.dtypes:
            for field in ("peak_gops", "utilisation"):
                if getattr(self, field).of(dtype) is None:
                    raise ValueError(f"{field}.{dtype} is null, but {dtype} is among dtypes; give the number or remove {dtype}")
        if self.peak_gops.int8 and self.peak_gops.fp32 and self.peak_gops.int8 < self.peak_gops.fp32:
            raise ValueError(f"peak_gops.int8 {self.peak_gops.int8:g} is below fp32's {self.peak_gops.fp32:g}; give dense peaks")
        if self.kind == "host" and not self.producible:
            raise ValueError(f"runtime {self.runtime!r} cannot be measured here; a host profile needs {' or '.join(RUNTIMES)}")
        return self


def load_profile(name: str, extra_folder: Path | None = None) -> HardwareProfile:
    """The named profile, from the files of this package or from extra_folder; ProfileError where it is missing or wrong."""
    files = _files(extra_folder)
    if name not in files:
        raise ProfileError(
            f"no hardware profile {name!r}; have {', '.join(sorted(files))}. "
            f"Add one by copying {TEMPLATE.name} from {FOLDER.name}/ (docs/profiles.md shows how)."
        )
    path = files[name]
    try:
        profile = HardwareProfile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ProfileError(f"{path}: {_explain(error)} (docs/profiles.md explains every field)") from error
    if profile.id != path.stem:
        raise ProfileError(f"{path}: id is {profile.id!r}, but the file is named {path.stem!r}; make them the same")
    return profile


def known_profiles(extra_folder: Path | None = None) -> tuple[str, ...]:
    """Names that load_profile accepts, sorted."""
    return tuple(sorted(_files(extra_folder)))


def _files(extra_folder: Path | None) -> dict[str, Path]:
    own = {path.stem: path for path in FOLDER.glob("*.yaml")}
    if extra_folder is None:
        return own
    if not extra_folder.is_dir():
        raise ProfileError(f"{extra_folder}: no such folder of hardware profiles")
    extra = {path.stem: path for path in extra_folder.glob("*.yaml")}
    if both := sorted(own.keys() & extra.keys()):
        raise ProfileError(f"{extra_folder}: {', '.join(both)} are names of built-in profiles; choose other file names and ids")
    return own | extra


def _explain(error: ValidationError) -> str:
    """All problems in one line: dotted field, what is allowed, what was found."""
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        message = re.sub(r"^Value error, ", "", problem["msg"])
        found = "" if problem["type"] in ("missing", "value_error") else f", found {problem['input']!r}"
        lines.append(f"{field + ': ' if field else ''}{message}{found}")
    return "; ".join(lines)


def _numbers(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all numbers in the tree; null and true/false are no numbers."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name
