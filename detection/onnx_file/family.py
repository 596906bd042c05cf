"""A user's ONNX file as a detector family: nothing of it can be trained or narrowed, so what applies is quantization alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn

from detection.family import Capability, Family
from detection.file_interface.interface import FileInterface
from detection.frozen import Digest, Frozen, InputError, PositiveInt
from detection.operators import OperatorCost
from detection.spec import Spec

BYTES = "file"
"""Name of the only weight: the file as a tensor of bytes, so that it is kept, copied and digested as weights are."""
FIXED = "an ONNX file is a finished network without its training code; bring the torch module for this."
CANNOT: Mapping[Capability, str] = {
    "training": FIXED,
    "lightweight": FIXED,
    "nas": FIXED,
    "pruning": FIXED,
    "low_rank": FIXED,
    "distillation": FIXED,
    "qat": FIXED,
    "narrow": FIXED,
    "smaller_input": "the size of its input is part of an ONNX file.",
}


class OnnxSettings(Frozen):
    """What is known of a detector that is a file."""

    source: Digest
    """sha256 of the file as the user gave it."""
    changes: tuple[str, ...] = ()
    """What was changed in it so that every runtime opens it, in sentences; empty: it is the user's own, byte by byte."""
    size_bytes: PositiveInt
    interface: FileInterface
    params: NonNegativeInt
    macs: NonNegativeInt
    """0 where its graph holds what nobody can count, such as a suppression inside."""


class OnnxModule(nn.Module):
    """The file as a torch module that says what the file says, in ONNX Runtime, and has no gradients."""

    file: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        settings = cast(OnnxSettings, spec.settings)
        self.interface, self.input_size = settings.interface, spec.input_size
        self.register_buffer(BYTES, torch.zeros(settings.size_bytes, dtype=torch.uint8))
        self._session: Any = None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4) xyxy in pixels and scores (B, N, C) of images (B, 3, height, width) in [0, 1]."""
        pictures = (images.detach().cpu() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        boxes, scores = zip(*(self._seen(picture) for picture in pictures), strict=True)
        return torch.from_numpy(np.concatenate(boxes)), torch.from_numpy(np.concatenate(scores))

    def _seen(self, picture: Any) -> tuple[Any, Any]:
        import onnxruntime

        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(self.file.numpy().tobytes(), options, providers=["CPUExecutionProvider"])
        (given,) = self._session.get_inputs()
        outputs = self._session.run(self.interface.outputs, {given.name: self.interface.tensor(picture)})
        return self.interface.boxes_and_scores(outputs, self.input_size)


def _settings(spec: Spec) -> OnnxSettings:
    return cast(OnnxSettings, spec.settings)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise InputError(f"not applicable to this detector: {FIXED}")


def _start(spec: Spec, seed: int) -> NoReturn:
    raise InputError(f"the file {_settings(spec).source[:12]} is not in the store. Run `sixfold teacher` where the file is.")


def _costs(spec: Spec) -> tuple[OperatorCost, ...]:
    """One entry for all of the file, as its graph was counted when it was read."""
    settings = _settings(spec)
    height_px, width_px = spec.input_size
    return (
        OperatorCost(
            name="file", kind="other", op_type="Model", macs=settings.macs, input_elements=3 * height_px * width_px,
            output_elements=0, weight_elements=settings.params, input_channels=3, output_channels=0,
        ),
    )  # fmt: skip


def from_file(content: bytes) -> dict[str, Tensor]:
    """The weights of a detector that is this file."""
    return {BYTES: torch.from_numpy(np.frombuffer(content, np.uint8).copy())}


def write(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the file as it was given, or as it was repaired."""
    path.write_bytes(weights[BYTES].numpy().tobytes())


FAMILY = Family(
    name="onnx",
    settings=OnnxSettings,
    cannot=lambda _spec: CANNOT,
    label=lambda settings: cast(OnnxSettings, settings).source[:8],
    stride_px=lambda _settings: 1,
    build=OnnxModule,
    start=_start,
    learn=_refuse,
    raw=lambda network, images: network(images),
    decode=lambda _network, raw: raw,
    points=_refuse,
    targets=_refuse,
    refuse_teacher=_refuse,
    exported=_refuse,
    select=lambda spec: _settings(spec).interface.decoding.select,
    protected=lambda _network: (),
    scalar=_refuse,
    costs=_costs,
    write=write,
    from_file=from_file,
    interface=lambda spec: _settings(spec).interface,
)
