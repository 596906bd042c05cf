"""What scripts of your own import: `sixfold.load(FOLDER)` gives a compressed network back, for your own training and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load"]

FOLDERS = (
    "Name a folder of models/best as `sixfold report` writes it, models/teacher, or the folder of a cell's `node` in the store, "
    "nodes/<its first two letters>/<node>."
)
"""Which folders have a network, in words."""


def load(folder: str | Path) -> nn.Module:
    """The network of a detector that sixfold made, as it was trained: edits applied, in evaluation mode, on the CPU.

    Of a module of yours it is what your `build` returned, without anything of sixfold's around it: feed and decode it as before.
    Its classes are those of the code that travelled with the detector, not those that your script imports. Of our own family it
    takes images (B, 3, height, width) in [0, 1]. int8 and float16 files are made from a float network, and that is what comes back.

    `folder` is one of models/best, models/teacher, or of a node in a store. InputError where it has no network: detectors that are
    ONNX files have none.
    """
    from detection import checkpoint  # torch with it, which an import of this package need not wait for
    from detection.frozen import InputError

    path = Path(folder)
    if missing := [name for name in (checkpoint.SPEC_FILE, checkpoint.WEIGHTS_FILE) if not (path / name).is_file()]:
        raise InputError(f"{path}: no {' and no '.join(missing)} here, so no network. {FOLDERS} ONNX files have none to give back.")
    detector = checkpoint.load(path)
    family = detector.family
    if family.write is not None:
        raise InputError(f"{path}: the detector is an ONNX file, which has no torch network to give back. Use the file itself.")
    network = detector.network()
    return network if family.unwrapped is None else family.unwrapped(network)
