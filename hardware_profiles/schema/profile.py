"""What is known about a device that a detector must run on: one YAML file each, every number with its source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hardware_profiles.runtimes.table import FOREIGN_RUNTIMES, RUNTIMES

DType = Literal["fp32", "fp16", "int8"]
DeviceClass = Literal["x86_cpu", "arm_cpu", "edge_gpu", "edge_npu", "datacenter_gpu", "mcu"]
Kind = Literal["host", "device"]
Granularity = Literal["per_channel", "per_tensor"]
Positive = Annotated[float, Field(gt=0)]
Value = TypeVar("Value")
MIN_MEASURED = 5
"""Fewer measured networks do not make a calibration: five are nearly as good as fifty on YOLOBench, fewer are not."""
WORST_MAPE = 0.30
"""A fit with a greater leave-one-out error says no more than a datasheet does, and is called estimated."""
SCHEMA = 2
"""Version of the list of fields below."""
CPU_CLASSES = ("x86_cpu", "arm_cpu")
SHARED_MEMORY_CLASSES = (*CPU_CLASSES, "mcu")
"""Processors that run the application themselves: there is nothing that a link could lie between."""
GREATEST_UTILISATION = 5.0625
"""Multiplications that Winograd's F(6x6, 3x3) saves: 324 become 64. More than that times the peak is a percentage by mistake."""
OWN_SOURCE = "calibration."
"""Numbers whose source is in `origin`."""


