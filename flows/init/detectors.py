"""How a plan names the detector that its user has, and the classes of its scores."""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path

import onnx

from detection.brought import OnnxDetector
from detection.checkpoint import load
from detection.frozen import InputError
from flows.init.looked_at import LookedAt, relative
from flows.init.settings import Brought, Setting, flow, input_size
from hardware_profiles.estimate.graph.graph import GraphError
from hardware_profiles.runtimes.onnx_repair import repair


def brought(detector: Path, looked: LookedAt, base: Path) -> Brought:
    """How a plan in the folder `base` takes a detector; InputError or GraphError where it is none."""
    own, classes = flow(relative(detector, base)), looked.labelled.classes
    if detector.is_dir():
        spec = load(detector).spec
        if spec.classes == classes:
            return Brought((Setting("teacher.checkpoint", own, "trained for these classes, in this order"),), spec.input_size)
        return Brought((Setting("teacher.start_from", own, f"trained for other classes: {', '.join(spec.classes)}"),))
    if not detector.is_file():
        raise InputError(f"{detector}: no such file or folder. --detector is an ONNX file, or a folder with a detector of ours.")
    with tempfile.TemporaryDirectory(prefix="sixfold-init-") as folder:
        whole = Path(folder) / "whole.onnx"
        try:
            signature, why = repair(detector, whole, None).signature, "an ONNX file with its size in it"
        except GraphError:  # its sides are open; or it is no such file, which is told now
            signature, why = repair(detector, whole, input_size(looked)[0]).signature, "an ONNX file for pictures of any size"
    colour = (Setting("detector.input", "{colour: grey}", "the file takes one channel"),) if signature.channels == 1 else ()
    decode = "`sixfold inspect --params PLAN --write` finds it on labelled pictures, and how the file is fed"
    named = (Setting("detector.onnx", own, why), _file_classes(detector, classes, base))
    return Brought((*named, *colour, Setting("detector.decode", "auto", decode)), signature.input_size, is_file=True)


def _file_classes(detector: Path, classes: tuple[str, ...], base: Path) -> Setting:
    """The classes in the order of the file's scores: as the file says or a list next to it, else the data's."""
    lists = [path for name in ("classes.txt", f"{detector.stem}.txt") if (path := detector.with_name(name)).is_file()]
    if names := _names_inside(detector):
        value, whence = flow(list(names)), "the file"
    elif lists:
        value, whence = flow(relative(lists[0], base)), lists[0].name
        names = OnnxDetector(onnx=detector, classes=lists[0]).names(Path())
    else:
        return Setting("detector.classes", flow(list(classes)), "the data's; put them into the order of the file's scores")
    others = [name for name in classes if name not in names]
    if not others:
        return Setting("detector.classes", value, f"in the order of the file's scores, by {whence}")
    if _one_order(names, classes):
        spelt = ", ".join(f"{own} for {name}" for own, name in zip(names, classes, strict=True) if own != name)
        return Setting("detector.classes", flow(list(classes)), f"the data's, in the order of {whence}, which has {spelt}")
    return Setting("detector.classes", value, f"by {whence}, where the data's {', '.join(others)} are not: name them alike")


def _one_order(names: tuple[str, ...], classes: tuple[str, ...]) -> bool:
    """Whether two lists may be the same classes spelt in two ways: most are equal, and those in the same places."""
    common = [own == name for own, name in zip(names, classes, strict=False) if own in classes or name in names]
    return len(names) == len(classes) and all(common) and 2 * len(common) > len(names)


def _names_inside(detector: Path) -> tuple[str, ...]:
    """The classes in a file of Ultralytics, which keeps them as number: name; none in others."""
    notes = {own.key: own.value for own in onnx.load(detector, load_external_data=False).metadata_props}
    try:
        names = ast.literal_eval(notes.get("names", ""))
    except (ValueError, SyntaxError):
        return ()
    return tuple(str(names[number]) for number in sorted(names)) if isinstance(names, dict) else ()
