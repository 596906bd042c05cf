"""What a joined device does: it says what it is, times the same round as the machine at home, and leaves nothing behind."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.measure.devices.ray_worker import Answer, Arrival, clean_up, time_round, unpack
from hardware_profiles.timing.environment import environment
from hardware_profiles.timing.round import File, Job
from tests.flows.device_factory import PLAN
from tests.hardware_profiles.tiny_model import write_model
from tests.places import ROOT


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, bytes]:
    """What is sent: one model and the pictures."""
    packed = io.BytesIO()
    np.savez(packed, *PLAN.pictures)
    return {"models/a/model.onnx": write_model(tmp_path / "a.onnx").read_bytes(), "pictures.npz": packed.getvalue()}


def arrive(contents: dict[str, bytes], machine: str | None = None, runtime: str = "onnxruntime", threads: int = 1) -> Arrival:
    """On a device like this machine."""
    return Arrival.model_validate_json(unpack(contents, machine or environment()["machine"], runtime, threads))


def job(path: str = "models/a/model.onnx") -> str:
    """A round as it is sent: relative paths, no cores."""
    asked = Job(runtime="onnxruntime", threads=1, cores=None, files=(File(digest="a", path=path),), order_seed=0,
                protocol=PLAN.protocol, pictures="pictures.npz", settings=PLAN.settings, result="result.json")  # fmt: skip
    return asked.model_dump_json()


def test_a_round_is_timed_in_a_fresh_process_and_cleaned_up(contents: dict[str, bytes]) -> None:
    """From bytes to a block with all numbers, end to end included; afterwards the folder is gone."""
    arrival = arrive(contents)
    assert (arrival.obstacle, arrival.environment) == (None, environment())
    assert arrival.folder is not None
    answer = Answer.model_validate_json(time_round(job(), arrival.folder, 120.0))
    assert answer.result is not None, answer.error
    (block,) = answer.result.blocks
    assert (block.digest, block.error) == ("a", None)
    assert block.p50_s is not None
    assert block.end_to_end_p50_s is not None
    assert 0 < block.p50_s < block.end_to_end_p50_s
    assert clean_up(arrival.folder) == arrival.folder
    assert not Path(arrival.folder).exists()


def test_a_round_that_dies_is_told_in_words(contents: dict[str, bytes]) -> None:
    """The reason travels as text; the device stays usable."""
    arrival = arrive(contents)
    assert arrival.folder is not None
    (Path(arrival.folder) / "pictures.npz").unlink()
    answer = Answer.model_validate_json(time_round(job(), arrival.folder, 120.0))
    clean_up(arrival.folder)
    assert answer.result is None
    assert answer.error is not None
    assert answer.error.startswith("a round's process ended with exit code 1: ")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"machine": "vax"}, "the profile is for vax; label the right machine, or correct the profile"),
        ({"runtime": "ncnn"}, "on the device: no runtime 'ncnn'"),
        ({"threads": 4096}, "on the device: 4096 threads need as many cores"),
    ],
)
def test_a_device_that_cannot_says_why(asked: dict[str, object], why: str, contents: dict[str, bytes]) -> None:
    """Another machine, no such runtime, too few cores: found out there, before anything is written."""
    arrival = arrive(contents, **asked)
    assert arrival.folder is None
    assert why in (arrival.obstacle or "")


def test_a_device_needs_little(tmp_path: Path) -> None:
    """What runs there loads numpy, pydantic and, in a round, OpenCV and the runtime: no torch, no Ray, no MLflow, no scipy."""
    imports = "import flows.measure.devices.ray_worker, flows.measure.worker, sys"
    code = f"{imports}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert not {"torch", "ray", "mlflow", "scipy", "hotcoco", "onnx"} & set(done.stdout.split())
