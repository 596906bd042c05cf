"""Measurements of a user's own, read line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware_profiles.estimate.fit.measurements import MeasurementError, read_measurements
from hardware_profiles.estimate.graph.reading import read_operators
from tests.hardware_profiles.graph_factory import write_int8
from tests.hardware_profiles.tiny_model import write_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two exported files, one of them int8."""
    write_model(tmp_path / "float.onnx")
    write_int8(tmp_path / "int8.onnx")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "times.csv"
    path.write_text(text)
    return path


def test_a_line_is_a_measured_network(folder: Path) -> None:
    """Milliseconds become seconds; files are found beside the CSV; what is optional may be empty."""
    heading = "model, dtype, latency_ms, family, threads, runtime_version\n"
    found = read_measurements(write(folder, heading + "float.onnx,fp32,2.5,plain,4,1.31.1\nint8.onnx,int8,1,,,\n"))
    assert [(own.name, own.dtype, own.latency_s) for own in found] == [("float.onnx", "fp32", 0.0025), ("int8.onnx", "int8", 0.001)]
    assert (found[0].family, found[0].threads, found[0].runtime_version) == ("plain", 4, "1.31.1")
    assert (found[1].family, found[1].threads, found[1].runtime_version, found[1].origin) == (None, None, None, "times.csv")
    assert found[0].operators == read_operators(folder / "float.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,latency_ms\nfloat.onnx,1\n", "line 1: no column dtype; needed: model, dtype, latency_ms"),
        ("model,dtype,latency_ms,colour\n", "line 1: unknown column colour; allowed: model"),
        ("model,dtype,latency_ms\n", "no measurements below the heading"),
        ("model,dtype,latency_ms\nfloat.onnx,fp32,1\nfloat.onnx,fp64,1\n", "line 3: dtype is 'fp64'; allowed: fp32, fp16, int8"),
        ("model,dtype,latency_ms\nfloat.onnx,fp32,0\n", "line 2: latency_ms is '0'; a number above 0"),
        ("model,dtype,latency_ms\nfloat.onnx,fp32,fast\n", "line 2: latency_ms is 'fast'"),
        ("model,dtype,latency_ms,threads\nfloat.onnx,fp32,1,many\n", "line 2: threads is 'many'"),
        ("model,dtype,latency_ms\nfloat.onnx,,1\n", "line 2: dtype is empty"),
        ("model,dtype,latency_ms\nfloat.onnx,fp32\n", "line 2: latency_ms is empty"),
        ("model,dtype,latency_ms\nabsent.onnx,fp32,1\n", "line 2: .*absent.onnx: no such file"),
        ("model,dtype,latency_ms\nint8.onnx,fp32,1\n", "line 2: dtype is fp32, but int8.onnx is an int8 file"),
        ("model,dtype,latency_ms\nfloat.onnx,int8,1\n", "line 2: dtype is int8, but float.onnx is a float file"),
        (
            "model,dtype,latency_ms,runtime_version\nfloat.onnx,fp32,1,1.30\nfloat.onnx,fp32,1,1.31\n",
            "times of 1.30, 1.31; one fit",
        ),
        (
            "model,dtype,latency_ms,cpu\nfloat.onnx,fp32,1,old\nfloat.onnx,fp32,1,new\n",
            r"times of different processors \(new, old\)",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder: Path, text: str, message: str) -> None:
    """The file, the line, what was found and what is allowed."""
    with pytest.raises(MeasurementError, match=f"times.csv.*{message}"):
        read_measurements(write(folder, text))


def test_a_missing_file_says_what_is_wanted(tmp_path: Path) -> None:
    """No traceback of the file system."""
    with pytest.raises(MeasurementError, match=r"absent\.csv: cannot be read.*columns model, dtype, latency_ms"):
        read_measurements(tmp_path / "absent.csv")