class ProfileError(ValueError):
    """A hardware profile is missing or wrong; the message says which file and field, what is allowed and what to do."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class PerType(_Closed, Generic[Value]):
    """One entry per type of the multiplied values; null where the device has no such arithmetic, or nobody knows."""

    fp32: Value | None = None
    fp16: Value | None = None
    int8: Value | None = None

    def of(self, dtype: DType) -> Value | None:
        """The entry of one type, or None."""
        value: Value | None = getattr(self, dtype)
        return value


class PerClass(_Closed):
    """One number per class of convolution; null where too few networks were measured to tell the classes apart."""

    conv3x3s1: Positive | None = None
    conv1x1: Positive | None = None
    conv_other: Positive | None = None
    depthwise: Positive | None = None
    depthwise_partial: Positive | None = None
    """Depthwise with channels that do not fill their blocks, where another kernel computes them; null: as `depthwise`."""
    picture: Positive | None = None
    """The first convolution: few input channels, and whatever the runtime does to bring the picture into its own layout."""

    def of(self, kind: str) -> float | None:
        """The number of one class, or None; operators that only move data have no class here."""
        value: float | None = getattr(self, kind, None)
        return value


class Memory(_Closed):
    """How fast data moves, in 1e9 bytes a second, and how much of it a detector may keep."""

    bandwidth_theoretical_gbs: Positive | None = None
    """Width of the bus times its transfers."""
    bandwidth_effective_gbs: Positive | None = None
    """What copying reaches, read and written bytes together; takes precedence."""
    budget_bytes: Annotated[int, Field(gt=0)] | None = None
    """What the whole process may occupy; null: nobody set a limit."""
    on_chip_bytes: Annotated[int, Field(gt=0)] | None = None
    """Parameters that stay on the chip; those beyond it cross the link in every inference. Null: no such border."""


class Link(_Closed):
    """What lies between an accelerator and its host: USB or PCIe."""

    bandwidth_gbs: Positive
    """In 1e9 bytes a second, one way."""
    latency_us: Annotated[float, Field(ge=0)] | None = None
    """Of one crossing; null: unknown."""


class Calibration(_Closed):
    """What the numbers of one type were fitted on, and how well they predict a network left out of the fit."""

    networks: Annotated[int, Field(gt=0)]
    """Measured networks in the fit; older profiles call them `anchors`."""
    leave_one_out_mape: Annotated[float, Field(ge=0)]
    """Mean absolute percentage error over networks (or families) left out in turn, as a share: 0.12 is 12 %."""
    validated_on: str
    """Which kind of networks the error is about, for instance "architectures only": none of them compressed."""
    origin: Annotated[str, Field(min_length=1)]
    """Where the measured times come from, with version and date."""
    cpu: str | None = None
    """The processor that was timed, as `timing.environment.cpu_model` calls it; null where nobody wrote it down."""

    @model_validator(mode="before")
    @classmethod
    def _with_present_names(cls, given: Any) -> Any:
        older = isinstance(given, dict) and "anchors" in given
        return {"networks" if name == "anchors" else name: value for name, value in given.items()} if older else given

    @property
    def holds(self) -> bool:
        """True where estimates may be called calibrated: enough measured networks, and an error that leaves something to say."""
        return self.networks >= MIN_MEASURED and self.leave_one_out_mape <= WORST_MAPE


PerDtype = PerType[Positive]
Blocks = PerType[Annotated[int, Field(gt=0)]]
"""Channels that are computed together; 1: every single channel counts."""
ClassUtilisation = PerType[PerClass]
"""Utilisation by class of convolution; null: the one number of `utilisation` serves all classes."""
Calibrations = PerType[Calibration]
"""Null where the numbers of a type were not fitted, or on too little."""


def _known(runtime: str) -> str:
    if runtime not in (known := (*RUNTIMES, *FOREIGN_RUNTIMES)):
        raise ValueError(f"unknown runtime {runtime!r}; allowed: {', '.join(known)}")
    return runtime


class HardwareProfile(_Closed):
    """A device, the runtime on it and how many threads it gets. A number that nobody knows is null, never a guess."""

    schema_version: Literal[2] = Field(alias="schema", serialization_alias="schema")
    """Of this list of fields."""
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Same as the file name without `.yaml`: lower-case letters, digits and dashes."""
    name: Annotated[str, Field(min_length=1)]
    """Device, runtime and threads in words, for tables and figures."""
    device_class: DeviceClass
    """What kind of processor multiplies."""
    kind: Kind
    """`host`: measured on the machine that runs the stage. `device`: another machine, measured over Ray or by hand with
    `sixfold measure --export`; estimated from the numbers below where neither was done."""
    machine: Annotated[str, Field(min_length=1)]
    """Instruction set as `uname -m` says it; a host profile is measured on no other."""
    runtime: Annotated[str, AfterValidator(_known)]
    """What runs the detector: onnxruntime or openvino, whose files sixfold makes; ncnn, tflite, tensorrt, rknn or edgetpu, whose
    files it does not make, for estimates alone."""
    runtime_version: str | None = None
    """The version the numbers below were found with; null: not stated."""
    threads: Annotated[int, Field(gt=0)]
    """Threads that the runtime may use; the peaks are over all of them. Accelerators: 1, the thread that feeds it."""
    dtypes: Annotated[tuple[DType, ...], Field(min_length=1)]
    """What the device can multiply in. An int8 file still runs where int8 is absent, at the speed of `float_dtype`."""
    float_dtype: Literal["fp32", "fp16"] | None
    """What a detector that is not quantized is computed in; null: the device takes int8 alone."""
    peak_gops: PerDtype
    """Dense peak over all threads in 1e9 operations a second; one multiply-add is two operations."""
    utilisation: PerDtype
    """Share of the peak that whole networks reach; one constant per type, fitted on measured networks. May exceed 1 where
    the runtime saves multiplications (Winograd)."""
    class_utilisation: ClassUtilisation = ClassUtilisation()
    """The same by class of convolution, where at least 16 measured networks allow it; takes precedence."""
    winograd: tuple[DType, ...] = ()
    """Types in which the runtime computes 3x3 convolutions of stride 1 by Winograd's method."""
    channel_alignment: Blocks
    """Channels are computed in blocks of this size: 17 channels cost as much as 32 where this is 16. Null: not modelled."""
    weight_granularity: Annotated[tuple[Granularity, ...], Field(min_length=1)] = ("per_channel", "per_tensor")
    """Scales of int8 weights that run at full speed."""
    sparsity: Literal["none", "2:4"] = "none"
    """Zeros that the device can skip. With `none`, weights set to zero cost as much as others."""
    memory: Memory
    """How fast data moves, and how much of it a detector may keep."""
    link: Link | None = None
    """Between accelerator and host; null: they share memory."""
    op_overhead_us: PerDtype
    """What each operator costs besides its work, in microseconds; quantized graphs cost more. Null: not modelled."""
    base_us: PerDtype = PerDtype()
    """What an inference costs before its first operator, in microseconds. Null: not modelled."""
    zero_point_us: Positive | None = None
    """What an int8 convolution costs besides where its input has a zero point, in microseconds: the runtime takes the zero point's
    share out of every sum. Null: nothing, or unknown."""
    place_ns: PerDtype = PerDtype()
    """What a convolution over patches costs per output position (height x width) besides its multiply-adds, in nanoseconds:
    gathering the patch into a row, rounding and storing the results. 1x1 and depthwise convolutions gather nothing. Null: not
    modelled."""
    partial_place_ns: PerDtype = PerDtype()
    """What such a position costs more where the output channels do not fill one block. Null: nothing, or unknown."""
    picture_place_ns: PerDtype = PerDtype()
    """The same as `place_ns` for the first convolution, where `class_utilisation` has a number for `picture`. Null: nothing."""
    softmax_ns: PerDtype = PerDtype()
    """What a softmax costs per element, in nanoseconds: its rows are short in detectors. Null: as any operator that moves data."""
    resize_ns: PerDtype = PerDtype()
    """What a Resize costs per output element, in nanoseconds. Null: as any operator that moves data."""
    unsupported_ops: tuple[str, ...] = ()
    """ONNX operators that the device cannot run, for instance Resize."""
    host_cpu: str | None = None
    """The profile that runs them instead; null: a detector that has one does not run at all."""
    interval_factor: PerDtype
    """k: an estimate t in this type stands for the interval [t / k, t * k]; at least 1."""
    calibration: Calibrations = Calibrations()
    """What the numbers were fitted on; `sixfold profiles calibrate` writes it."""
    sources: dict[str, Annotated[str, Field(min_length=1)]]
    """Dotted field -> where its number comes from. Every number above has an entry."""

    @property
    def producible(self) -> bool:
        """True where the files that sixfold makes are what the device runs; else an estimate is all there can be."""
        return self.runtime in RUNTIMES

    @property
    def file_format(self) -> str:
        """What the runtime opens, in words."""
        return "/".join(RUNTIMES[self.runtime].suffixes) if self.producible else FOREIGN_RUNTIMES[self.runtime]

    @model_validator(mode="after")
    def _holds_together(self) -> HardwareProfile:
        checks = (_sources, _types, _numbers_of_types, _memory_and_link, _other_processors)
        if found := "; ".join(problem for check in checks for problem in check(self)):
            raise ValueError(found)
        return self


