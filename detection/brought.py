"""How a plan names a detector that its user brings: a folder with one of ours, or an ONNX file with how it is fed and read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from detection.file_interface.declaration import Decoding
from detection.file_interface.interface import PictureForm
from detection.frozen import Frozen, InputError


class CheckpointDetector(Frozen):
    """A trained detector of ours."""

    checkpoint: Path
    """A folder with `spec.json` and `weights.safetensors`, such as `models/teacher` of a sweep, relative to the params file."""

    def label(self) -> str:
        """The name of the folder."""
        return self.checkpoint.name


class OnnxDetector(Frozen):
    """A detector that is an ONNX file, and how it is fed and read."""

    onnx: Path
    """The file, relative to the params file."""
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | Path
    """Names in the order of the file's scores, or a text file with one in each line. The data's names are looked up among them."""
    input: PictureForm = PictureForm()
    """What becomes of pixels. Size, layout and type are read from the file; `data.resize` says how pictures come to that size."""
    takes_bytes: bool = False
    """Whether the files made take RGB bytes (1, height, width, 3), as decoders give them, and do inside what `input` says;
    otherwise they take what the user's takes."""
    decode: Decoding | str = "auto"
    """How outputs become boxes and scores: the name of a preset, or its parts. `auto` is what `sixfold inspect` finds on val."""

    def label(self) -> str:
        """The name of the file."""
        return self.onnx.stem

    def names(self, base: Path) -> tuple[str, ...]:
        """The classes in the order of the file's scores; InputError where their file cannot be read."""
        if not isinstance(self.classes, Path):
            return self.classes
        path = base / self.classes
        if not path.is_file():
            raise InputError(f"detector.classes: {path}: no such file. Name a text file with one class in each line, or list them.")
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


Brought = CheckpointDetector | OnnxDetector


def parse_brought(given: Any) -> Brought | None:
    """What a plan says of a detector that its user brings, told by the setting that names it; None where it names none.

    ValidationError where one is named and something else is wrong.
    """
    kinds: dict[str, type[Brought]] = {"checkpoint": CheckpointDetector, "onnx": OnnxDetector}
    if isinstance(given, Brought):
        return given
    kind = next((kind for name, kind in kinds.items() if isinstance(given, dict) and name in given), None)
    return None if kind is None else kind.model_validate(given)
