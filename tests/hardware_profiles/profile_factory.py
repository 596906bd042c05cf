"""Profile files made up for tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from hardware_profiles.schema.profile import numbers_of

TREE: dict[str, Any] = {
    "schema": 2,
    "id": "board",
    "name": "a board",
    "device_class": "arm_cpu",
    "kind": "device",
    "machine": "aarch64",
    "runtime": "onnxruntime",
    "threads": 4,
    "dtypes": ["fp32", "int8"],
    "float_dtype": "fp32",
    "peak_gops": {"fp32": 100, "fp16": None, "int8": 400},
    "utilisation": {"fp32": 0.5, "fp16": None, "int8": 0.25},
    "channel_alignment": {"fp32": 4, "int8": 4},
    "memory": {"bandwidth_theoretical_gbs": 20, "bandwidth_effective_gbs": 10},
    "op_overhead_us": {"fp32": 6, "int8": 8},
    "interval_factor": {"fp32": 2, "int8": 3},
}
INT8_ALONE: dict[str, Any] = {
    "device_class": "edge_npu",
    "runtime": "edgetpu",
    "dtypes": ["int8"],
    "float_dtype": None,
    "peak_gops": {"int8": 4000},
    "utilisation": {"int8": 0.1},
    "interval_factor": {"int8": 3},
}
"""What makes an accelerator of the tree above that takes int8 alone."""


def tree(**changes: Any) -> dict[str, Any]:
    """A valid profile with top-level fields changed, and a source for every number unless `sources` are among the changes."""
    changed = copy.deepcopy(TREE) | changes
    numbers = [name for name in numbers_of(changed) if name != "schema"]
    return {"sources": dict.fromkeys(numbers, "chosen: for this test")} | changed


def write(folder: Path, name: str = "board", **changes: Any) -> Path:
    """The profile as a file of that name."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree(**{"id": name} | changes)))
    return path
