"""Versions of the code that decides what a node makes, part of node keys: the store must not hand out what older code made.

Raise a number when its sources change what they make. A test holds digests of the sources and walks the imports of every method:
each file that it reaches belongs to a version here, or stands in `UNVERSIONED` with the reason.
"""

from __future__ import annotations

NODE_SCHEMA = 2
"""Of what a node key is made from."""

VERSIONS: dict[str, int] = {
    "lightweight": 2, "nas": 9, "pruning": 5, "low_rank": 2, "distillation": 3, "quantization": 9,
    "training": 3, "export": 3, "estimate": 4, "evaluation": 1, "references": 3,
}  # fmt: skip
"""The six methods, and what they work with: `training` makes every network, `export` writes the float file of every node but a
search, `estimate` is what a search keeps its budget by and what low_rank calls faster, `evaluation` scores what is chosen on val,
`references` makes networks narrower."""

SOURCES: dict[str, tuple[str, ...]] = {
    "lightweight": ("compressors/lightweight/*.py",),
    "nas": ("compressors/nas/*.py", "compressors/channels/*.py"),
    "pruning": ("compressors/pruning/*.py", "compressors/channels/*.py"),
    "low_rank": ("compressors/low_rank/*.py",),
    "distillation": ("compressors/distillation/*.py", "detection/file_interface/*.py"),
    "quantization": (
        "compressors/quantization/*.py",
        "detection/file_interface/*.py",
        "detection/model_file.py",
        "detection/tracing.py",
        "hardware_profiles/runtimes/ranges.py",
        "hardware_profiles/runtimes/onnx_*.py",
        "hardware_profiles/runtimes/writing.py",
        "hardware_profiles/runtimes/*/int8.py",
        "hardware_profiles/runtimes/*/shrink.py",
    ),
    "training": (
        "detection/boxes.py",
        "detection/checkpoint.py",
        "detection/costs.py",
        "detection/edits.py",
        "detection/families.py",
        "detection/family.py",
        "detection/operators.py",
        "detection/separable_fit.py",
        "detection/separated.py",
        "detection/spec.py",
        "detection/training.py",
        "detection/widths.py",
        "detection/compact/*.py",
        "detection/adapted/*.py",
        "detection/module/*.py",
        "detection/transformers/*.py",
        "detection/data/augmentation.py",
        "detection/data/dataset.py",
        "detection/data/pixel_files.py",
    ),
    "export": ("detection/export.py", "detection/compact/deployed.py", "detection/onnx_file/*.py"),
    "estimate": (
        "compressors/latency.py",
        "compressors/quantization/float_tail.py",
        "hardware_profiles/estimate/model.py",
        *(f"hardware_profiles/estimate/graph/{name}.py" for name in ("fusion", "layers", "onnx_file", "reading")),
        "hardware_profiles/runtimes/onnxruntime/graph.py",
        "hardware_profiles/runtimes/writing.py",
    ),
    "evaluation": (
        "detection/evaluation.py",
        "hardware_profiles/runtimes/interface.py",
        "hardware_profiles/runtimes/table.py",
        "hardware_profiles/runtimes/*/runtime.py",
    ),
    "references": ("compressors/planning/references.py", "compressors/channels/*.py"),
}
"""Files, as patterns relative to the checkout, that each version stands for."""

UNVERSIONED: dict[str, str] = {
    "compressors/contract.py": "types, counts for the record, and refusals of settings; what is accepted is in the keys",
    "compressors/ranking_check.py": "a record",
    "compressors/target.py": "a record",
    "detection/brought.py": "names of detectors, whose content is in the keys",
    "detection/file_interface/*.py": "how files are read; distillation and quantization, which do so, have it",
    "detection/frozen.py": "types",
    "hardware_profiles/estimate/graph/graph.py": "types of a graph that was read from a file",
    "hardware_profiles/runtimes/ranges.py": "types; the calibrators that fill them belong to quantization",
    "hardware_profiles/schema/*.py": "a profile's content is in the keys of all that read it",
}
"""What methods reach and no version stands for -> why a change of it changes no result."""
