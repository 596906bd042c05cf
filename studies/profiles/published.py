"""Published latencies, one series per source, device, runtime, precision and number of threads; sources never share a series."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hardware_profiles.estimate.model import Operator
from hardware_profiles.schema.profile import DType
from studies.profiles.efficientdet_graphs import SIZES, efficientdet_graph
from studies.profiles.yolo_graphs import Head, YoloName, parse_name, yolo_graph

MIN_NETWORKS = 4
"""Two coefficients are fitted even where only whole-network figures are known; fewer networks leave nothing to test them on."""
YOLOBENCH = "github.com/Deeplite/deeplite-torch-zoo@e4c8ea6 results/yolobench (arXiv 2307.13901)"


@dataclass(frozen=True)
class Measured:
    """One network with its published latency."""

    name: str
    network: str
    """What is left out at a time: all resolutions of one network together."""
    family: str
    operators: tuple[Operator, ...]
    parameters: float
    latency_s: float


@dataclass(frozen=True)
class Series:
    """Latencies that one source published for one device, runtime, precision and number of threads."""

    device: str
    runtime: str
    precision: str
    """As the source says it."""
    dtype: DType
    """What the estimator computes in; int16 moves and is fitted as fp16."""
    threads: str
    several_threads: bool | None
    """Which of the two reference errors applies; None for accelerators."""
    source: str
    per_operator: bool
    """Whether the operators are known, or whole-network figures alone."""
    measured: tuple[Measured, ...]
    profile: str | None = None
    """The hardware profile whose numbers come from here."""
    bandwidth_of: str | None = None
    """Precision of the same profile whose fitted bandwidth is kept: a profile has one bandwidth for all types."""

    @property
    def families(self) -> tuple[str, ...]:
        """In order of appearance."""
        return tuple(dict.fromkeys(own.family for own in self.measured))


@dataclass(frozen=True)
class Target:
    """One column of YOLOBench. What the numbers were measured with is stated on the authors' page
    huggingface.co/spaces/deepliteai/yolobench, except for threads."""

    column: str
    device: str
    runtime: str
    precision: str
    dtype: DType
    threads: str
    several_threads: bool | None
    fused_silu: bool
    """Whether the runtime computes SiLU inside the convolution before it. Where nobody says so, what fits better."""
    profile: str | None = None
    bandwidth_of: str | None = None


DEFAULT_THREADS, SEVERAL_THREADS = "4 (inferred)", "several (inferred)"
"""Not stated, but the fitted rates lie above the peak of one core; one thread per core is ONNX Runtime's default."""
TARGETS = (
    Target("pi4_ort_latency", "Raspberry Pi 4", "onnxruntime", "fp32", "fp32", DEFAULT_THREADS, True, False, "raspberry-pi-4"),
    Target("pi5_ort_latency", "Raspberry Pi 5", "onnxruntime", "fp32", "fp32", DEFAULT_THREADS, True, False, "raspberry-pi-5"),
    Target("raspi4_tflite_latency", "Raspberry Pi 4", "tflite", "fp32", "fp32", SEVERAL_THREADS, True, False),
    Target("openvino_latency", "Intel Core i7-10875H", "openvino", "fp32", "fp32", SEVERAL_THREADS, True, True),
    Target("nano_gpu_latency", "Jetson Nano GPU", "onnxruntime", "fp32", "fp32", "-", None, True),
    Target("orange_pi_latency", "RK3588S NPU (Orange Pi 5)", "rknn", "fp16", "fp16", "not stated", None, False),
    Target(
        "orange_pi_latency",
        "RK3588S NPU (Orange Pi 5), at the bandwidth of int8",
        "rknn",
        "fp16",
        "fp16",
        "not stated",
        None,
        False,
        "rk3588-npu",
        "int8",
    ),
    Target("vim3_latency", "Khadas VIM3 NPU", "vendor", "int16", "fp16", "-", None, False),
    Target("a40_trt_latency", "NVIDIA A40", "tensorrt", "not stated", "fp32", "-", None, True),
)
RKNN_ZOO = {
    "yolov5n": YoloName(5, "", 0.33, 0.25, 640),
    "yolov5s": YoloName(5, "", 0.33, 0.5, 640),
    "yolov5m": YoloName(5, "", 0.67, 0.75, 640),
    "yolov6n": YoloName(6, "s", 0.33, 0.25, 640),
    "yolov6s": YoloName(6, "s", 0.33, 0.5, 640),
    "yolov6m": YoloName(6, "m", 0.6, 0.75, 640),
    "yolov7": YoloName(7, "", 1.0, 1.0, 640),
    "yolov8n": YoloName(8, "", 0.33, 0.25, 640),
    "yolov8s": YoloName(8, "", 0.33, 0.5, 640),
    "yolov8m": YoloName(8, "", 0.67, 0.75, 640),
}
"""Networks of the RKNN model zoo whose operators we can generate; the zoo replaces SiLU by ReLU only where a name says so."""


