"""Sessions: every runtime computes what the file says, in float32, and explains what it cannot open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import RUNTIMES, SessionError, open_session, runtime_version
from tests.hardware_profiles.tiny_model import INPUT_SIZE, expected, write_model
from tests.places import ROOT

EVERY_RUNTIME = pytest.mark.parametrize("runtime", RUNTIMES)
PIXELS = np.random.default_rng(1).integers(0, 256, (1, *INPUT_SIZE, 3), dtype=np.uint8)


def write(runtime: str, path: Path, **changes: Any) -> Path:
    """The tiny model as a file that the runtime opens."""
    exported, pack = write_model(path, **changes), RUNTIMES[runtime].pack
    return exported if pack is None else pack(exported, path.parent)


@EVERY_RUNTIME
def test_every_runtime_computes_the_same(runtime: str, tmp_path: Path) -> None:
    """Boxes and scores are those of the same arithmetic in numpy, to float32 precision; bf16 would be off by 1e-2."""
    session = open_session(runtime, write(runtime, tmp_path / "model.onnx"), threads=1)
    boxes, scores = session(PIXELS)
    assert session.input_size == INPUT_SIZE
    for got, wanted in zip((boxes, scores), expected(PIXELS), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@EVERY_RUNTIME
def test_results_outlive_the_next_call(runtime: str, tmp_path: Path) -> None:
    """What a call returned does not change when the session is called again."""
    session = open_session(runtime, write(runtime, tmp_path / "model.onnx"), threads=1)
    boxes, scores = session(PIXELS)
    before = boxes.copy(), scores.copy()
    session(255 - PIXELS)
    np.testing.assert_array_equal(boxes, before[0])
    np.testing.assert_array_equal(scores, before[1])


@EVERY_RUNTIME
def test_a_blank_picture_is_what_the_file_takes(runtime: str, tmp_path: Path) -> None:
    """Black, in the file's own layout: of bias alone the model makes its boxes, whichever layout it takes."""
    for planes, taken in ((False, ((1, *INPUT_SIZE, 3), np.uint8)), (True, ((1, 3, *INPUT_SIZE), np.float32))):
        session = open_session(runtime, write(runtime, tmp_path / f"{planes}.onnx", planes=planes), threads=1)
        blank = session.blank()
        assert (blank.shape, blank.dtype) == taken
        np.testing.assert_allclose(session(blank)[0], expected(np.zeros_like(PIXELS))[0], rtol=1e-6)


