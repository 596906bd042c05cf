"""How a plan names a detector that its user brings: a folder with one of ours, an ONNX file and how it is fed, or code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue, model_validator

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


class ModuleDetector(Frozen):
    """A torch module of the user's own: the code that builds it, and its trained weights."""

    family_name: ClassVar[str] = "module"
    family: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """`package.module:name` of the object with its functions; modules are looked for from the folder of the params file on."""
    spec: dict[str, JsonValue] = Field(default_factory=dict)
    """What its `build` is given. `{file: PATH}` anywhere in it stands for a file, relative to the params file."""
    weights: Path | None = None
    """Its trained weights, safetensors or a state dict by torch.save, relative to the params file; null: `teacher.training` trains
    it from random ones."""
    classes: tuple[str, ...] = ()
    """Of trained weights: names in the order of their scores, which has to be the data's."""

    @model_validator(mode="after")
    def _weights_know_their_classes(self) -> ModuleDetector:
        if (self.weights is None) != (not self.classes):
            raise ValueError("weights and classes go together: trained weights predict classes in an order of their own. Name both")
        return self

    @property
    def as_it_is(self) -> bool:
        """Whether trained weights are compressed as they were brought."""
        return self.weights is not None

    def label(self) -> str:
        """As the plan names it."""
        return self.family


class TransformersDetector(Frozen):
    """A detector of the transformers library."""

    family_name: ClassVar[str] = "transformers"
    transformers: str
    """A folder that `save_pretrained` wrote, relative to the params file; or the name of one on a hub that can be reached."""
    train: bool = False
    """`false`: it is compressed as it is, so its classes have to include the data's. `true`: `teacher.training` begins with its
    weights, with class heads made anew where the data has other classes, and with random weights where the folder has none."""
    backbone_learning_rate: Annotated[float, Field(ge=0)] | None = None
    """The factor on the learning rate of its backbone; null: 0.1 for the folder's weights, 1 for random ones."""

    @property
    def as_it_is(self) -> bool:
        """Whether trained weights are compressed as they were brought."""
        return not self.train

    def label(self) -> str:
        """As the plan names it."""
        return self.transformers


NetworkDetector = ModuleDetector | TransformersDetector
"""What is built and trained here; each has `family_name`, of the family that reads it, `as_it_is` and `label`."""
Brought = CheckpointDetector | OnnxDetector
"""What may teach."""


def parse_detector(given: Any) -> Any:
    """What a plan's `detector` section holds, told by the setting that names it; what names none is left to be refused."""
    kinds: dict[str, type[OnnxDetector] | type[NetworkDetector]] = {
        "onnx": OnnxDetector,
        "family": ModuleDetector,
        "transformers": TransformersDetector,
    }
    if given is None or not isinstance(given, dict):
        return given
    found = [name for name in kinds if name in given]
    if len(found) != 1:
        named = f"{' and '.join(found)} are all named" if found else "nothing is named"
        raise ValueError(f"{named}; name one of onnx (a file), family (code) and transformers (a folder)")
    return kinds[found[0]].model_validate(given)


def parse_brought(given: Any) -> Brought | None:
    """What a plan says of a detector that its user brings, told by the setting that names it; None where it names none.

    ValidationError where one is named and something else is wrong.
    """
    kinds: dict[str, type[Brought]] = {"checkpoint": CheckpointDetector, "onnx": OnnxDetector}
    if isinstance(given, Brought):
        return given
    kind = next((kind for name, kind in kinds.items() if isinstance(given, dict) and name in given), None)
    return None if kind is None else kind.model_validate(given)