TFLITE = "tflite-2.18/xnnpack"
TFLITE_DEVICES = {"raspberry_pi_4": "Raspberry Pi 4", "raspberry_pi_5": "Raspberry Pi 5", "intel_n100": "Intel N100"}


@dataclass(frozen=True)
class WholeNetworks:
    """Rows of the table of anchors that make one series: only operations, parameters and input size are known of them."""

    devices: tuple[str, ...]
    compute_unit: str
    runtime: str
    precision: str
    threads: str
    device: str
    dtype: DType
    several_threads: bool | None
    profile: str | None = None


def _cpu(device: str, name: str, threads: str, precision: str, dtype: DType, runtime: str) -> WholeNetworks:
    return WholeNetworks((device,), "cpu", runtime, precision, threads, name, dtype, threads != "1")


NCNN_FLOAT = "fp32_or_fp16storage"
WHOLE_NETWORKS = (
    WholeNetworks(("nvidia_t4",), "gpu", "tensorrt-10", "fp16", "", "NVIDIA T4", "fp16", None, "nvidia-t4"),
    *(
        WholeNetworks(("jetson_orin_nano_super",), "gpu", "tensorrt", p, "", "Jetson Orin Nano Super", p, None, "jetson-orin-nano")
        for p in ("fp32", "fp16", "int8")
    ),
    WholeNetworks(("coral_usb_desktop",), "tpu", "edgetpu", "int8", "", "Coral USB, desktop host", "int8", None),
    WholeNetworks(("coral_usb_pi4",), "tpu", "edgetpu std clock", "int8", "", "Coral USB, Raspberry Pi 4", "int8", None),
    WholeNetworks(("coral_usb_pi5",), "tpu", "edgetpu std clock", "int8", "", "Coral USB, Raspberry Pi 5", "int8", None),
    *(
        _cpu(device, name, threads, NCNN_FLOAT, "fp32", "ncnn")
        for device, name, several in (
            ("raspberry_pi_4", "Raspberry Pi 4", "4"),
            ("raspberry_pi_5", "Raspberry Pi 5", "4"),
            ("jetson_nano", "Jetson Nano CPU", "4"),
            ("jetson_orin_nano", "Jetson Orin Nano CPU", "6"),
            ("intel_n5105", "Intel Celeron N5105", "4"),
        )
        for threads in ("1", several)
    ),
    _cpu("rk3588s_station_m3", "RK3588S CPU (Station M3)", "1", NCNN_FLOAT, "fp32", "ncnn"),
)


def yolobench(path: Path) -> Iterator[Series]:
    """One series per target of YOLOBench, each of 572 detectors with all their operators."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [parse_name(row["model_name"]) for row in rows]
    for target in TARGETS:
        measured = tuple(
            _yolo(row["model_name"], name, target.fused_silu, "yolobench", float(row[target.column]))
            for row, name in zip(rows, names, strict=True)
        )
        yield Series(
            device=target.device,
            runtime=target.runtime,
            precision=target.precision,
            dtype=target.dtype,
            threads=target.threads,
            several_threads=target.several_threads,
            source=YOLOBENCH,
            per_operator=True,
            measured=measured,
            profile=target.profile,
            bandwidth_of=target.bandwidth_of,
        )


def anchors(path: Path) -> Iterator[Series]:
    """The series of the table of anchors: RKNN zoo and EfficientDet-Lite by operators, the others by whole-network figures."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    yield _rknn_zoo(rows)
    yield from _efficientdets(rows)
    for wanted in WHOLE_NETWORKS:
        found = [row for row in rows if _belongs(row, wanted) and row["gflops"] and row["params_m"]]
        if len(found) >= MIN_NETWORKS:
            yield Series(
                device=wanted.device,
                runtime=wanted.runtime,
                precision="fp32" if wanted.precision == NCNN_FLOAT else wanted.precision,
                dtype=wanted.dtype,
                threads=wanted.threads or "-",
                several_threads=wanted.several_threads,
                source=_one_source(found),
                per_operator=False,
                measured=tuple(_whole(row) for row in found),
                profile=wanted.profile,
            )