@EVERY_RUNTIME
def test_a_file_for_quantizers_takes_planes(runtime: str, tmp_path: Path) -> None:
    """Floats of 0 to 255 with channels first: the same size, and the same answer as the picture gets from the file to ship."""
    session = open_session(runtime, write(runtime, tmp_path / "planes.onnx", planes=True), threads=1)
    assert session.input_size == INPUT_SIZE
    planes = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2), dtype=np.float32)
    for got, wanted in zip(session(planes), expected(PIXELS), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("planes", [False, True])
@EVERY_RUNTIME
def test_the_other_layout_is_refused(runtime: str, planes: bool, tmp_path: Path) -> None:
    """Floats where bytes are due, or bytes where floats are: never converted without a word."""
    session = open_session(runtime, write(runtime, tmp_path / "model.onnx", planes=planes), threads=1)
    other = np.uint8 if planes else np.float32
    with pytest.raises(Exception, match=r"float|uint8"):
        session(session.blank().astype(other))


def test_openvino_keeps_its_hints(tmp_path: Path) -> None:
    """On CPUs with bf16 or AMX the default would be bf16; ours is float32, one stream, so many threads."""
    session = open_session("openvino", write_model(tmp_path / "model.onnx"), threads=1)
    compiled = session.compiled  # type: ignore[attr-defined]
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert str(compiled.get_property("NUM_STREAMS")) == "1"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    executed = {node.get_friendly_name(): node.get_rt_info() for node in compiled.get_runtime_model().get_ops()}
    precisions = {str(info["runtimePrecision"].astype(str)) for info in executed.values() if "runtimePrecision" in info}
    assert "bf16" not in precisions
    assert "f32" in precisions


def test_openvino_opens_its_own_format(tmp_path: Path) -> None:
    """An .xml with its .bin gives the same numbers as the .onnx it came from."""
    openvino = import_openvino()
    source = write_model(tmp_path / "model.onnx")
    openvino.save_model(openvino.Core().read_model(source), tmp_path / "model.xml", compress_to_fp16=False)
    from_xml, from_onnx = (open_session("openvino", tmp_path / f"model.{suffix}", 1)(PIXELS) for suffix in ("xml", "onnx"))
    np.testing.assert_allclose(from_xml[0], from_onnx[0], rtol=1e-6)


def test_openvino_reports_nothing_home(tmp_path: Path) -> None:
    """Importing openvino through us loads no telemetry, and leaves no client id in the home folder."""
    code = (
        "from hardware_profiles.runtimes.openvino.runtime import import_openvino; import_openvino(); import sys; "
        "sys.exit(sys.modules.get('openvino_telemetry') is not None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    assert not list(tmp_path.rglob("openvino_ga*"))


@EVERY_RUNTIME
def test_importing_this_module_loads_no_runtime(runtime: str) -> None:
    """A profile can be read in a process that never pays for a runtime."""
    code = f"import sys, hardware_profiles.timing.round; sys.exit({RUNTIMES[runtime].package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_versions_name_their_runtime() -> None:
    """Name and version in one string, as the records keep them."""
    import onnxruntime

    assert runtime_version("onnxruntime") == f"onnxruntime {onnxruntime.__version__}"


@EVERY_RUNTIME
def test_a_broken_file_is_explained(runtime: str, tmp_path: Path) -> None:
    """The message names the file and the runtime; no exception of the runtime's own escapes."""
    path = tmp_path / f"broken{RUNTIMES[runtime].suffixes[0]}"
    path.write_bytes(b"not a model")
    with pytest.raises(SessionError, match=rf"broken{path.suffix}: {runtime} cannot open it: "):
        open_session(runtime, path, threads=1)


@EVERY_RUNTIME
def test_a_file_that_takes_no_picture_is_explained(runtime: str, tmp_path: Path) -> None:
    """The input is checked when a file is opened, not when it is first called."""
    with pytest.raises(SessionError, match=r"shape \[1, 8, 12, 4\]; \(1, height, width, 3\)"):
        open_session(runtime, write(runtime, tmp_path / "channels.onnx", channels=4), threads=1)


@EVERY_RUNTIME
def test_a_users_file_keeps_its_names_and_order(runtime: str, tmp_path: Path) -> None:
    """Outputs by other names than ours come as the file has them: the scores first here, by the same arithmetic."""
    session = open_session(runtime, write(runtime, tmp_path / "theirs.onnx", picture="input.1", outputs=("cls", "reg")), threads=1)
    assert (session.input_name, session.output_names) == ("input.1", ("cls", "reg"))  # type: ignore[attr-defined]
    boxes, scores = expected(PIXELS)
    for got, wanted in zip(session(PIXELS), (scores, boxes), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("runtime", "name", "threads", "message"),
    [
        ("tensorrt", "model.onnx", 1, "no runtime 'tensorrt'; have onnxruntime, openvino"),
        ("onnxruntime", "absent.onnx", 1, "absent.onnx: no such file"),
        ("onnxruntime", "model.xml", 1, r"onnxruntime opens \.onnx, not \.xml"),
        ("onnxruntime", "model.onnx", 0, "threads is 0; at least 1"),
    ],
)
def test_wrong_requests_are_explained(runtime: str, name: str, threads: int, message: str, tmp_path: Path) -> None:
    """An unknown runtime, a missing file, a foreign suffix and no thread each have their message."""
    write_model(tmp_path / "model.onnx")
    (tmp_path / "model.xml").touch()
    with pytest.raises(SessionError, match=message):
        open_session(runtime, tmp_path / name, threads)
