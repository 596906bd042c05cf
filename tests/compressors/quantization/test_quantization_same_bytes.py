"""Equal work gives equal bytes, whatever the process did before: a nightly gate compares digests and sizes of files."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compressors.quantization import Quantization, quantize
from detection import checkpoint
from detection.checkpoint import Detector
from detection.data.dataset import Images, load_split
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import RUNTIMES
from tests.compressors.quantization.test_fake_quantize import lively
from tests.places import ROOT

CONFIGS = {"int8": Quantization(pictures=8, calibrator="minmax"), "float16": Quantization(precision="float16")}


def digests(detector: Detector, train: Images, val: Images, folder: Path, runtimes: Iterable[str]) -> dict[str, str]:
    """Of every file of every runtime and precision, made afresh under the folder."""
    found = {}
    for runtime in runtimes:
        for name, config in CONFIGS.items():
            own = folder / runtime / name
            own.mkdir(parents=True)
            quantize(detector, config, runtime, train, val, 0, own)
            found |= {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in own.iterdir()}
    return found


def in_another_process(detector: Detector, prepared: Path, folder: Path) -> dict[str, str]:
    """The same from a process that did nothing before, the runtimes in the opposite order."""
    folder.mkdir()
    checkpoint.save(detector, folder)
    code = f"""
import json
from pathlib import Path
from detection import checkpoint
from detection.data.dataset import load_split
from hardware_profiles.runtimes.openvino.runtime import import_openvino
from hardware_profiles.runtimes.table import RUNTIMES
from tests.compressors.quantization.test_quantization_same_bytes import digests
train, val = (load_split(Path({str(prepared)!r}), split) for split in ("train", "val"))
detector = checkpoint.load(Path({str(folder)!r}))
print(json.dumps(digests(detector, train, val, Path({str(folder / "files")!r}), reversed(RUNTIMES))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def work_of_others() -> None:
    """Move every counter of the process that names could carry: some operators and models of OpenVINO."""
    openvino = import_openvino()
    ops = importlib.import_module("openvino.opset13")
    for _ in range(7):
        picture = ops.parameter([1, 3], np.float32)
        openvino.Model([ops.relu(picture)], [picture])


def test_equal_work_gives_equal_bytes(tiny_detector: Detector, tiny_prepared: Path, tmp_path: Path) -> None:
    """In a process after other work, and in one that did nothing before: int8 and float16 of every runtime."""
    detector = lively(tiny_detector)
    train, val = (load_split(tiny_prepared, split) for split in ("train", "val"))
    work_of_others()
    here = digests(detector, train, val, tmp_path / "here", RUNTIMES)
    assert len(here) == 2 * (1 + 2), "one ONNX file, and a pair of OpenVINO's, for each precision"
    assert in_another_process(detector, tiny_prepared, tmp_path / "elsewhere") == here
