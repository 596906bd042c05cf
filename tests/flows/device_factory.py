"""A device profile of this machine's kind, two tiny models, and what `measure` would ask for; for the tests of devices."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from flows.measure.devices.bundle import export
from flows.measure.session import MeasureSession
from flows.records.schema import CellsFile
from flows.records.store import Store
from flows.sweep.settings import Measure
from hardware_profiles.schema.library import FOLDER, load_profile
from hardware_profiles.schema.profile import HardwareProfile
from hardware_profiles.timing.environment import digest_of
from hardware_profiles.timing.round import File
from tests.flows.latency_factory import record, sweep, three_pictures
from tests.hardware_profiles.tiny_model import write_model

NAME = "toy-device"
CONFIG = Measure(
    profiles=(NAME,), rounds=3, warmup_calls=1, warmup_s=0.0, timed_calls=5, end_to_end_calls=2, most_repeats=0,
    contention_wait_s=0.0, pictures=2,
)  # fmt: skip
PICTURES = tuple(np.full((24, 20, 3), value, np.uint8) for value in (10, 230))


def device_profile(folder: Path, **changes: str) -> HardwareProfile:
    """Loaded from a file in the folder: the shipped ONNX Runtime profile, as that of another machine like this one."""
    text = (FOLDER / "x86-onnxruntime-1t.yaml").read_text()
    lines = {"id": NAME, "kind": "device", "machine": platform.machine(), **changes}
    for field, value in lines.items():
        own = next(line for line in text.splitlines() if line.startswith(f"{field}: "))
        text = text.replace(f"\n{own}\n", f"\n{field}: {value}\n")
    (folder / f"{lines['id']}.yaml").write_text(text)
    return load_profile(lines["id"], folder)


def two_cells(folder: Path, control_seed: int = 0, pruned_seed: int = 7) -> CellsFile:
    """A control and a pruned cell with a file each, and a low-rank cell that shares the control's."""
    control = {"onnxruntime": write_model(folder / "none.onnx", control_seed)}
    pruned = {"onnxruntime": write_model(folder / "pruning.onnx", pruned_seed)}
    return sweep(record("none", control), record("pruning", pruned), record("low_rank", control))


def files_of(cells: CellsFile) -> tuple[File, ...]:
    """The distinct files, for a device's rounds."""
    found = {cell.artifacts["onnxruntime"].digest: cell.artifacts["onnxruntime"].url for cell in cells.cells}
    return tuple(File(digest=digest, path=url) for digest, url in sorted(found.items()))


def session_of(folder: Path, cells: CellsFile) -> MeasureSession:
    """With a store in the folder, the dark and the light one of three pictures, and the profiles of the folder."""
    return MeasureSession(Store(folder), cells, three_pictures(), CONFIG, folder)


def exported(folder: Path) -> Path:
    """A folder to carry to the device; what the store keeps of it lies under `observations`."""
    folder.mkdir(parents=True, exist_ok=True)
    profile = device_profile(folder)
    (target,) = export(session_of(folder, two_cells(folder)), [profile], folder / "carried")
    return target


def faked_results(carried: Path, call_ns: int = 1_000_000) -> dict[str, Any]:
    """What the script would write, with invented times: call k of every block takes call_ns * (k + 1), the first model twice that.

    Nothing runs, so this is quick; that the real script writes the same form is tested where it runs.
    """
    manifest = json.loads((carried / "manifest.json").read_text())
    calls = manifest["protocol"]["timed_calls"]
    rounds = []
    for seed in manifest["order_seeds"]:
        blocks = []
        for position, digest in enumerate(manifest["models"]):
            calls_ns = [call_ns * (k + 1) * (2 if position == 0 else 1) for k in range(calls)]
            times = {"load_ns": 5_000_000, "first_ns": 4_000_000, "calls_ns": calls_ns, "used_ns": sum(calls_ns), "steal_s": None,
                     "timed_s": sum(calls_ns) * 1e-9, "repeats": 0, "held_bytes": 30_000_000 + position,
                     "peak_bytes": 31_000_000 + position}  # fmt: skip
            blocks.append({"digest": digest, "position": position, "error": None, "times": times})
        rounds.append({"order_seed": seed, "runtime_rss_bytes": 29_000_000, "blocks": blocks})
    environment = {"cpu": "Toy A1", "machine": manifest["machine"], "versions": {"onnxruntime": "1.20.0"}}
    return signed(
        {
            "schema": 1,
            "profile": manifest["profile"],
            "manifest": digest_of(manifest),
            "environment": environment,
            "started_at": "2026-01-02T03:04:05Z",
            "files": {name: hashlib.sha256((carried / name).read_bytes()).hexdigest() for name in manifest["files"]},
            "rounds": rounds,
        }
    )


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the digest that belongs to it."""
    bare = {name: value for name, value in content.items() if name != "digest"}
    return bare | {"digest": digest_of(bare)}