def _sources(profile: HardwareProfile) -> Iterator[str]:
    """Contradictions, as those below: each as `dotted.field: what is wrong; what to do`."""
    numbers = numbers_of(profile.model_dump(exclude={"schema_version", "sources"}))
    for name in sorted(numbers.keys() - profile.sources.keys()):
        if not name.startswith(OWN_SOURCE):
            yield f"sources: no source for {name}; add one, or make the number null"
    for name in sorted(profile.sources.keys() - numbers.keys()):
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
    for name, value in numbers_of(profile.model_dump(include={"utilisation", "class_utilisation"})).items():
        if value > GREATEST_UTILISATION:
            yield f"{name}: {value:g} times the peak; allowed up to {GREATEST_UTILISATION:g}: give a share, 0.6 for 60 %"


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


def _other_processors(profile: HardwareProfile) -> Iterator[str]:
    if profile.float_dtype is None and profile.host_cpu is None:
        yield (
            "host_cpu: null, but the device takes int8 alone, and every detector has some float operators; "
            "name the profile of the processor beside it"
        )
    if profile.host_cpu == profile.id:
        yield f"host_cpu: circular: {profile.id} names itself; name the profile of the processor beside it, or null"
    if profile.kind == "host" and profile.runtime not in RUNTIMES:
        yield f"runtime: {profile.runtime} cannot be measured here; a host profile needs {' or '.join(RUNTIMES)}"
    if profile.kind == "host" and profile.device_class not in CPU_CLASSES:
        yield f"device_class: {profile.device_class}, but host profiles are measured on the processor: {' or '.join(CPU_CLASSES)}"


def numbers_of(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """All numbers in a tree of mappings by their dotted names; null, true and false are no numbers."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= numbers_of(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = value
    return found
