"""The runtimes that there are, each in a folder of its own, and what callers do with one by its name."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from hardware_profiles.runtimes.interface import INPUT, MODEL, OUTPUTS, Array, Pixels, Runtime, Session, SessionError
from hardware_profiles.runtimes.onnxruntime.runtime import ONNXRUNTIME
from hardware_profiles.runtimes.openvino.runtime import OPENVINO

__all__ = [
    "FOREIGN_RUNTIMES", "INPUT", "OUTPUTS", "RUNTIMES", "Array", "Pixels", "Runtime", "Session", "SessionError", "file_parts",
    "model_file", "open_session", "runtime_version", "write_empty_model",
]  # fmt: skip

RUNTIMES: dict[str, Runtime] = {entry.name: entry for entry in (ONNXRUNTIME, OPENVINO)}
FOREIGN_RUNTIMES = {
    "ncnn": "ncnn .param and .bin",
    "tflite": "TensorFlow Lite .tflite",
    "tensorrt": "TensorRT engine, built on the device",
    "rknn": "RKNN .rknn",
    "edgetpu": "Edge TPU compiled .tflite",
}
"""Runtimes whose files sixfold does not make, and what those files are: profiles may name them, for estimates alone."""


def open_session(runtime: str, model: Path, threads: int) -> Session:
    """The file opened in the runtime with this many threads, ready to call; SessionError where that is not possible."""
    entry = _entry(runtime)
    if not model.is_file():
        raise SessionError(f"{model}: no such file")
    if model.suffix not in entry.suffixes:
        raise SessionError(f"{model}: {runtime} opens {' or '.join(entry.suffixes)}, not {model.suffix or 'a file without suffix'}")
    if threads < 1:
        raise SessionError(f"threads is {threads}; at least 1 is needed")
    runtime_version(runtime)
    return entry.open(model, threads)


def runtime_version(runtime: str) -> str:
    """Name and version, for instance "onnxruntime 1.31.1"."""
    package = _entry(runtime).package
    try:
        return f"{runtime} {metadata.version(package)}"
    except metadata.PackageNotFoundError as error:
        raise SessionError(f"{runtime} is not installed here. Install it with `pip install {package}`.") from error


def write_empty_model(runtime: str, folder: Path) -> Path:
    """A detector that does nothing, written into the folder in the runtime's own format; the file to open."""
    for suffix, content in _entry(runtime).empty_model.items():
        (folder / f"empty{suffix}").write_bytes(content)
    return folder / f"empty{_entry(runtime).suffixes[0]}"


def model_file(folder: Path) -> Path | None:
    """The file that a runtime opens among those that the exporter or a writer put into a folder; None where there is none."""
    own_formats = dict.fromkeys(entry.suffixes[0] for entry in RUNTIMES.values())
    return next((path for suffix in own_formats if (path := folder / f"{MODEL}{suffix}").is_file()), None)


def file_parts(model: Path) -> tuple[Path, ...]:
    """The file itself, and the files that belong to it, such as the .bin of an OpenVINO .xml."""
    parts = next((entry.parts for entry in RUNTIMES.values() if entry.suffixes[0] == model.suffix), ())
    return (model, *(model.with_suffix(suffix) for suffix in parts))


def _entry(runtime: str) -> Runtime:
    if runtime not in RUNTIMES:
        raise SessionError(f"no runtime {runtime!r}; have {', '.join(RUNTIMES)}")
    return RUNTIMES[runtime]