def _belongs(row: dict[str, str], wanted: WholeNetworks) -> bool:
    same = (row["compute_unit"], row["runtime"], row["precision"], row["threads"]) == (
        wanted.compute_unit,
        wanted.runtime,
        wanted.precision,
        wanted.threads,
    )
    return same and row["device"] in wanted.devices


def _one_source(rows: list[dict[str, str]]) -> str:
    sources = {row["source"] for row in rows}
    assert len(sources) == 1, f"sources never share a fit; these rows have {sorted(sources)}"
    return sources.pop()


def _rknn_zoo(rows: list[dict[str, str]]) -> Series:
    """The NPU's int8 times; the zoo cuts the decoding off, and YOLOv5 and YOLOv8 keep their published heads."""
    found = [row for row in rows if row["device"] == "rk3588_npu_1core" and row["model"] in RKNN_ZOO]
    measured = tuple(_yolo(row["model"], RKNN_ZOO[row["model"]], False, "published", float(row["latency_ms"])) for row in found)
    return Series(
        device="RK3588 NPU, 1 core",
        runtime="rknn",
        precision="int8",
        dtype="int8",
        threads="-",
        several_threads=None,
        source=_one_source(found),
        per_operator=True,
        measured=measured,
        profile="rk3588-npu",
    )


def _efficientdets(rows: list[dict[str, str]]) -> Iterator[Series]:
    """EfficientDet-Lite 0 to 4 on three boards, in float32 and int8, with one to four threads."""
    wanted = [row for row in rows if row["runtime"] == TFLITE and row["model"] in SIZES and row["device"] in TFLITE_DEVICES]
    for device, precision, threads in dict.fromkeys((row["device"], row["precision"], row["threads"]) for row in wanted):
        found = [row for row in wanted if (row["device"], row["precision"], row["threads"]) == (device, precision, threads)]
        if len(found) >= MIN_NETWORKS:
            yield Series(
                device=TFLITE_DEVICES[device],
                runtime=TFLITE,
                precision=precision,
                dtype="int8" if precision == "int8" else "fp32",
                threads=threads,
                several_threads=threads != "1",
                source=_one_source(found),
                per_operator=True,
                measured=tuple(_efficientdet(row["model"], float(row["latency_ms"])) for row in found),
            )


def _efficientdet(name: str, latency_ms: float) -> Measured:
    graph = efficientdet_graph(name)
    return Measured(name, name, "EfficientDet-Lite", graph.operators, graph.parameters, latency_ms / 1e3)


def _yolo(label: str, name: YoloName, fused_silu: bool, head: Head, latency_ms: float) -> Measured:
    graph = yolo_graph(name, fused_silu, head)
    return Measured(label, name.architecture, f"YOLOv{name.family}", graph.operators, graph.parameters, latency_ms / 1e3)


def _whole(row: dict[str, str]) -> Measured:
    """A network of which only operations, parameters and input are known: one operator that does all of it."""
    side = int(row["input"])
    operator = Operator(
        kind="conv_other",
        macs=round(float(row["gflops"]) * 1e9 / 2),
        input_elements=3 * side * side,
        output_elements=0,
        weight_elements=round(float(row["params_m"]) * 1e6),
        input_channels=3,
        output_channels=1,
    )
    family = row["model"].rstrip("nsmlx0123456789")
    name, parameters = f"{row['model']} {side}", float(row["params_m"]) * 1e6
    return Measured(name, name, family, (operator,), parameters, float(row["latency_ms"]) / 1e3)
